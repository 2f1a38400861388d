"""Run the tool calls of one step concurrently, and pass their results to the model."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from ..errors import ProviderError
from .provider import ModelMessage
from .steps import (
    ApprovalNeeded,
    Decision,
    PendingCall,
    Resumption,
    ToolFinished,
    ToolProgress,
    ToolStarted,
)
from .toolbox import Toolbox, parse_arguments
from .tools import ToolContext

#: Maximum number of tool calls in one step. A confused model writes hundreds.
MAX_CALLS_PER_STEP = 32

#: Maximum size of a call of a caller's tool, in bytes. Its event must fit into one line.
_MAX_CALLER_BYTES = 120_000

#: Minimum seconds between two progress reports of one call, and maximum length of their text.
_REPORT_PAUSE_S = 1.0
_MAX_REPORT_CHARS = 500

#: Result for the model of a call that was lost with its worker.
OUTCOME_UNKNOWN = (
    "error: the server stopped during this call, and it is unknown whether the call took effect. "
    "It was not repeated. Check before you call the tool again, or ask the user."
)


@dataclass(slots=True)
class Call:
    """A tool call that arrives in pieces."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class StepCalls:
    """The calls of one step.

    :param shown: Ids of the calls that clients have seen, or None if the calls are new.
    :param pending: Ids of calls that a person must approve and that have not begun.
    """

    calls: list[Call]
    results: Mapping[str, str] = field(default_factory=dict)
    shown: Collection[str] | None = None
    pending: Sequence[str] = ()
    decisions: Mapping[str, Decision] = field(default_factory=dict)


def run_calls(
    step: StepCalls,
    conversation: list[ModelMessage],
    toolbox: Toolbox,
    context: ToolContext,
    show: Callable[[], list[dict[str, Any]]],
) -> Generator[ToolStarted | ToolFinished | ToolProgress | ApprovalNeeded, None, bool]:
    """Run one step's calls without results; add all results to the conversation.

    :returns: False if a person must decide first.
    """
    results = dict(step.results)
    for call in step.calls:
        if call.id not in (step.shown or ()):
            yield ToolStarted(call.id, call.name, _shown_arguments(call.arguments), time.time())
    for call_id, result in _list_known(step, toolbox):
        results[call_id] = result
        yield ToolFinished(call_id, result, time.time())
    left = [call for call in step.calls if call.id not in results]
    undecided = [one for one in left if one.id in step.pending and one.id not in step.decisions]
    calls = [_apply(step.decisions.get(one.id), one) for one in left if one not in undecided]
    for event in _run_concurrently(calls, toolbox, context):
        if isinstance(event, ToolProgress):
            yield event
            continue
        changed = step.decisions.get(event.id)
        if changed is not None and changed.arguments:
            event = replace(event, result=f"{_CHANGED}{changed.arguments}\n{event.result}")
        results[event.id] = event.result
        yield event
    if undecided:
        yield ApprovalNeeded(
            [PendingCall(one.id, one.name, _shown_arguments(one.arguments)) for one in undecided]
        )
        return False
    conversation.extend(
        {"role": "tool", "tool_call_id": call.id, "content": results[call.id]}
        for call in step.calls
    )
    shown = show()
    if shown:
        conversation.append({"role": "user", "content": shown})
    return True


def _list_known(step: StepCalls, toolbox: Toolbox) -> Iterator[tuple[str, str]]:
    """Yield results of calls that do not run: rejected and lost ones."""
    for call in step.calls:
        decision = step.decisions.get(call.id)
        if call.id in step.results:
            continue
        if decision is not None:
            if not decision.approved:
                why = f": {decision.comment}" if decision.comment else ""
                yield call.id, f"error: this call was rejected{why}. It was not made."
        elif step.shown is None or call.id in step.pending or toolbox.may_repeat(call.name):
            continue
        else:
            yield call.id, OUTCOME_UNKNOWN


def _apply(decision: Decision | None, call: Call) -> Call:
    """Return a call with its approved arguments."""
    if decision is None or not decision.arguments:
        return call
    return replace(call, arguments=decision.arguments)


#: Prefix of the result of a call whose arguments a person changed.
_CHANGED = "A person approved this call with other arguments: "


def read_calls(message: ModelMessage) -> list[Call]:
    """Return the calls of a stored answer."""
    return [
        Call(one["id"], one["function"]["name"], one["function"]["arguments"])
        for one in message["tool_calls"]
    ]


def count_earlier_calls(toolbox: Toolbox, resume: Resumption) -> None:
    """Count the earlier calls of the turn in the toolbox."""
    results = {
        one["tool_call_id"]: one["content"] for one in resume.messages if one["role"] == "tool"
    } | dict(resume.results)
    for message in resume.messages:
        toolbox.budget.begin_step()
        for call in read_calls(message) if "tool_calls" in message else ():
            if call.id in results:
                toolbox.count_earlier_call(call.name, call.arguments, results[call.id])


def to_caller_event(call: Call) -> ToolStarted:
    """Return a call in the form for its caller.

    :raises ProviderError: if its arguments are too long.
    """
    args = _shown_arguments(call.arguments)
    size_bytes = len(orjson.dumps(orjson.dumps(args).decode()))
    if size_bytes > _MAX_CALLER_BYTES:
        raise ProviderError(f"The model called {call.name} with {size_bytes} bytes of arguments.")
    return ToolStarted(call.id, call.name, args, time.time(), by_caller=True)


class ProgressReporter:
    """Implements ``context.report_progress(progress, total, message)`` of a tool.

    :param put: Receives the events. Reports that follow too fast, or after the call, are dropped.
    """

    def __init__(self, call_id: str, put: Callable[[ToolProgress], None]) -> None:
        self._call_id = call_id
        self._put = put
        self._soonest = 0.0

    def __call__(self, progress: float, total: float | None = None, message: str = "") -> None:
        now = time.monotonic()
        if now < self._soonest or not math.isfinite(progress):
            return
        self._soonest = now + _REPORT_PAUSE_S
        known = total if total is not None and math.isfinite(total) else None
        self._put(ToolProgress(self._call_id, progress, known, message[:_MAX_REPORT_CHARS]))

    def close(self) -> None:
        """Ignore further reports, since the call has ended."""
        self._soonest = math.inf


def _run_concurrently(
    calls: list[Call], toolbox: Toolbox, context: ToolContext
) -> Iterator[ToolFinished | ToolProgress]:
    """Run the calls of one step concurrently; yield progress and results.

    Only calls of one sequence wait for each other.
    """
    calls, refused = calls[:MAX_CALLS_PER_STEP], calls[MAX_CALLS_PER_STEP:]
    for call in refused:
        result = f"error: at most {MAX_CALLS_PER_STEP} calls are allowed in one step"
        yield ToolFinished(call.id, result, time.time())
    done: queue.SimpleQueue[ToolFinished | ToolProgress | BaseException] = queue.SimpleQueue()

    ended = [threading.Event() for _ in calls]

    def work(at: int, call: Call) -> None:
        reporter = ProgressReporter(call.id, done.put)
        own = replace(context, report_progress=reporter)
        try:
            for earlier in range(at):
                if toolbox.must_wait(call.name, calls[earlier].name):
                    ended[earlier].wait()
            context.cancel.raise_if_cancelled()
            result = toolbox.run(call.name, call.arguments, own, call.id)
            outcome: ToolFinished | BaseException = ToolFinished(call.id, result, time.time())
        except BaseException as error:
            outcome = error
        reporter.close()
        ended[at].set()
        done.put(outcome)

    for at, call in enumerate(calls):
        threading.Thread(target=work, args=(at, call), daemon=True).start()
    left = len(calls)
    while left:
        outcome = done.get()
        if isinstance(outcome, BaseException):
            raise outcome
        left -= isinstance(outcome, ToolFinished)
        yield outcome


def _shown_arguments(text: str) -> Any:
    """Return the arguments for clients: an object, or the raw text."""
    try:
        return parse_arguments(text)
    except ValueError:
        return text

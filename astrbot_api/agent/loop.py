"""The loop: model, tool calls, results, model, until there is an answer."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from ..errors import ProviderError
from .progress import ProgressReporter, ToolProgress
from .provider import (
    Finished,
    MediaDelta,
    ModelMessage,
    ModelOptions,
    Provider,
    ReasoningDelta,
    Rewind,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
    Usage,
)
from .tools import Toolbox, ToolContext, parse_arguments


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """The model has called a tool. ``ts``: when, in seconds since 1970.

    :param by_caller: The caller of the turn runs it: the turn ends, and no result follows.
    """

    id: str
    name: str
    args: Any
    ts: float
    by_caller: bool = False


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool has answered. ``ts``: when, in seconds since 1970."""

    id: str
    result: str
    ts: float


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """The turn waits for who answers it. ``position`` counts from 1."""

    position: int


#: Most tool calls of one step that are carried out; a model that has lost its
#: way writes hundreds.
MAX_CALLS_PER_STEP = 32

#: Most bytes of a caller's call, as the text in its event: that must fit into one line.
_MAX_CALLER_BYTES = 120_000

AgentEvent = (
    TextDelta
    | ReasoningDelta
    | Rewind
    | MediaDelta
    | ToolStarted
    | ToolFinished
    | ToolProgress
    | QueuePosition
    | Usage
    | Finished
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The model's answer is whole, and its calls are to be made: the run can go on from here.

    The caller of the loop stores it before it asks for the next event: no call of it has begun.

    :param step: The number of the model's answer, from 1.
    :param messages: What the conversation got since the last checkpoint, or since the opening:
        results of the calls before, and the answer with its calls as the last one.
    :param pending: The ids of those calls that a person must approve.
    """

    step: int
    messages: Sequence[ModelMessage]
    pending: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that a person must approve. ``args`` are as clients are shown them."""

    id: str
    name: str
    args: Any


@dataclass(frozen=True, slots=True)
class ApprovalNeeded:
    """The agent can do nothing more until its calls are decided; it is the last event."""

    calls: Sequence[PendingCall]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided of a call.

    :param arguments: What it is made with in place of the model's, as JSON text; empty: those.
    :param comment: Why, in the person's words.
    """

    approved: bool
    arguments: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a run goes on: at its last checkpoint.

    :param step: That of the checkpoint.
    :param messages: Those of all checkpoints, in order; the last one has calls.
    :param results: The results of these calls that are known, by the ids of the calls.
    :param shown: The ids of the calls that clients have been shown; None: the calls are new.
    :param pending: The ids of calls that a person must approve and that have not begun.
    :param decisions: What was decided of these.
    """

    step: int
    messages: Sequence[ModelMessage]
    results: Mapping[str, str] = field(default_factory=dict)
    shown: Collection[str] | None = ()
    pending: Sequence[str] = ()
    decisions: Mapping[str, Decision] = field(default_factory=dict)


#: The decision where nobody can be asked.
_NOBODY = Decision(approved=False, comment="it needs a person's yes, and nobody can be asked here")

#: What a model gets as the result of a call that was lost with its worker.
OUTCOME_UNKNOWN = (
    "error: the server broke off during this call, and it is not known whether it took effect. "
    "It was not repeated. Find out before you call it again, or ask the user."
)


@dataclass(slots=True)
class _Call:
    """A tool call that comes in pieces."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class _Step:
    """What one model call said."""

    text: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)
    finished: Finished | None = None

    def rewind(self, chars: int) -> None:
        said = "".join(self.text)
        self.text = [said[: len(said) - chars]]

    def to_message(self) -> ModelMessage:
        attached = self.finished.attached if self.finished else {}
        return {
            "role": "assistant",
            **({"attached": attached} if attached else {}),
            "content": "".join(self.text) or None,
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments or "{}"},
                }
                for call in self.calls.values()
            ],
        }


def run_agent(
    provider: Provider,
    messages: Sequence[ModelMessage],
    toolbox: Toolbox,
    context: ToolContext,
    options: ModelOptions,
    *,
    max_steps: int,
    show: Callable[[], list[dict[str, Any]]] = list,
    caller_tools: Sequence[ToolSpec] = (),
    resume: Resumption | None = None,
    may_wait: bool = False,
) -> Iterator[AgentEvent | Checkpoint | ApprovalNeeded]:
    """Answer the last message, calling tools as the model asks for them.

    Yields the deltas as they come, the calls and their results, and for each model
    call a :class:`~astrbot_api.agent.provider.Usage`, where it is known, and a
    :class:`~astrbot_api.agent.provider.Finished` before its calls. In the last step,
    and when the turn's tools have cost what they may, no tools are offered, so that
    there is an answer in words. Before the calls of a step there is a :class:`Checkpoint`.

    A call of a caller's tool ends the turn. Where a step has calls of both kinds, only those of
    the toolbox are run and kept: with their results, the model makes the others again.

    :param max_steps: Most model calls.
    :param show: Called after the calls of a step; returns the parts of a further message to
        the model, for what the tools made that fits in no result: pictures.
    :param caller_tools: Tools that the caller of the turn runs; of two with the same name, its own
        is taken.
    :param resume: Where to go on; ``messages`` are the same as at the first time. A call whose
        result is not known is made again where its tool allows it; the result of others is
        :data:`OUTCOME_UNKNOWN`.
    :param may_wait: Whether a person can be asked for a call that needs a yes; else it is rejected.
        Then :class:`ApprovalNeeded` is the last event, once the other calls are made.
    :raises ProviderError: when the model fails.
    :raises RunCancelled: when ``options.cancel`` fires.
    """
    conversation = list(messages)
    foreign = {spec["function"]["name"] for spec in caller_tools}
    specs = [spec for spec in toolbox.to_specs() if spec["function"]["name"] not in foreign]
    stored, begin = len(conversation), 1
    if resume is not None:
        begin = resume.step + 1
        conversation += resume.messages
        stored = len(conversation)
        _recall(toolbox, resume)
        lost = _Calls(
            _read_calls(resume.messages[-1]), resume.results, resume.shown, resume.pending,
            resume.decisions,
        )  # fmt: skip
        if not (yield from _carry_out(lost, conversation, toolbox, context, show)):
            return
    for number in range(begin, max_steps + 1):
        step = _Step()
        toolbox.begin_step()
        own = specs if number < max_steps and not toolbox.spent else []
        offered = [*own, *caller_tools]
        yield from _ask(provider, conversation, offered, _fit(options, number, offered), step)
        if not step.calls:
            return
        if all(call.name in foreign for call in step.calls.values()):
            yield from map(_hand_over, step.calls.values())
            return
        step.calls = {at: call for at, call in step.calls.items() if call.name not in foreign}
        conversation.append(step.to_message())
        calls = _Calls(list(step.calls.values()))
        asking = [one.id for one in calls.calls if toolbox.needs_approval(one.name, one.arguments)]
        if may_wait:
            calls.pending = asking
        else:
            calls.decisions = dict.fromkeys(asking, _NOBODY)
        yield Checkpoint(number, conversation[stored:], calls.pending)
        stored = len(conversation)
        if not (yield from _carry_out(calls, conversation, toolbox, context, show)):
            return
    raise ProviderError(f"The model still called tools after {max_steps} steps.")


@dataclass(slots=True)
class _Calls:
    """The calls of one step.

    :param results: By the ids of the calls.
    :param shown: The ids of those that clients have been shown; None: the calls are new.
    :param pending: The ids of those that a person must approve and that have not begun.
    :param decisions: What was decided of them.
    """

    calls: list[_Call]
    results: Mapping[str, str] = field(default_factory=dict)
    shown: Collection[str] | None = None
    pending: Sequence[str] = ()
    decisions: Mapping[str, Decision] = field(default_factory=dict)


def _carry_out(
    step: _Calls,
    conversation: list[ModelMessage],
    toolbox: Toolbox,
    context: ToolContext,
    show: Callable[[], list[dict[str, Any]]],
) -> Generator[ToolStarted | ToolFinished | ToolProgress | ApprovalNeeded, None, bool]:
    """Make the calls of one step that have no result; add all results to the conversation.

    :returns: False: a person must decide first.
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
    for event in _run_calls(calls, toolbox, context):
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


def _list_known(step: _Calls, toolbox: Toolbox) -> Iterator[tuple[str, str]]:
    """Yield the results of calls that are not made: rejected ones, and those that were lost."""
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


def _apply(decision: Decision | None, call: _Call) -> _Call:
    """Return a call with the arguments that were approved."""
    if decision is None or not decision.arguments:
        return call
    return replace(call, arguments=decision.arguments)


#: Begins the result of a call whose arguments a person has changed.
_CHANGED = "A person approved this call with other arguments: "


def _read_calls(message: ModelMessage) -> list[_Call]:
    """Return the calls of a stored answer."""
    return [
        _Call(one["id"], one["function"]["name"], one["function"]["arguments"])
        for one in message["tool_calls"]
    ]


def _recall(toolbox: Toolbox, resume: Resumption) -> None:
    """Have the toolbox count the calls that were made before."""
    results = {
        one["tool_call_id"]: one["content"] for one in resume.messages if one["role"] == "tool"
    } | dict(resume.results)
    for message in resume.messages:
        calls = _read_calls(message) if "tool_calls" in message else []
        if calls:
            toolbox.begin_step()
        for call in calls:
            if call.id in results:
                toolbox.recall(call.name, call.arguments, results[call.id])


def _ask(
    provider: Provider,
    conversation: list[ModelMessage],
    specs: list[ToolSpec],
    options: ModelOptions,
    step: _Step,
) -> Iterator[AgentEvent]:
    """Ask the model once; fill ``step`` with what it said."""
    options.cancel.raise_if_cancelled()
    deltas = provider.stream(conversation, specs, options)
    try:
        for delta in deltas:
            # A provider of somebody else's may not look for itself.
            options.cancel.raise_if_cancelled()
            if isinstance(delta, ToolCallDelta):
                call = step.calls.setdefault(delta.index, _Call())
                call.id = call.id or delta.id
                call.name = call.name or delta.name
                call.arguments += delta.arguments
                continue
            if isinstance(delta, TextDelta):
                step.text.append(delta.text)
            elif isinstance(delta, Rewind):
                step.rewind(delta.chars)
            elif isinstance(delta, Finished):
                step.finished = delta
            yield delta
    finally:
        if isinstance(deltas, Generator):  # any iterator will do
            deltas.close()
    if step.finished is None:
        yield Finished()
    _give_ids(step)


def _fit(options: ModelOptions, number: int, offered: Sequence[ToolSpec]) -> ModelOptions:
    """Return the options of one step.

    A choice of tools holds for the first step: repeated, the calls would never end. Endpoints
    refuse it without tools.
    """
    unfit = {"tool_choice"} if number > 1 else set()
    if not offered:
        unfit |= {"tool_choice", "parallel_tool_calls"}
    if unfit.isdisjoint(options.extra):
        return options
    extra = {key: value for key, value in options.extra.items() if key not in unfit}
    return replace(options, extra=extra)


def _hand_over(call: _Call) -> ToolStarted:
    """Return a call as its caller is shown it.

    :raises ProviderError: when its arguments are too long.
    """
    args = _shown_arguments(call.arguments)
    size_bytes = len(orjson.dumps(orjson.dumps(args).decode()))
    if size_bytes > _MAX_CALLER_BYTES:
        raise ProviderError(f"The model called {call.name} with {size_bytes} bytes of arguments.")
    return ToolStarted(call.id, call.name, args, time.time(), by_caller=True)


def _give_ids(step: _Step) -> None:
    """Give each call an id of its own: some endpoints send none, or the same twice."""
    seen: set[str] = set()
    for index, call in step.calls.items():
        if not call.id or call.id in seen:
            call.id = f"call_{index}_{time.time_ns()}"
        seen.add(call.id)


def _run_calls(
    calls: list[_Call], toolbox: Toolbox, context: ToolContext
) -> Iterator[ToolFinished | ToolProgress]:
    """Run calls of one step side by side; yield progress and results as they come."""
    calls, refused = calls[:MAX_CALLS_PER_STEP], calls[MAX_CALLS_PER_STEP:]
    for call in refused:
        result = f"error: only {MAX_CALLS_PER_STEP} calls of one step are carried out"
        yield ToolFinished(call.id, result, time.time())
    done: queue.SimpleQueue[ToolFinished | ToolProgress | BaseException] = queue.SimpleQueue()

    def work(call: _Call) -> None:
        reporter = ProgressReporter(call.id, done.put)
        own = replace(context, report_progress=reporter)
        try:
            result = toolbox.run(call.name, call.arguments, own, call.id)
            outcome: ToolFinished | BaseException = ToolFinished(call.id, result, time.time())
        except BaseException as error:
            outcome = error
        reporter.close()
        done.put(outcome)

    for call in calls:
        threading.Thread(target=work, args=(call,), daemon=True).start()
    left = len(calls)
    while left:
        outcome = done.get()
        if isinstance(outcome, BaseException):
            raise outcome
        left -= isinstance(outcome, ToolFinished)
        yield outcome


def _shown_arguments(text: str) -> Any:
    """Return the arguments as clients see them: an object, or the raw text."""
    try:
        return parse_arguments(text)
    except ValueError:
        return text

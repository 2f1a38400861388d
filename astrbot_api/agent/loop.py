"""The loop: model, tool calls, results, model, until there is an answer."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from ..errors import ProviderError
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
    | QueuePosition
    | Usage
    | Finished
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
) -> Iterator[AgentEvent]:
    """Answer the last message, calling tools as the model asks for them.

    Yields the deltas as they come, the calls and their results, and for each model
    call a :class:`~astrbot_api.agent.provider.Usage`, where it is known, and a
    :class:`~astrbot_api.agent.provider.Finished` before its calls. In the last step,
    and when the turn's tools have cost what they may, no tools are offered, so that
    there is an answer in words.

    A call of a caller's tool ends the turn. Where a step has calls of both kinds, only those of
    the toolbox are run and kept: with their results, the model makes the others again.

    :param max_steps: Most model calls.
    :param show: Called after the calls of a step; returns the parts of a further message to
        the model, for what the tools made that fits in no result: pictures.
    :param caller_tools: Tools that the caller of the turn runs; of two with the same name, its own
        is taken.
    :raises ProviderError: when the model fails.
    :raises RunCancelled: when ``options.cancel`` fires.
    """
    conversation = list(messages)
    foreign = {spec["function"]["name"] for spec in caller_tools}
    specs = [spec for spec in toolbox.to_specs() if spec["function"]["name"] not in foreign]
    for number in range(1, max_steps + 1):
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
        calls = list(step.calls.values())
        results: dict[str, str] = {}
        for event in _run_calls(calls, toolbox, context):
            if isinstance(event, ToolFinished):
                results[event.id] = event.result
            yield event
        conversation.extend(
            {"role": "tool", "tool_call_id": call.id, "content": results[call.id]} for call in calls
        )
        shown = show()
        if shown:
            conversation.append({"role": "user", "content": shown})
    raise ProviderError(f"The model still called tools after {max_steps} steps.")


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
) -> Iterator[ToolStarted | ToolFinished]:
    """Run the calls of one step side by side; yield results as they come."""
    for call in calls:
        yield ToolStarted(call.id, call.name, _shown_arguments(call.arguments), time.time())
    calls, refused = calls[:MAX_CALLS_PER_STEP], calls[MAX_CALLS_PER_STEP:]
    for call in refused:
        result = f"error: only {MAX_CALLS_PER_STEP} calls of one step are carried out"
        yield ToolFinished(call.id, result, time.time())
    if len(calls) == 1:
        result = toolbox.run(calls[0].name, calls[0].arguments, context)
        yield ToolFinished(calls[0].id, result, time.time())
        return
    done: queue.SimpleQueue[ToolFinished | BaseException] = queue.SimpleQueue()

    def work(call: _Call) -> None:
        try:
            result = toolbox.run(call.name, call.arguments, context)
            done.put(ToolFinished(call.id, result, time.time()))
        except BaseException as error:
            done.put(error)

    for call in calls:
        threading.Thread(target=work, args=(call,), daemon=True).start()
    for _ in calls:
        outcome = done.get()
        if isinstance(outcome, BaseException):
            raise outcome
        yield outcome


def _shown_arguments(text: str) -> Any:
    """Return the arguments as clients see them: an object, or the raw text."""
    try:
        return parse_arguments(text)
    except ValueError:
        return text

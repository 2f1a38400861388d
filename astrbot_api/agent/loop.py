"""The loop: model, tool calls, results, model, until there is an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import ProviderError
from .calling import Call, StepCalls, carry_out, hand_over, read_calls, recall
from .provider import (
    Finished,
    ModelMessage,
    ModelOptions,
    Provider,
    Rewind,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
)
from .steps import AgentEvent, ApprovalNeeded, Checkpoint, Decision, Resumption
from .toolbox import Toolbox
from .tools import ToolContext

#: The decision where nobody can be asked.
_NOBODY = Decision(approved=False, comment="it needs a person's yes, and nobody can be asked here")


@dataclass(slots=True)
class _Step:
    """What one model call said."""

    text: list[str] = field(default_factory=list)
    calls: dict[int, Call] = field(default_factory=dict)
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
        recall(toolbox, resume)
        lost = StepCalls(
            read_calls(resume.messages[-1]), resume.results, resume.shown, resume.pending,
            resume.decisions,
        )  # fmt: skip
        if not (yield from carry_out(lost, conversation, toolbox, context, show)):
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
            yield from map(hand_over, step.calls.values())
            return
        step.calls = {at: call for at, call in step.calls.items() if call.name not in foreign}
        conversation.append(step.to_message())
        calls = StepCalls(list(step.calls.values()))
        asking = [one.id for one in calls.calls if toolbox.needs_approval(one.name, one.arguments)]
        if may_wait:
            calls.pending = asking
        else:
            calls.decisions = dict.fromkeys(asking, _NOBODY)
        yield Checkpoint(number, conversation[stored:], calls.pending)
        stored = len(conversation)
        if not (yield from carry_out(calls, conversation, toolbox, context, show)):
            return
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
                call = step.calls.setdefault(delta.index, Call())
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


def _give_ids(step: _Step) -> None:
    """Give each call an id of its own: some endpoints send none, or the same twice."""
    seen: set[str] = set()
    for index, call in step.calls.items():
        if not call.id or call.id in seen:
            call.id = f"call_{index}_{time.time_ns()}"
        seen.add(call.id)

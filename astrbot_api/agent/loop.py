"""The agent loop: ask the model, call tools, and repeat until there is an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from ..errors import ProviderError
from .calling import Call, StepCalls, count_earlier_calls, read_calls, run_calls, to_caller_event
from .provider import (
    Delta,
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
from .toolbox import Toolbox, parse_arguments
from .tools import ToolContext

_DELTAS = get_args(Delta)

#: Decision on a call if no person can be asked.
_NOBODY = Decision(approved=False, comment="it needs a person's yes, and nobody can be asked here")


#: Decision on a call that lacks the end of its arguments.
_CUT = Decision(
    approved=False,
    comment="you reached the limit of your answer (max_tokens) in the middle of it. Write shorter "
    "arguments, or split the work into several calls",
)


@dataclass(slots=True)
class _Step:
    """Output of one model call."""

    text: list[str] = field(default_factory=list)
    calls: dict[int, Call] = field(default_factory=dict)
    arguments: dict[int, list[str]] = field(default_factory=dict)
    finished: Finished | None = None

    def rewind(self, chars: int) -> None:
        said = "".join(self.text)
        self.text = [said[: len(said) - chars]]

    def add_call(self, delta: ToolCallDelta) -> None:
        call = self.calls.setdefault(delta.index, Call())
        call.id = call.id or delta.id
        call.name = call.name or delta.name
        self.arguments.setdefault(delta.index, []).append(delta.arguments)

    def finish_calls(self, conversation: list[ModelMessage]) -> None:
        for index, call in self.calls.items():
            call.arguments = "".join(self.arguments[index])
        _give_ids(self.calls, conversation)

    def is_cut(self) -> bool:
        """Return whether the model ran out of tokens in the middle of its last call."""
        if not self.calls or self.finished is None or self.finished.reason != "length":
            return False
        try:
            return not parse_arguments(list(self.calls.values())[-1].arguments)
        except ValueError:
            return True

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
    """Answer the last message, calling tools as the model requests.

    Yields deltas, calls and results as they arrive. Each model call also yields a
    :class:`~astrbot_api.agent.provider.Finished` before its calls, and a
    :class:`~astrbot_api.agent.provider.Usage` if its tokens are known. A :class:`Checkpoint`
    precedes the calls of a step. In the last step, and once the tool budget is spent, no tools are
    offered, so that the model answers in words.

    A call of a caller's tool ends the turn. If a step also calls tools of the toolbox, only those
    are run. The model gets their results and repeats the other calls.

    :param max_steps: Maximum number of model calls.
    :param show: Called after a step's calls; returns the parts of another message to the model, for
        pictures from tools.
    :param caller_tools: Tools that the turn's caller runs. They override tools of the same name.
    :param resume: Where to resume. ``messages`` must be those of the first time. A call without a
        known result is repeated if its tool allows it, and otherwise has the result
        :data:`OUTCOME_UNKNOWN`.
    :param may_wait: Whether a person can approve calls. :class:`ApprovalNeeded` is then the last
        event, after the other calls. If False, such calls are rejected.
    :raises ProviderError: if the model fails.
    :raises RunCancelled: if ``options.cancel`` fires.
    """
    conversation = list(messages)
    foreign = {spec["function"]["name"] for spec in caller_tools}
    specs = toolbox.to_specs(caller_tools)
    stored, begin = len(conversation), 1
    if resume is not None:
        stored, begin = stored + len(resume.messages), resume.step + 1
        if not (yield from _resume(resume, conversation, toolbox, context, show)):
            return
    for number in range(begin, max_steps + 1):
        step = _Step()
        toolbox.budget.begin_step()
        offered = specs if number < max_steps and not toolbox.budget.spent else list(caller_tools)
        yield from _ask(provider, conversation, offered, _fit(options, offered), step)
        if all(call.name in foreign for call in step.calls.values()):  # or there are none
            yield from map(to_caller_event, step.calls.values())
            return
        step.calls = {at: call for at, call in step.calls.items() if call.name not in foreign}
        conversation.append(step.to_message())
        calls = _plan_calls(step, toolbox, may_wait=may_wait)
        yield Checkpoint(number, conversation[stored:], calls.pending)
        stored = len(conversation)
        if not (yield from run_calls(calls, conversation, toolbox, context, show)):
            return
    raise ProviderError(f"The model still called tools after {max_steps} steps.")


def _resume(
    resume: Resumption,
    conversation: list[ModelMessage],
    toolbox: Toolbox,
    context: ToolContext,
    show: Callable[[], list[dict[str, Any]]],
) -> Generator[AgentEvent | ApprovalNeeded, None, bool]:
    """Restore the conversation, and make the last checkpoint's calls without results.

    :returns: False if a person must decide first.
    """
    conversation += resume.messages
    count_earlier_calls(toolbox, resume)
    lost = StepCalls(
        read_calls(resume.messages[-1]), resume.results, resume.shown, resume.pending,
        resume.decisions,
    )  # fmt: skip
    return (yield from run_calls(lost, conversation, toolbox, context, show))


def _plan_calls(step: _Step, toolbox: Toolbox, *, may_wait: bool) -> StepCalls:
    """Return the calls of a step. Calls that need approval are rejected if nobody can be asked."""
    calls = StepCalls(list(step.calls.values()))
    cut = {calls.calls[-1].id: _CUT} if step.is_cut() else {}
    asking = [
        one.id
        for one in calls.calls
        if one.id not in cut and toolbox.needs_approval(one.name, one.arguments)
    ]
    calls.pending = asking if may_wait else ()
    calls.decisions = cut if may_wait else {**dict.fromkeys(asking, _NOBODY), **cut}
    return calls


def _ask(
    provider: Provider,
    conversation: list[ModelMessage],
    specs: list[ToolSpec],
    options: ModelOptions,
    step: _Step,
) -> Iterator[AgentEvent]:
    """Ask the model once; store its output in ``step``."""
    options.cancel.raise_if_cancelled()
    deltas = provider.stream(conversation, specs, options)
    try:
        for delta in deltas:
            # A third-party provider may not check for cancellation itself.
            options.cancel.raise_if_cancelled()
            if isinstance(delta, ToolCallDelta):
                step.add_call(delta)
                continue
            if isinstance(delta, TextDelta):
                step.text.append(delta.text)
            elif isinstance(delta, Rewind):
                step.rewind(delta.chars)
            elif isinstance(delta, Finished):
                step.finished = delta
            elif not isinstance(delta, _DELTAS):
                kind = type(delta).__name__
                raise TypeError(f"a provider yields TextDelta or another delta, not {kind}")
            yield delta
    finally:
        if isinstance(deltas, Generator):  # a provider may return any iterator
            deltas.close()
    if step.finished is None:
        yield Finished()
    step.finish_calls(conversation)


def _fit(options: ModelOptions, offered: Sequence[ToolSpec]) -> ModelOptions:
    """Return the options of one step, without those that endpoints reject if no tool is offered.

    ``tool_choice`` applies to each step: it comes from a caller with tools, and a call of one ends
    the turn.
    """
    if offered:
        return options
    unfit = ("tool_choice", "parallel_tool_calls")
    extra = {key: value for key, value in options.extra.items() if key not in unfit}
    return replace(options, extra=extra)


def _give_ids(calls: Mapping[int, Call], conversation: list[ModelMessage]) -> None:
    """Give each call an id that is unique in the conversation.

    Some endpoints send none, or the same ones in each response. Approvals and results belong to an
    id, and interfaces find a call by it.
    """
    if not calls:
        return
    seen = {call.get("id") for one in conversation for call in one.get("tool_calls") or ()}
    for index, call in calls.items():
        if not call.id or call.id in seen:
            call.id = f"call_{index}_{time.time_ns()}"
        seen.add(call.id)

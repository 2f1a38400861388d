"""Run an agent of the application instead of a model and its tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from .provider import ModelMessage, TextDelta
from .steps import AgentEvent
from .tools import ToolContext

#: Output of an agent: text, or another event for clients.
AgentOutput = str | AgentEvent

#: Called once a turn, in a thread of its own (a greenlet under gevent).
Agent = Callable[[Sequence[ModelMessage], ToolContext], str | Iterable[AgentOutput]]

_EVENTS = get_args(AgentEvent)


def make_agent(agent: Agent | type) -> Agent:
    """Return the function to call for each turn. A class is instantiated once per application.

    :raises TypeError: for an object that cannot be called.
    """
    made: Agent = agent() if isinstance(agent, type) else agent
    if not callable(made):
        raise TypeError(f"agent= must be a function; a {type(made).__name__} cannot be called")
    return made


def may_resume(agent: Agent) -> bool:
    """Return the agent's ``resumable``: whether it may be asked again after its worker died."""
    return bool(getattr(agent, "resumable", False))


def list_outputs(answer: Any) -> Iterable[AgentOutput]:
    """Return the outputs of an agent that returned this.

    :raises TypeError: for an unsupported type.
    """
    if isinstance(answer, str):
        return (answer,)
    # A message of OpenAI's format would be read as the list of its keys.
    if isinstance(answer, Mapping) or not isinstance(answer, Iterable):
        raise TypeError(
            "an agent is a plain function that returns a text or yields pieces of the answer; "
            f"this one returned a {type(answer).__name__}"
        )
    return answer


def run_own_agent(
    agent: Agent, messages: Sequence[ModelMessage], context: ToolContext
) -> Iterator[AgentEvent]:
    """Answer the last message with the application's agent.

    :raises RunCancelled: between two outputs, if the turn is stopped.
    :raises TypeError: for output of an unsupported type.
    """
    context.cancel.raise_if_cancelled()
    answer = list_outputs(agent(messages, context))
    try:
        for said in answer:
            context.cancel.raise_if_cancelled()
            event: AgentEvent = TextDelta(said) if isinstance(said, str) else said
            if not isinstance(event, _EVENTS):
                raise TypeError(f"an agent yields text or events, not {type(said).__name__}")
            yield event
    finally:
        # An abandoned generator closes its resources.
        close = getattr(answer, "close", None)
        if close is not None:
            close()

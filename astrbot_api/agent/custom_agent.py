"""An agent of the application's own, instead of a model and its tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, get_args

from .provider import ModelMessage, TextDelta
from .steps import AgentEvent
from .tools import ToolContext

#: What an agent says: text, or what the clients shall see besides.
Said = str | AgentEvent

#: Called once a turn, in a thread of its own (a greenlet under gevent).
Agent = Callable[[Sequence[ModelMessage], ToolContext], str | Iterable[Said]]

_EVENTS = get_args(AgentEvent)


def make_agent(agent: Agent | type | None) -> Agent | None:
    """Return what is called for each turn; of a class, an object of this application's own."""
    made: Agent | None = agent() if isinstance(agent, type) else agent
    return made


def may_resume(agent: Agent) -> bool:
    """Return whether an agent may be asked once more after its worker died: its ``resumable``."""
    return bool(getattr(agent, "resumable", False))


def run_own_agent(
    agent: Agent, messages: Sequence[ModelMessage], context: ToolContext
) -> Iterator[AgentEvent]:
    """Answer the last message as the application's agent does.

    :raises RunCancelled: between two things that it says, when the turn is stopped.
    :raises TypeError: for what cannot be shown.
    """
    context.cancel.raise_if_cancelled()
    answer: Any = agent(messages, context)
    if isinstance(answer, str):
        answer = (answer,)
    try:
        for said in answer:
            context.cancel.raise_if_cancelled()
            event: AgentEvent = TextDelta(said) if isinstance(said, str) else said
            if not isinstance(event, _EVENTS):
                raise TypeError(f"an agent yields text or events, not {type(said).__name__}")
            yield event
    finally:
        # A generator that is left in the middle closes what it has open.
        close = getattr(answer, "close", None)
        if close is not None:
            close()

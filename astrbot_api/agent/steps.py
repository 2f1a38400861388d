"""What a run of the agent is made of: the events it yields, and where it can go on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .progress import ToolProgress
from .provider import Finished, MediaDelta, ModelMessage, ReasoningDelta, Rewind, TextDelta, Usage


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

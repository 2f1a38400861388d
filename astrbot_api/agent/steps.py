"""Events of the agent loop, and the state from which it resumes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .provider import Finished, MediaDelta, ModelMessage, ReasoningDelta, Rewind, TextDelta, Usage


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """The model called a tool. ``ts`` is the time in seconds since 1970.

    :param by_caller: Whether the turn's caller runs it. The turn then ends without its result.
    """

    id: str
    name: str
    args: Any
    ts: float
    by_caller: bool = False


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool returned. ``ts`` is the time in seconds since 1970."""

    id: str
    result: str
    ts: float


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """Progress of a call. ``total`` is the final value of ``progress``, or None if unknown."""

    id: str
    progress: float
    total: float | None
    message: str


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """The turn waits in the queue of its upstream. ``position`` counts from 1."""

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
    """The model's answer is complete and its calls are about to run: the run can resume here.

    The caller of the loop stores it before it asks for the next event. No call has begun by then.

    :param step: Number of the model's answer, from 1.
    :param messages: New messages since the last checkpoint: results of earlier calls, and last the
        answer with its calls.
    :param pending: Ids of the calls that a person must approve.
    """

    step: int
    messages: Sequence[ModelMessage]
    pending: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that a person must approve. ``args`` are in the form for clients."""

    id: str
    name: str
    args: Any


@dataclass(frozen=True, slots=True)
class ApprovalNeeded:
    """Last event of a run that cannot continue until its calls are decided."""

    calls: Sequence[PendingCall]


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's decision on a call.

    :param arguments: Replacement for the model's arguments, as JSON text, or empty.
    :param comment: Reason given by the person.
    """

    approved: bool
    arguments: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a run resumes: at its last checkpoint.

    :param messages: Messages of all checkpoints, in order. The last one has calls.
    :param results: Known results of these calls, by call id.
    :param shown: Ids of the calls that clients have seen, or None if the calls are new.
    :param pending: Ids of calls that a person must approve and that have not begun.
    :param decisions: Decisions on these calls.
    """

    step: int
    messages: Sequence[ModelMessage]
    results: Mapping[str, str] = field(default_factory=dict)
    shown: Collection[str] | None = ()
    pending: Sequence[str] = ()
    decisions: Mapping[str, Decision] = field(default_factory=dict)

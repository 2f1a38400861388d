"""Store a turn's progress after each step of its agent, and read it back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import peewee

from ...agent.provider import ModelMessage
from ...agent.steps import Checkpoint
from ...db import checkpoints, run_workers
from ...db.checkpoints import CheckpointRow
from ...db.store import Store, is_cut_off
from ...errors import OutcomeUnknown, StorageError
from .outcome import RunLost
from .turn import OpenTurn

log = logging.getLogger(__name__)

#: Maximum size of one step in bytes, unless it waits. Longer steps cannot be resumed.
_MAX_BYTES = 1024 * 1024

#: Seconds that a step waits for the journal to store its events. If the journal fails, the text is
#: rebuilt from the step's message.
_JOURNAL_S = 1.0


@dataclass(frozen=True, slots=True)
class StoredStep:
    """One step.

    :param event: Number of the last event before the step's calls.
    :param messages: Messages that the step added. A message ``{"role": "user", "pictures"}`` lists
        attachments to render.
    :param reply: Counters of the reply so far.
    :param reasoning: Reasoning that was not shown yet, in a turn without streaming.
    :param pending: Ids of the calls that a person must approve.
    """

    step: int
    event: int
    messages: Sequence[ModelMessage]
    reply: Mapping[str, Any]
    reasoning: str
    pending: Sequence[str]


class StepStore:
    """Stores the steps of one turn."""

    def __init__(self, store: Store, turn: OpenTurn) -> None:
        self._store = store
        self._turn = turn
        self._reasoning_chars = 0
        self._lacks_one = False

    def skip(self, reasoning: str) -> None:
        """Mark reasoning as stored by another worker."""
        self._reasoning_chars = len(reasoning)

    def save(
        self,
        checkpoint: Checkpoint,
        reply: Mapping[str, Any],
        reasoning: str,
        pictures: Sequence[Sequence[str]],
    ) -> None:
        """Store a step in one transaction, after the journal has its events. Its calls follow.

        No call may begin before. Otherwise a worker that has lost the database would call a tool,
        and the worker that takes over its turn would call it again.

        :param pictures: Attachment ids in each message with pictures of this step.
        :raises RunLost: if another worker has the run, or should take it over because PostgreSQL
            is unreachable from here.
        :raises StorageError: if the step cannot be stored and nobody could do so, or if
            a person must approve calls after a step that was too long.
        """
        if self._lacks_one:
            if checkpoint.pending:
                raise StorageError("An earlier step of the turn was too long to be stored.")
            return
        turn, begun = self._turn, self._reasoning_chars
        turn.log.wait_until_written(_JOURNAL_S)
        held = "" if turn.request.streaming else reasoning[begun:]
        self._reasoning_chars = len(reasoning)
        data = _encode(checkpoint, reply, held, pictures)
        event = turn.log.count_events()

        def job(db: peewee.Database) -> None:
            if not run_workers.is_owner(db, turn.number, turn.worker_id):
                raise RunLost
            checkpoints.add_checkpoint(db, turn.number, checkpoint.step, event, data)

        try:
            self._write(job)
        except StorageError as error:
            if turn.pinned.is_set() or not is_cut_off(self._store):
                raise
            log.warning("run %s is left to other workers: %s", turn.run_id, error)
            turn.log.mark_lost()
            raise RunLost from error
        if data is None:
            self._lacks_one = True
            turn.pinned.set()

    def _write(self, job: Callable[[peewee.Database], None]) -> None:
        """Run a job that may be repeated, and wait for an unreachable database."""
        try:
            self._store.write(job, patient=True, quick=True)
        except OutcomeUnknown:
            self._store.write(job, patient=True, quick=True)


def read_steps(rows: Sequence[CheckpointRow]) -> list[StoredStep]:
    """Return the steps of a run.

    :raises ValueError: if a step was too long to store, or has an unknown format.
    """
    steps = []
    for row in rows:
        if row.data is None:
            raise ValueError(f"step {row.step} was too long to be stored")
        data = orjson.loads(row.data)
        steps.append(
            StoredStep(
                row.step,
                row.event,
                data["messages"],
                data["reply"],
                data.get("reasoning", ""),
                data.get("pending", ()),
            )
        )
    return steps


def list_calls(step: StoredStep) -> list[str]:
    """Return the ids of the calls of a step."""
    return [call["id"] for call in step.messages[-1]["tool_calls"]]


def _encode(
    checkpoint: Checkpoint, reply: Mapping[str, Any], held: str, pictures: Sequence[Sequence[str]]
) -> str | None:
    """Return a step as JSON, or None if it is too long. A step that must wait is never."""
    packed = orjson.dumps(
        {
            "messages": _pack(checkpoint.messages, pictures),
            "reply": reply,
            **({"reasoning": held} if held else {}),
            **({"pending": checkpoint.pending} if checkpoint.pending else {}),
        }
    )
    return packed.decode() if checkpoint.pending or len(packed) <= _MAX_BYTES else None


def _pack(
    messages: Sequence[ModelMessage], pictures: Sequence[Sequence[str]]
) -> list[ModelMessage]:
    """Return messages without the bytes of their pictures."""
    ids = iter(pictures)
    return [
        {"role": "user", "pictures": list(next(ids))} if message["role"] == "user" else message
        for message in messages
    ]

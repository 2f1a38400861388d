"""Checkpoints of runs: the result of each agent step, so that another worker can resume."""

from __future__ import annotations

from dataclasses import dataclass

import peewee

from .models.runs import RunCheckpoint
from .prepared import Prepared, equals, param, params

# An upsert: the result of an earlier attempt may have been lost.
_ADD = Prepared(
    RunCheckpoint.insert(**params("run", "step", "event", "data")).on_conflict(
        conflict_target=[RunCheckpoint.run, RunCheckpoint.step],
        preserve=[RunCheckpoint.event, RunCheckpoint.data],
    )
)

_LIST = Prepared(
    RunCheckpoint.select(RunCheckpoint.step, RunCheckpoint.event, RunCheckpoint.data)
    .where(equals(RunCheckpoint.run))
    .order_by(RunCheckpoint.step)
)

_REMOVE = Prepared(RunCheckpoint.delete().where(RunCheckpoint.run == param("run")))


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One checkpoint.

    :param event: The number of the last event before it.
    :param data: JSON, or None if it was too long to store.
    """

    step: int
    event: int
    data: str | None


def add_checkpoint(db: peewee.Database, run: int, step: int, event: int, data: str | None) -> None:
    """Store a checkpoint of a run, by the run's number."""
    _ADD.execute(db, run=run, step=step, event=event, data=data)


def list_checkpoints(db: peewee.Database, run: int) -> list[CheckpointRow]:
    """Return a run's checkpoints, oldest first."""
    return [CheckpointRow(*row) for row in _LIST.execute(db, run=run)]


def remove_checkpoints(db: peewee.Database, run: int) -> None:
    """Delete the checkpoints of a run that has ended."""
    _REMOVE.execute(db, run=run)

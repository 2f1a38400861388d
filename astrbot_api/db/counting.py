"""Count stored data in the transaction that stores or deletes it.

The last statements of a transaction write its counts, one statement per key. A key's row is
therefore locked last, and only during the commit. On SQLite the jobs of a batch share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import peewee

from .models.keys import KeyStored
from .prepared import Prepared, params
from .stored import (
    COLUMNS,
    COUNTED,
    NOTHING,
    OTHER_PARTS,
    Account,
    find_committed,
    this_minute,
    to_account,
)


@dataclass(slots=True)
class _Pending:
    """Counts and checks that a job runs at its end.

    :param counts: By key: the columns that change, and ``minute_bytes``, the sum of all bytes.
    :param accounts: By key: its account with these counts, once the job has ended.
    """

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    checks: list[Callable[[peewee.Database], None]] = field(default_factory=list)
    accounts: dict[str, Account] = field(default_factory=dict)


@dataclass(slots=True)
class _Batch:
    """The jobs so far of a transaction that has the database's write lock.

    :param minute: The minute in which it began.
    :param counts: By key: counts that are not written yet.
    :param accounts: By key: its account with these counts, once it was looked up.
    """

    minute: int
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)

    def find(self, db: peewee.Database, key_id: str) -> Account:
        """Return the account of a key after the batch's earlier jobs."""
        if key_id not in self.accounts:
            committed = find_committed(db, key_id, self.minute)
            self.accounts[key_id] = committed.plus(self.counts.get(key_id, {}))
        return self.accounts[key_id]

    def keep(self, job: _Pending) -> None:
        """Add the counts of a job that has succeeded."""
        for key_id, counts in job.counts.items():
            if key_id in job.accounts:
                self.accounts[key_id] = job.accounts[key_id]
            elif key_id in self.accounts:
                self.accounts[key_id] = self.accounts[key_id].plus(counts)
            _add_to(self.counts.setdefault(key_id, {}), counts)


#: Names of the attributes of a database that hold its current job and batch.
_PENDING, _BATCH = "astrbot_pending", "astrbot_batch"


def add(db: peewee.Database, payer: str | None, kind: str, items: int, size_bytes: int) -> None:
    """Count stored data in this transaction; negative numbers for deleted data.

    :param payer: The root key that pays, or None to count nothing.
    :param kind: One of :data:`~astrbot_api.db.stored.KINDS`.
    """
    if payer is None:
        return
    counts = _get_pending(db).counts.setdefault(payer, {})
    _add_to(counts, {kind: items, f"{kind}_bytes": size_bytes, "minute_bytes": size_bytes})


def give_back(
    db: peewee.Database, kind: str, deleted: Iterable[tuple[str | None, int]], items: int = 1
) -> int:
    """Subtract deleted rows from the counts; return their number.

    :param deleted: Payer and bytes of each row.
    :param items: Number of items that each row counts as.
    """
    rows = list(deleted)
    for payer, size_bytes in rows:
        add(db, payer, kind, -items, -size_bytes)
    return len(rows)


def check_at_end(db: peewee.Database, check: Callable[[peewee.Database], None]) -> None:
    """Register a check that runs at the end of the job, after its data is counted; it may raise."""
    _get_pending(db).checks.append(check)


def find_account(db: peewee.Database, payer: str) -> Account:
    """Return what a key has stored, including earlier jobs of this transaction.

    In a check, it includes the job itself. The cost is constant.
    """
    pending: _Pending | None = getattr(db, _PENDING, None)
    if pending is not None and payer in pending.accounts:
        return pending.accounts[payer]
    batch: _Batch | None = getattr(db, _BATCH, None)
    return find_committed(db, payer) if batch is None else batch.find(db, payer)


def forget_files(db: peewee.Database, key_id: str) -> None:
    """Note that this transaction has changed the file totals of a key."""
    batch: _Batch | None = getattr(db, _BATCH, None)
    if batch is not None:
        batch.accounts.pop(key_id, None)


def count_pending(db: peewee.Database, payer: str) -> int:
    """Return the number of bytes that this job adds for a key."""
    pending: _Pending | None = getattr(db, _PENDING, None)
    counts = pending.counts.get(payer) if pending else None
    return counts["minute_bytes"] if counts else 0


def begin_batch(db: peewee.Database) -> None:
    """Let the following jobs share one statement per key, which :func:`end_batch` runs.

    The transaction must have the database's write lock.
    """
    setattr(db, _BATCH, _Batch(this_minute()))


def end_batch(db: peewee.Database) -> None:
    """Write the counts of the jobs that have succeeded."""
    batch: _Batch = getattr(db, _BATCH)
    for key_id, counts in batch.counts.items():
        _ADD.execute(db, key_id=key_id, minute=batch.minute, **{**NOTHING, **counts})


def begin(db: peewee.Database) -> None:
    """Discard the counts of an earlier job on this connection. Stores call it before a job."""
    if hasattr(db, _PENDING):
        delattr(db, _PENDING)


def undo(db: peewee.Database) -> None:
    """Forget what a job of a batch has seen, after its changes were rolled back."""
    batch: _Batch = getattr(db, _BATCH)
    batch.accounts.clear()


def settle(db: peewee.Database) -> None:
    """Run the checks, and write the counts or keep them for the batch, after a job.

    :raises ApiError: the error of a check, which undoes the job.
    """
    pending: _Pending | None = getattr(db, _PENDING, None)
    if pending is None:
        return
    batch: _Batch | None = getattr(db, _BATCH, None)
    if batch is None:
        _write(db, pending)
    elif pending.checks:
        for key_id, counts in pending.counts.items():
            pending.accounts[key_id] = batch.find(db, key_id).plus(counts)
    for check in pending.checks:
        check(db)
    if batch is not None:
        batch.keep(pending)
    begin(db)


def _write(db: peewee.Database, job: _Pending) -> None:
    """Write the counts of a job, before its checks: another transaction may add to them."""
    minute = this_minute()
    for key_id, counts in sorted(job.counts.items()):  # one order: no deadlock
        values = {**NOTHING, **counts}
        if job.checks:
            row = _ADD_AND_FIND.execute(db, key_id=key_id, minute=minute, **values).fetchone()
            job.accounts[key_id] = to_account(row)
        else:
            _ADD.execute(db, key_id=key_id, minute=minute, **values)


def _add_to(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, number in more.items():
        counts[name] = counts.get(name, 0) + number


def _get_pending(db: peewee.Database) -> _Pending:
    pending: _Pending | None = getattr(db, _PENDING, None)
    if pending is None:
        pending = _Pending()
        setattr(db, _PENDING, pending)
    return pending


_THIS_MINUTE = KeyStored.minute == peewee.EXCLUDED.minute

_LAST_MINUTE = KeyStored.minute == peewee.EXCLUDED.minute - 1

_COUNT: Any = KeyStored.insert(**params("key_id", "minute", "minute_bytes", *COLUMNS)).on_conflict(
    conflict_target=[KeyStored.key_id],
    update={one: one + getattr(peewee.EXCLUDED, one.name) for one in COUNTED}
    | {
        KeyStored.minute: peewee.EXCLUDED.minute,
        KeyStored.minute_bytes: peewee.EXCLUDED.minute_bytes
        + peewee.Case(None, [(_THIS_MINUTE, KeyStored.minute_bytes)], 0),
        KeyStored.before_bytes: peewee.Case(
            None,
            [(_THIS_MINUTE, KeyStored.before_bytes), (_LAST_MINUTE, KeyStored.minute_bytes)],
            0,
        ),
    },
)

_ADD = Prepared(_COUNT)

# One statement for the counts and all checks: it runs for each turn on PostgreSQL.
_ADD_AND_FIND = Prepared(
    _COUNT.clone().returning(*COUNTED, *OTHER_PARTS, KeyStored.minute_bytes, KeyStored.before_bytes)
)

"""What each key has stored, by kind: counted in the transaction that stores or deletes it.

The counts of a transaction are written by its last statements, one for each key, so that a
key's row is locked for the time of a commit and last of all. One row a key, so the quota of
a key is read at a constant cost, however much it has. Each counted row names its payer and
its size, and so its deletion gives back what was counted. The same row has what the key
stored in this minute and in the one before, less what was deleted.

A key is a root key: what a session key stores is its maker's. What no key pays for, such as
a message from a messenger, is counted to :data:`NOBODY`. Rows from an import have no payer
and are not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import peewee

from .models import AttachmentTotal, KeyStored
from .prepared import Prepared, equals, param, params

#: Pays for what no key pays for.
NOBODY = ""

#: What a row counts besides its texts, for itself and its entries in indexes, in bytes.
ROW_BYTES = 512

#: The same of an attachment, whose bytes have a quota of their own.
FILE_ROW_BYTES = 1024

#: The kinds; each is a column of :class:`~astrbot_api.db.models.KeyStored`, and one of its bytes.
KINDS = ("messages", "sessions", "deliveries", "requests", "notes")


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored, by kind: how many, and their bytes.

    ``requests`` are those with an ``Idempotency-Key`` that are remembered.
    """

    messages: int = 0
    messages_bytes: int = 0
    sessions: int = 0
    sessions_bytes: int = 0
    deliveries: int = 0
    deliveries_bytes: int = 0
    requests: int = 0
    requests_bytes: int = 0
    notes: int = 0
    notes_bytes: int = 0
    files: int = 0
    files_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """What it takes in the database; the files' bytes are elsewhere."""
        return (
            self.messages_bytes + self.sessions_bytes + self.deliveries_bytes
            + self.requests_bytes + self.notes_bytes + self.files * FILE_ROW_BYTES
        )  # fmt: skip


#: Over how long growth is looked at, in seconds: a sliding window.
GROWTH_S = 60


@dataclass(frozen=True, slots=True)
class Growth:
    """What was stored within the last :data:`GROWTH_S` seconds, less what was deleted.

    :param bytes_now: In this minute.
    :param bytes_before: In the one before, of which a part still counts.
    :param into_s: How much of this minute has passed.
    """

    bytes_now: int = 0
    bytes_before: int = 0
    into_s: float = 0.0

    @property
    def size_bytes(self) -> int:
        """What counts now."""
        left = 1 - self.into_s / GROWTH_S
        return max(0, int(self.bytes_now + max(0, self.bytes_before) * left))

    def find_wait(self, limit: int) -> float:
        """Return in how many seconds it is below a limit, if nothing more is stored."""
        if self.size_bytes < limit:
            return 0.0
        if self.bytes_now < limit:
            return GROWTH_S * (1 - (limit - self.bytes_now) / self.bytes_before) - self.into_s
        return GROWTH_S * (2 - limit / self.bytes_now) - self.into_s


_COLUMNS = [one.name for one in fields(Stored) if not one.name.startswith("files")]

_NOTHING = dict.fromkeys([*_COLUMNS, "minute_bytes"], 0)


def size_of(*texts: str | None) -> int:
    """Return what a row with these texts counts, in bytes."""
    return ROW_BYTES + sum(len(text.encode()) for text in texts if text)


@dataclass(slots=True)
class _Pending:
    """What a transaction has counted and is to check at its end.

    :param counts: By key: its columns, and ``minute_bytes``, the sum of all bytes.
    :param written: By key: what its row and its files are with that, once it is written.
    """

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    checks: list[Callable[[peewee.Database], None]] = field(default_factory=list)
    written: dict[str, Sequence[Any]] = field(default_factory=dict)


#: The attribute of a database that has its job's :class:`_Pending`.
_PENDING = "astrbot_pending"


def add(db: peewee.Database, payer: str | None, kind: str, items: int, size_bytes: int) -> None:
    """Count what is stored in this transaction; negative numbers: what is deleted.

    :param payer: The root key that pays; None: it is not counted.
    :param kind: One of :data:`KINDS`.
    """
    if payer is None:
        return
    of_keys = _get_pending(db).counts
    if payer not in of_keys:
        of_keys[payer] = _NOTHING.copy()
    counts = of_keys[payer]
    counts[kind] += items
    counts[f"{kind}_bytes"] += size_bytes
    counts["minute_bytes"] += size_bytes


def give_back(
    db: peewee.Database, kind: str, deleted: Iterable[tuple[str | None, int, int]]
) -> None:
    """Count deleted rows no longer.

    :param deleted: Payer, number of rows, and their bytes; a payer may come more than once.
    """
    for payer, items, size_bytes in deleted:
        add(db, payer, kind, -int(items), -int(size_bytes))


def check_at_end(db: peewee.Database, check: Callable[[peewee.Database], None]) -> None:
    """Have something checked when the transaction's counts are written; it may raise."""
    _get_pending(db).checks.append(check)


def begin(db: peewee.Database) -> None:
    """Forget what an earlier job of this connection left. The stores call it before a job."""
    if hasattr(db, _PENDING):
        delattr(db, _PENDING)


def settle(db: peewee.Database) -> None:
    """Write the counts and check them. The stores call it after a job, in its transaction.

    :raises ApiError: what a check says; it undoes the job.
    """
    pending: _Pending | None = getattr(db, _PENDING, None)
    if pending is None:
        return
    minute = int(time.time()) // GROWTH_S
    for key_id, counts in sorted(pending.counts.items()):  # one order: no deadlock
        if pending.checks:
            written = _ADD_AND_FIND.execute(db, key_id=key_id, minute=minute, **counts).fetchone()
            pending.written[key_id] = written
        else:
            _ADD.execute(db, key_id=key_id, minute=minute, **counts)
    for check in pending.checks:
        check(db)
    begin(db)


def count_pending(db: peewee.Database, payer: str) -> int:
    """Return by how many bytes this transaction makes a key's rows grow."""
    pending: _Pending | None = getattr(db, _PENDING, None)
    return pending.counts.get(payer, _NOTHING)["minute_bytes"] if pending else 0


def _find_written(db: peewee.Database, payer: str) -> Sequence[Any] | None:
    """Return what a key's row has become in this transaction; None: it was not written."""
    pending: _Pending | None = getattr(db, _PENDING, None)
    return pending.written.get(payer) if pending else None


def _get_pending(db: peewee.Database) -> _Pending:
    pending: _Pending | None = getattr(db, _PENDING, None)
    if pending is None:
        pending = _Pending()
        setattr(db, _PENDING, pending)
    return pending


_COUNTED = [getattr(KeyStored, name) for name in _COLUMNS]

_THIS_MINUTE = KeyStored.minute == peewee.EXCLUDED.minute

_LAST_MINUTE = KeyStored.minute == peewee.EXCLUDED.minute - 1

_COUNT: Any = KeyStored.insert(**params("key_id", "minute", "minute_bytes", *_COLUMNS)).on_conflict(
    conflict_target=[KeyStored.key_id],
    update={one: one + getattr(peewee.EXCLUDED, one.name) for one in _COUNTED}
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

_OF_FILES = AttachmentTotal.key_id == param("key_id")

# One statement for all that is checked: it runs for each turn.
_ADD_AND_FIND = Prepared(
    _COUNT.clone().returning(
        *_COUNTED,
        AttachmentTotal.select(AttachmentTotal.attachments).where(_OF_FILES),
        AttachmentTotal.select(AttachmentTotal.size_bytes).where(_OF_FILES),
        KeyStored.minute_bytes,
        KeyStored.before_bytes,
    )
)

_FIND = Prepared(KeyStored.select(*_COUNTED).where(equals(KeyStored.key_id)))

_FIND_FILES = Prepared(
    AttachmentTotal.select(AttachmentTotal.attachments, AttachmentTotal.size_bytes).where(
        equals(AttachmentTotal.key_id)
    )
)


def find_stored(db: peewee.Database, payer: str) -> Stored:
    """Return what a key has stored, at a constant cost."""
    written = _find_written(db, payer)
    if written is not None:
        return Stored(*(int(value or 0) for value in written[:-2]))
    row = _FIND.execute(db, key_id=payer).fetchone() or [0] * len(_COLUMNS)
    files = _FIND_FILES.execute(db, key_id=payer).fetchone() or (0, 0)
    return Stored(*(int(value) for value in (*row, *files)))


def _select_growth() -> Any:
    this, last = KeyStored.minute == param("minute"), KeyStored.minute == param("last_minute")
    return KeyStored.select(
        peewee.fn.SUM(peewee.Case(None, [(this, KeyStored.minute_bytes)], 0)),
        peewee.fn.SUM(
            peewee.Case(None, [(this, KeyStored.before_bytes), (last, KeyStored.minute_bytes)], 0)
        ),
    )


_FIND_GROWTH = Prepared(_select_growth().where(equals(KeyStored.key_id)))

_SUM_GROWTH = Prepared(_select_growth())


def find_growth(db: peewee.Database, payer: str) -> Growth:
    """Return by how much a key's rows have grown, at a constant cost."""
    written = _find_written(db, payer)
    if written is not None:
        return Growth(int(written[-2]), int(written[-1]), time.time() % GROWTH_S)
    return _read_growth(_FIND_GROWTH, db, key_id=payer)


def sum_growth(db: peewee.Database) -> Growth:
    """Return by how much the rows of all keys have grown; it reads a row a key."""
    return _read_growth(_SUM_GROWTH, db)


def _read_growth(query: Prepared, db: peewee.Database, **values: Any) -> Growth:
    minute, into_s = divmod(time.time(), GROWTH_S)
    row = query.execute(
        db, minute=int(minute), last_minute=int(minute) - 1, **values
    ).fetchone() or (0, 0)
    return Growth(int(row[0] or 0), int(row[1] or 0), into_s)


_SUM = Prepared(KeyStored.select(*(peewee.fn.SUM(one) for one in _COUNTED)))

_SUM_FILES = Prepared(
    AttachmentTotal.select(
        peewee.fn.SUM(AttachmentTotal.attachments), peewee.fn.SUM(AttachmentTotal.size_bytes)
    )
)


def sum_stored(db: peewee.Database) -> Stored:
    """Return what all keys have stored; it reads a row a key."""
    row, files = _SUM.execute(db).fetchone(), _SUM_FILES.execute(db).fetchone()
    return Stored(*(int(value or 0) for value in (*row, *files)))


def list_by_key(db: peewee.Database) -> dict[str, Stored]:
    """Return what each key has stored, by its id."""
    rows = {
        row[0]: row[1:]
        for row in KeyStored.select(KeyStored.key_id, *_COUNTED).tuples().execute(db)
    }
    query = AttachmentTotal.select(
        AttachmentTotal.key_id, AttachmentTotal.attachments, AttachmentTotal.size_bytes
    )
    files = {row[0]: row[1:] for row in query.tuples().execute(db)}
    empty = [0] * len(_COLUMNS)
    return {
        key_id: Stored(*rows.get(key_id, empty), *files.get(key_id, (0, 0)))
        for key_id in {**rows, **files}
    }

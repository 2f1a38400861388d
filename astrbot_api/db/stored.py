"""The stored data of each key, counted by kind in the transaction that stores or deletes it.

The last statements of a transaction write its counts, one statement per key. A key's row is
therefore locked last, and only during the commit. There is one row per key, so reading a
quota has constant cost. Each counted row stores its payer and its size, so its deletion
subtracts the same amount. The key's row also has the bytes stored in this minute and in the
one before, minus deleted ones.

The payer is a root key: data of a session key counts for its parent. Data without a key, such
as a message from a messenger, counts for :data:`NOBODY`. Imported rows have no payer
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

#: The payer of data that belongs to no key.
NOBODY = ""

#: Counted bytes of a row in addition to its texts: the row itself and its index entries.
ROW_BYTES = 512

#: The same for an attachment, whose content has a separate quota.
FILE_ROW_BYTES = 1024

#: The kinds. :class:`~astrbot_api.db.models.KeyStored` has two columns for each: number, bytes.
KINDS = ("messages", "sessions", "deliveries", "requests", "notes")


@dataclass(frozen=True, slots=True)
class Stored:
    """Stored data by kind: number and bytes.

    ``requests`` are stored requests with an ``Idempotency-Key``.
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
        """Bytes in the database, without the contents of files."""
        return (
            self.messages_bytes + self.sessions_bytes + self.deliveries_bytes
            + self.requests_bytes + self.notes_bytes + self.files * FILE_ROW_BYTES
        )  # fmt: skip


#: Length of the sliding window for growth, in seconds.
GROWTH_S = 60


@dataclass(frozen=True, slots=True)
class Growth:
    """Bytes stored within the last :data:`GROWTH_S` seconds, minus deleted ones.

    :param bytes_now: Bytes of the current minute.
    :param bytes_before: Bytes of the previous minute, of which a part still counts.
    :param into_s: Elapsed seconds of the current minute.
    """

    bytes_now: int = 0
    bytes_before: int = 0
    into_s: float = 0.0

    @property
    def size_bytes(self) -> int:
        """The growth that counts now."""
        left = 1 - self.into_s / GROWTH_S
        return max(0, int(self.bytes_now + max(0, self.bytes_before) * left))

    def find_wait(self, limit: int) -> float:
        """Return the seconds until it is below a limit, if nothing more is stored."""
        if self.size_bytes < limit:
            return 0.0
        if self.bytes_now < limit:
            return GROWTH_S * (1 - (limit - self.bytes_now) / self.bytes_before) - self.into_s
        return GROWTH_S * (2 - limit / self.bytes_now) - self.into_s


_COLUMNS = [one.name for one in fields(Stored) if not one.name.startswith("files")]

_NOTHING = dict.fromkeys([*_COLUMNS, "minute_bytes"], 0)


def size_of(*texts: str | None) -> int:
    """Return the counted bytes of a row with these texts."""
    return ROW_BYTES + sum(len(text.encode()) for text in texts if text)


@dataclass(slots=True)
class _Pending:
    """Counts and checks that a transaction runs at its end.

    :param counts: By key: its columns, and ``minute_bytes``, the sum of all bytes.
    :param written: By key: its updated row and its file totals, once written.
    """

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    checks: list[Callable[[peewee.Database], None]] = field(default_factory=list)
    written: dict[str, Sequence[Any]] = field(default_factory=dict)


#: Name of the attribute of a database that holds its job's :class:`_Pending`.
_PENDING = "astrbot_pending"


def add(db: peewee.Database, payer: str | None, kind: str, items: int, size_bytes: int) -> None:
    """Count stored data in this transaction; negative numbers for deleted data.

    :param payer: The root key that pays, or None to count nothing.
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
    """Subtract deleted rows from the counts.

    :param deleted: Payer, number of rows and bytes; a payer may occur more than once.
    """
    for payer, items, size_bytes in deleted:
        add(db, payer, kind, -int(items), -int(size_bytes))


def check_at_end(db: peewee.Database, check: Callable[[peewee.Database], None]) -> None:
    """Register a check that runs after the transaction's counts are written; it may raise."""
    _get_pending(db).checks.append(check)


def begin(db: peewee.Database) -> None:
    """Discard the counts of an earlier job on this connection. Stores call it before a job."""
    if hasattr(db, _PENDING):
        delattr(db, _PENDING)


def settle(db: peewee.Database) -> None:
    """Write the counts and run the checks. Stores call it after a job, in its transaction.

    :raises ApiError: the error of a check, which undoes the job.
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
    """Return the number of bytes that this transaction adds for a key."""
    pending: _Pending | None = getattr(db, _PENDING, None)
    return pending.counts.get(payer, _NOTHING)["minute_bytes"] if pending else 0


def _find_written(db: peewee.Database, payer: str) -> Sequence[Any] | None:
    """Return a key's row as this transaction has written it, or None."""
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

# One statement for all checks: it runs for each turn.
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
    """Return a key's stored data, at constant cost."""
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
    """Return the growth of a key's rows, at constant cost."""
    written = _find_written(db, payer)
    if written is not None:
        return Growth(int(written[-2]), int(written[-1]), time.time() % GROWTH_S)
    return _read_growth(_FIND_GROWTH, db, key_id=payer)


def sum_growth(db: peewee.Database) -> Growth:
    """Return the growth of all keys together. Reads one row per key."""
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
    """Return the stored data of all keys together. Reads one row per key."""
    row, files = _SUM.execute(db).fetchone(), _SUM_FILES.execute(db).fetchone()
    return Stored(*(int(value or 0) for value in (*row, *files)))


def list_by_key(db: peewee.Database) -> dict[str, Stored]:
    """Return the stored data of each key, by key id."""
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

"""The stored data of each key by kind, counted in :mod:`astrbot_api.db.counting`.

There is one row per key, so reading a quota has constant cost. Each counted row stores its
payer and its size, so its deletion subtracts the same amount. The key's row also has the bytes
stored in this minute and in the one before, minus deleted ones.

The payer is a root key: data of a session key counts for its parent. Data without a key, such
as a message from a messenger, counts for :data:`NOBODY`. Imported rows have no payer
and are not counted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import peewee

from .models.files import AttachmentTotal
from .models.keys import ApiKey, KeyStored
from .prepared import Prepared, equals, param

#: The payer of data that belongs to no key.
NOBODY = ""

#: Counted bytes of a row in addition to its texts: the row itself and its index entries.
ROW_BYTES = 512

#: The same for an attachment, whose content has a separate quota.
_FILE_ROW_BYTES = 1024

#: The kinds. ``models.keys.KeyStored`` has two columns for each: number, bytes.
KINDS = ("messages", "sessions", "deliveries", "requests", "notes")


@dataclass(frozen=True, slots=True)
class Stored:
    """Stored data by kind: number and bytes.

    ``requests`` are stored requests with an ``Idempotency-Key``, and calls that wait for a person
    with their turns.
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
            + self.requests_bytes + self.notes_bytes + self.files * _FILE_ROW_BYTES
        )  # fmt: skip


#: Length of the sliding window for growth, in seconds.
_GROWTH_S = 60


@dataclass(frozen=True, slots=True)
class Growth:
    """Bytes stored within the last :data:`_GROWTH_S` seconds, minus deleted ones.

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
        left = 1 - self.into_s / _GROWTH_S
        return max(0, int(self.bytes_now + max(0, self.bytes_before) * left))

    def find_wait(self, limit: int) -> float:
        """Return the seconds until it is below a limit, if nothing more is stored."""
        if self.size_bytes < limit:
            return 0.0
        if self.bytes_now < limit:
            return _GROWTH_S * (1 - (limit - self.bytes_now) / self.bytes_before) - self.into_s
        return _GROWTH_S * (2 - limit / self.bytes_now) - self.into_s


#: The columns of a key's row that count, and the counts of a job that stores nothing.
COLUMNS = [one.name for one in fields(Stored) if not one.name.startswith("files")]
NOTHING = dict.fromkeys([*COLUMNS, "minute_bytes"], 0)

_AT = {name: at for at, name in enumerate(COLUMNS)}


class Account(NamedTuple):
    """What the quotas of a key are checked against.

    :param counts: The values of :data:`COLUMNS`.
    :param rules: The key's guard rails as JSON, or None.
    :param bytes_now: Bytes stored in this minute; ``bytes_before`` in the previous one.
    """

    counts: Sequence[int]
    files: int
    files_bytes: int
    rules: str | None
    bytes_now: int
    bytes_before: int

    @property
    def stored(self) -> Stored:
        return Stored(*(*self.counts, self.files, self.files_bytes))

    @property
    def growth(self) -> Growth:
        return Growth(self.bytes_now, self.bytes_before, time.time() % _GROWTH_S)

    def plus(self, counts: Mapping[str, int]) -> Account:
        """Return the account after more was stored.

        :param counts: The numbers of some of :data:`COLUMNS`, and ``minute_bytes``.
        """
        added, now = list(self.counts), self.bytes_now
        for name, number in counts.items():
            if name == "minute_bytes":
                now += number
            else:
                added[_AT[name]] += number
        return Account(added, self.files, self.files_bytes, self.rules, now, self.bytes_before)


def this_minute() -> int:
    """Return the current minute, counted from 1970."""
    return int(time.time()) // _GROWTH_S


def size_of(*texts: str | None) -> int:
    """Return the counted bytes of a row with these texts."""
    return ROW_BYTES + sum(len(text.encode()) for text in texts if text)


#: The same columns as fields.
COUNTED = [getattr(KeyStored, name) for name in COLUMNS]

_OF_FILES = AttachmentTotal.key_id == param("key_id")

#: The parts of an account that are in other tables.
OTHER_PARTS = (
    AttachmentTotal.select(AttachmentTotal.attachments).where(_OF_FILES),
    AttachmentTotal.select(AttachmentTotal.size_bytes).where(_OF_FILES),
    ApiKey.select(ApiKey.rules).where(ApiKey.key_id == param("key_id")),
)


def _select_growth() -> list[Any]:
    this, last = KeyStored.minute == param("minute"), KeyStored.minute == param("minute") - 1
    before = [(this, KeyStored.before_bytes), (last, KeyStored.minute_bytes)]
    return [
        peewee.fn.SUM(peewee.Case(None, [(this, KeyStored.minute_bytes)], 0)),
        peewee.fn.SUM(peewee.Case(None, before, 0)),
    ]


# Sums, so that a key that has stored nothing has a row, too.
_FIND = Prepared(
    KeyStored.select(
        *(peewee.fn.SUM(one) for one in COUNTED), *OTHER_PARTS, *_select_growth()
    ).where(equals(KeyStored.key_id))
)

_SUM_GROWTH = Prepared(KeyStored.select(*_select_growth()))


def find_committed(db: peewee.Database, payer: str, minute: int | None = None) -> Account:
    """Return what a key has stored, without this transaction, at constant cost.

    :param minute: The minute whose growth counts, or None for the current one.
    """
    minute = this_minute() if minute is None else minute
    return to_account(_FIND.execute(db, key_id=payer, minute=minute).fetchone())


def to_account(row: Sequence[Any]) -> Account:
    """Convert a row of the counted columns, :data:`OTHER_PARTS` and both minutes' bytes."""
    *counts, files, files_bytes, rules, now, before = row
    return Account(
        [int(one or 0) for one in counts], files or 0, files_bytes or 0, rules,
        int(now or 0), int(before or 0),
    )  # fmt: skip


def sum_growth(db: peewee.Database) -> Growth:
    """Return the growth of all keys together. Reads one row per key."""
    now, before = _SUM_GROWTH.execute(db, minute=this_minute()).fetchone()
    return Growth(int(now or 0), int(before or 0), time.time() % _GROWTH_S)


_SUM = Prepared(KeyStored.select(*(peewee.fn.SUM(one) for one in COUNTED)))

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
        row[0]: row[1:] for row in KeyStored.select(KeyStored.key_id, *COUNTED).tuples().execute(db)
    }
    query = AttachmentTotal.select(
        AttachmentTotal.key_id, AttachmentTotal.attachments, AttachmentTotal.size_bytes
    )
    files = {row[0]: row[1:] for row in query.tuples().execute(db)}
    empty = [0] * len(COLUMNS)
    return {
        key_id: Stored(*rows.get(key_id, empty), *files.get(key_id, (0, 0)))
        for key_id in {**rows, **files}
    }

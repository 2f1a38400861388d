"""The audit log of changes to keys, logins and data: one row and one log line each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import peewee

from ..runtime.clock import now_us, to_iso
from .models.owner import Audit
from .store import Store

T = TypeVar("T")

log = logging.getLogger("astrbot_api.audit")

#: Maximum length of a text in a row, so that a caller cannot fill the table with one.
_MAX_CHARS = 500


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One audited action.

    :param action: For example ``login``. The admin pages have a label for each action.
    :param actor: The owner's name, or ``cli`` for the command line.
    :param address: The client's address, or empty for the command line.
    :param subject: The changed object, for example a key's id.
    """

    action: str
    actor: str
    address: str = ""
    subject: str = ""
    detail: str = ""

    def store(self, db: peewee.Database) -> None:
        """Insert the row."""
        Audit.insert(
            at=now_us(),
            action=self.action,
            actor=_clean(self.actor[:255]),
            address=_clean(self.address[:64]),
            subject=_clean(self.subject),
            detail=_clean(self.detail),
        ).execute(db)

    def write(self, store: Store) -> None:
        """Store the entry in a transaction of its own, then log it."""
        store.write(self.store)
        self.log()

    def log(self) -> None:
        """Write the log line. Not in the writer thread, because logging takes a lock."""
        log.info(
            "audit action=%s actor=%r address=%r subject=%r detail=%r",
            self.action, self.actor[:255], self.address[:255], self.subject[:255],
            self.detail[:1000],
        )  # fmt: skip


def key_entry(
    action: str, row: Mapping[str, Any], *, actor: str, address: str = "", detail: str = ""
) -> AuditEntry:
    """Return the entry for an action on a key.

    :param row: The key as :func:`~astrbot_api.db.keys.describe_key` returns it.
    """
    known_as = f"{row['name']} ({row['key_prefix']}…)"
    known_as = f"{known_as}: {detail}" if detail else known_as
    return AuditEntry(action, actor, address, row["key_id"], known_as)


def write_audited(
    store: Store,
    job: Callable[[peewee.Database], T],
    describe: Callable[[T], AuditEntry | None],
) -> T:
    """Run a job, store its audit entry in the same transaction, then log the entry.

    :param describe: Returns the entry for the job's result, or None if nothing changed.
    """

    def both(db: peewee.Database) -> tuple[T, AuditEntry | None]:
        result = job(db)
        entry = describe(result)
        if entry is not None:
            entry.store(db)
        return result, entry

    result, entry = store.write(both)
    if entry is not None:
        entry.log()
    return result


def write_key_change(
    store: Store,
    action: str,
    job: Callable[[peewee.Database], T | None],
    *,
    actor: str,
    address: str = "",
    detail: str,
) -> T | None:
    """Change a key and audit it in the same transaction; see :func:`write_audited`.

    :param job: Returns the key's row, a tuple that begins with it, or None if nothing changed.
    """

    def describe(made: Any) -> AuditEntry | None:
        row = made[0] if isinstance(made, tuple) else made
        if not row:
            return None
        return key_entry(action, row, actor=actor, address=address, detail=detail)

    made: T | None = write_audited(store, job, describe)
    return made


def list_entries(
    db: peewee.Database, *, before: int | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """Return entries, newest first.

    :param before: Only entries with a lower ``id``.
    """
    query = Audit.select().order_by(Audit.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Audit.id < before)
    return [{**row, "at": to_iso(row["at"])} for row in query.dicts().execute(db)]


def forget_before(db: peewee.Database, time_us: int) -> int:
    """Delete entries older than a time, and return their number."""
    return int(Audit.delete().where(Audit.at < time_us).execute(db))


def _clean(text: str) -> str:
    return text[:_MAX_CHARS].encode("utf-8", "replace").decode()

"""What was done to keys, logins and data: one row and one log line each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import peewee

from ..runtime.clock import now_us, to_iso
from .models import Audit
from .store import Store

T = TypeVar("T")

log = logging.getLogger("astrbot_api.audit")

#: What can be noted. The pages have a word for each.
ACTIONS = (
    "login", "login_failed", "login_throttled", "logout", "password_set",
    "key_created", "key_changed", "key_first_used", "key_rotated", "key_revoked", "key_deleted",
    "console_key_made", "session_deleted", "data_imported", "bot_tested",
    "call_approved", "call_rejected",
)  # fmt: skip

#: Longest text of a row, so that a caller cannot fill the table with one.
_MAX_CHARS = 500


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that was done.

    :param action: One of :data:`ACTIONS`.
    :param actor: The owner's name; ``cli`` for the command line.
    :param address: Where the request came from; empty for the command line.
    :param subject: What it was done to, for example a key's id.
    """

    action: str
    actor: str
    address: str = ""
    subject: str = ""
    detail: str = ""

    def store(self, db: peewee.Database) -> None:
        """Add the row."""
        Audit.insert(
            at=now_us(),
            action=self.action,
            actor=_clean(self.actor[:255]),
            address=_clean(self.address[:64]),
            subject=_clean(self.subject),
            detail=_clean(self.detail),
        ).execute(db)

    def log(self) -> None:
        """Write the log line; not in the writer's thread, since logging takes a lock."""
        log.info(
            "audit action=%s actor=%r address=%r subject=%r detail=%r",
            self.action, self.actor[:255], self.address[:255], self.subject[:255],
            self.detail[:1000],
        )  # fmt: skip


def key_entry(
    action: str, row: Mapping[str, Any], *, actor: str, address: str = "", detail: str = ""
) -> AuditEntry:
    """Return the entry of what was done to a key.

    :param row: The key as :func:`~astrbot_api.db.keys.describe_key` has it.
    """
    known_as = f"{row['name']} ({row['key_prefix']}…)"
    known_as = f"{known_as}: {detail}" if detail else known_as
    return AuditEntry(action, actor, address, row["key_id"], known_as)


def write_audited(
    store: Store,
    job: Callable[[peewee.Database], T],
    describe: Callable[[T], AuditEntry | None],
) -> T:
    """Run a job and note it in the same transaction, then log it.

    :param describe: From what the job returned to the entry; None: nothing was done.
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


def list_entries(
    db: peewee.Database, *, before: int | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """Return entries, newest first.

    :param before: Only those with a lower ``id``.
    """
    query = Audit.select().order_by(Audit.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Audit.id < before)
    return [{**row, "at": to_iso(row["at"])} for row in query.dicts().execute(db)]


def forget_before(db: peewee.Database, time_us: int) -> int:
    """Remove the entries that are older. Returns how many."""
    return int(Audit.delete().where(Audit.at < time_us).execute(db))


def _clean(text: str) -> str:
    return text[:_MAX_CHARS].encode("utf-8", "replace").decode()

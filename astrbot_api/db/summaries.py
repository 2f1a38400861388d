"""What the model made of the older turns of a session, once."""

from __future__ import annotations

from dataclasses import dataclass

import peewee

from ..runtime.clock import now_us
from .models import SessionSummary


@dataclass(frozen=True, slots=True)
class Summary:
    """:param until: Number of the last message that ``text`` sums up."""

    until: int
    text: str


def find_summary(db: peewee.Database, session: int, after: int) -> Summary | None:
    """Return the summary of a session unless it is of messages that were forgotten.

    :param after: Number of the last message that the model no longer sees.
    """
    row = SessionSummary.select().where(SessionSummary.session == session).first(db)
    return Summary(row.until, row.text) if row is not None and row.until > after else None


def save_summary(db: peewee.Database, session: int, summary: Summary) -> None:
    """Put a summary in the place of the session's last one."""
    values = {"until": summary.until, "text": summary.text, "created_at": now_us()}
    SessionSummary.insert(session=session, **values).on_conflict(
        conflict_target=[SessionSummary.session], update=values
    ).execute(db)


def forget_summary(db: peewee.Database, session: int, message: int) -> None:
    """Remove the summary of a session if it sums up this message, which has changed."""
    db.execute_sql(
        "DELETE FROM session_summary WHERE session = ? AND until >= ?", (session, message)
    )

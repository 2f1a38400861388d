"""The model's memory: notes about a user, and summaries of a session's older turns."""

from __future__ import annotations

from dataclasses import dataclass

import peewee

from ..runtime.clock import now_us
from . import counting, stored
from .locks import lock_name
from .models.sessions import Note, SessionSummary


@dataclass(frozen=True, slots=True)
class Summary:
    """:param until: Number of the last message that ``text`` summarizes."""

    until: int
    text: str


def save_note(
    db: peewee.Database,
    username: str,
    key: str,
    value: str,
    *,
    max_notes: int,
    payer: str | None = None,
) -> bool:
    """Store a note, or replace the note with this key.

    :param payer: The key whose quota counts it, or None.
    :returns: False if the user already has ``max_notes`` other notes.
    """
    lock_name(db, "note", username)
    own = Note.username == username
    others = Note.select().where(own & (Note.key != key)).count(db)
    if others >= max_notes:
        return False
    delete_note(db, username, key)
    payer, size = payer or stored.NOBODY, stored.size_of(username, username, key, key, value)
    Note.insert(
        username=username, key=key, value=value, updated_at=now_us(), payer=payer, size_bytes=size
    ).execute(db)
    counting.add(db, payer, "notes", 1, size)
    return True


def delete_note(db: peewee.Database, username: str, key: str) -> bool:
    """Delete a note. Return whether it existed."""
    query = Note.delete().where((Note.username == username) & (Note.key == key))
    gone = query.returning(Note.payer, Note.size_bytes).tuples().execute(db)
    return counting.give_back(db, "notes", gone) > 0


def list_notes(db: peewee.Database, username: str, key: str = "") -> list[tuple[str, str]]:
    """Return the keys and values of a user's notes, the last changed first.

    :param key: Only the note with this key, or empty for all.
    """
    query = Note.select().where(Note.username == username)
    if key:
        query = query.where(Note.key == key)
    rows = query.order_by(Note.updated_at.desc(), Note.key).execute(db)
    return [(row.key, row.value) for row in rows]


def find_summary(db: peewee.Database, session: int, after: int) -> Summary | None:
    """Return a session's summary, unless all its messages were forgotten by ``/reset``.

    :param after: Number of the last message that the model no longer sees.
    """
    row = SessionSummary.select().where(SessionSummary.session == session).first(db)
    return Summary(row.until, row.text) if row is not None and row.until > after else None


def save_summary(db: peewee.Database, session: int, summary: Summary) -> None:
    """Replace the summary of a session."""
    values = {"until": summary.until, "text": summary.text, "created_at": now_us()}
    SessionSummary.insert(session=session, **values).on_conflict(
        conflict_target=[SessionSummary.session], update=values
    ).execute(db)


def forget_summary(db: peewee.Database, session: int, message: int) -> None:
    """Delete the session's summary if it covers this message, which has changed."""
    SessionSummary.delete().where(
        (SessionSummary.session == session) & (SessionSummary.until >= message)
    ).execute(db)

"""Transcripts of recordings: one text for the same bytes and the same model."""

from __future__ import annotations

import peewee

from ..runtime.clock import now_us
from .models.files import Attachment, FileText


def find_text(db: peewee.Database, sha256: str, made_by: str) -> str | None:
    """Return a model's transcript of a recording, or None if there is no transcript yet."""
    query = FileText.select(FileText.text).where(
        (FileText.sha256 == sha256) & (FileText.made_by == made_by)
    )
    found = next(iter(query.tuples().execute(db)), None)
    return None if found is None else str(found[0])


def save_text(db: peewee.Database, sha256: str, made_by: str, text: str) -> None:
    """Store the transcript of a recording."""
    values = {"text": text, "created_at": now_us()}
    FileText.insert(sha256=sha256, made_by=made_by, **values).on_conflict(
        conflict_target=[FileText.sha256, FileText.made_by], update=values
    ).execute(db)


def remove_orphans(db: peewee.Database) -> None:
    """Delete at most 500 transcripts without an attachment."""
    used = Attachment.select(Attachment.id).where(Attachment.sha256 == FileText.sha256)
    orphans = FileText.select(FileText.sha256).where(~peewee.fn.EXISTS(used)).limit(500)
    FileText.delete().where(FileText.sha256.in_(orphans)).execute(db)

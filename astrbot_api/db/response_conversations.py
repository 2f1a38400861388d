"""Conversations of the OpenAI API: sessions with responses and added items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import peewee

from ..runtime.clock import now_us
from . import counting, stored
from .locks import lock_session
from .models.runs import ResponseConversation
from .models.sessions import ChatSession
from .prepared import Prepared, equals, insert

#: The kind of stored data that counts their bytes.
_KIND = "messages"


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """A conversation; ``session`` is the number of its session. Times in microseconds."""

    session: int
    session_id: str
    creator: str
    key_id: str
    metadata: dict[str, Any]
    created_at: int


_CONVERSATION = Prepared(
    ResponseConversation.select(
        ResponseConversation.session, ChatSession.session_id, ChatSession.creator,
        ResponseConversation.key_id, ResponseConversation.metadata,
        ResponseConversation.created_at,
    )
    .join(ChatSession, on=ChatSession.id == ResponseConversation.session)
    .where(equals(ChatSession.session_id))
)  # fmt: skip


def add_conversation(
    db: peewee.Database,
    session: int,
    key_id: str,
    metadata: dict[str, Any],
    created_at: int | None = None,
) -> None:
    """Mark a session as a conversation."""
    text = orjson.dumps(metadata).decode()
    size = stored.size_of(text)
    insert(
        db, ResponseConversation, session=session, key_id=key_id, metadata=text,
        created_at=now_us() if created_at is None else created_at, size_bytes=size,
    )  # fmt: skip
    counting.add(db, key_id, _KIND, 0, size)


def find_conversation(db: peewee.Database, session_id: str) -> ConversationRow | None:
    """Return the conversation with this session id, of any owner, or None."""
    row = _CONVERSATION.execute(db, session_id=session_id).fetchone()
    if row is None:
        return None
    session, name, creator, key_id, metadata, created_at = row
    return ConversationRow(session, name, creator, key_id, orjson.loads(metadata), created_at)


def is_conversation(db: peewee.Database, session: int) -> bool:
    """Return whether a session, by its number, is a conversation."""
    query = ResponseConversation.select().where(ResponseConversation.session == session)
    return bool(query.exists(db))


def set_metadata(db: peewee.Database, row: ConversationRow, metadata: dict[str, Any]) -> None:
    """Replace the metadata of a conversation, unless it was removed in the meantime."""
    lock_session(db, row.session)
    if remove_conversation(db, row.session):
        add_conversation(db, row.session, row.key_id, metadata, row.created_at)


def remove_conversation(db: peewee.Database, session: int) -> bool:
    """Remove the conversation of a session; the session stays. Return whether it was one."""
    query = ResponseConversation.delete().where(ResponseConversation.session == session)
    gone = query.returning(ResponseConversation.key_id, ResponseConversation.size_bytes)
    return bool(counting.give_back(db, _KIND, gone.tuples().execute(db), items=0))

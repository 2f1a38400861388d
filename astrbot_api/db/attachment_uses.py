"""The uses of attachments: their links to messages, and the users of those messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peewee

from .models.files import MessageAttachment
from .models.sessions import ChatSession, Message
from .prepared import Prepared, equals, param, params

_LINK = Prepared(
    MessageAttachment.insert(**params("message", "attachment")).on_conflict(
        action="nothing", conflict_target=[MessageAttachment.message, MessageAttachment.attachment]
    )
)

_IS_USED = Prepared(
    MessageAttachment.select(MessageAttachment.id)
    .where(equals(MessageAttachment.attachment))
    .limit(1)
)


def _select_users() -> Prepared:
    links: Any = MessageAttachment.select(MessageAttachment.message).where(
        equals(MessageAttachment.attachment)
    )
    newest = links.order_by(MessageAttachment.message.desc()).limit(param("limit"))
    return Prepared(
        ChatSession.select(ChatSession.creator, ChatSession.session_id)
        .distinct()
        .join(Message, on=(Message.session == ChatSession.id))
        .join(newest, on=(newest.c.message == Message.id))
    )


#: Users and sessions whose messages contain an attachment.
_USERS = _select_users()


def _select_user_of(field: peewee.Field[Any], *order: Any) -> Prepared:
    """Return the statement that searches the newest messages of a user, or of a session."""
    messages: Any = ChatSession.select(ChatSession.creator, Message.id).where(equals(field))
    # In the order of an index, so that no other message is read.
    messages = messages.join(Message, on=(Message.session == ChatSession.id)).order_by(*order)
    newest = messages.limit(param("limit"))
    link = MessageAttachment.select().where(
        (MessageAttachment.message == newest.c.id) & equals(MessageAttachment.attachment)
    )
    return Prepared(
        peewee.Select([newest], [newest.c.creator]).where(peewee.fn.EXISTS(link)).limit(1)
    )


_OF_SESSION = _select_user_of(ChatSession.session_id, Message.id.desc())
_OF_CREATOR = _select_user_of(
    ChatSession.creator, ChatSession.updated_at.desc(), ChatSession.id.desc(), Message.id.desc()
)


def link_attachments(
    db: peewee.Database, message_number: int, attachment_numbers: Sequence[int]
) -> None:
    """Link a stored message to its attachments. Repeating it has no effect."""
    for number in attachment_numbers:
        _LINK.execute(db, message=message_number, attachment=number)


def is_used(db: peewee.Database, attachment_number: int) -> bool:
    """Return whether a stored message uses an attachment."""
    return _IS_USED.execute(db, attachment=attachment_number).fetchone() is not None


def list_users(db: peewee.Database, attachment_number: int, limit: int) -> list[tuple[str, str]]:
    """Return the users and session ids of an attachment's newest uses, each pair once.

    :param limit: Maximum number of uses that are read.
    """
    users: list[tuple[str, str]] = _USERS.execute(
        db, attachment=attachment_number, limit=limit
    ).fetchall()
    return users


def find_user(
    db: peewee.Database,
    attachment_number: int,
    limit: int,
    *,
    session_id: str | None,
    username: str | None,
) -> str | None:
    """Return the user of a session, or this user, if its newest messages have an attachment.

    :param limit: Maximum number of messages that are searched.
    """
    found = (
        _OF_CREATOR.execute(db, attachment=attachment_number, limit=limit, creator=username)
        if session_id is None
        else _OF_SESSION.execute(
            db, attachment=attachment_number, limit=limit, session_id=session_id
        )
    ).fetchone()
    return None if found is None else str(found[0])


def has_more_uses(db: peewee.Database, attachment_number: int, count: int) -> bool:
    """Return whether more than a number of messages contain an attachment."""
    links = MessageAttachment.select(MessageAttachment.id)
    links = links.where(MessageAttachment.attachment == attachment_number)
    # Before 4.5.2, exists() of peewee removes the offset.
    return links.limit(1).offset(count).scalar(db) is not None

"""The messages of sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import peewee

from ..runtime.clock import now_us
from . import counting, stored
from .attachment_uses import link_attachments
from .locks import lock_session
from .models.files import MessageAttachment
from .models.sessions import ChatSession, Message
from .pages import count_fitting, length_of
from .prepared import Prepared, equals, insert, param

#: ``sender_id`` of every message that the user did not send.
BOT = "bot"


class MessageRow(NamedTuple):
    """One message; ``content`` is in the form of the contract: ``{"type", "message", …}``.

    The messages of one turn have the same ``llm_checkpoint_id``; it is None for a pushed message.
    ``steps`` is set for an answer: the number of calls of each step, and the data that its
    provider attached. None if unknown. ``size_chars`` is the length of both as JSON.
    """

    id: int
    sender_name: str
    content: dict[str, Any]
    llm_checkpoint_id: str | None
    created_at: int
    steps: list[dict[str, Any]] | None = None
    size_chars: int = 0


#: The columns of a :class:`MessageRow`, in order.
MESSAGE_FIELDS = (
    Message.id, Message.sender_name, Message.content, Message.llm_checkpoint_id, Message.created_at,
)  # fmt: skip

#: Condition: the messages of the session in the parameter ``session``.
OF_SESSION = equals(Message.session)

#: Length of a message as stored, in characters.
LENGTH = length_of(Message.content, Message.attached)


def _before(*columns: Any) -> Prepared:
    inside = OF_SESSION & (Message.id > param("after")) & (Message.id < param("before"))
    return Prepared(
        Message.select(*columns).where(inside).order_by(Message.id.desc()).limit(param("limit"))
    )


_BEFORE, _BEFORE_LENGTHS = _before(*MESSAGE_FIELDS, Message.attached), _before(LENGTH)

_FIND_PAID = Prepared(
    Message.select(Message.payer, Message.sender_id, Message.sender_name, Message.size_bytes).where(
        equals(Message.id)
    )
)

#: Maximum distance between two messages of one turn, in messages.
_TURN_SPAN = 1000

#: Maximum size of a page of messages that are parsed: those for a model, and pushed ones.
MAX_HISTORY_CHARS = 500_000


def add_message(
    db: peewee.Database,
    session: int,
    platform_id: str,
    sender: str,
    content: dict[str, Any],
    llm_checkpoint_id: str | None,
    *,
    sender_name: str = "",
    pushed: bool = False,
    steps: Sequence[Mapping[str, Any]] | None = None,
    payer: str | None = None,
    attachments: Sequence[int] = (),
) -> tuple[int, int]:
    """Store a message. Its number is higher than any earlier number in the session.

    :param sender: The username, or :data:`BOT`.
    :param sender_name: The sender's display name, if it differs.
    :param pushed: Whether it is a pushed message, which open streams of the session show.
    :param payer: The key whose quota counts it, or None.
    :param attachments: Numbers of its attachments.
    :returns: Its id and its time in microseconds.
    """
    lock_session(db, session)
    now, text = now_us(), orjson.dumps(content).decode()
    attached = orjson.dumps(steps).decode() if steps else None
    payer, size = payer or stored.NOBODY, stored.size_of(text, attached, sender, sender_name)
    row = insert(
        db, Message, session=session, platform_id=platform_id, sender_id=sender,
        sender_name=sender_name or sender, content=text, llm_checkpoint_id=llm_checkpoint_id,
        created_at=now, pushed=int(pushed), attached=attached, payer=payer, size_bytes=size,
    ).fetchone()  # fmt: skip
    counting.add(db, payer, "messages", 1, size)
    link_attachments(db, row[0], attachments)
    return row[0], now


def list_messages_before(
    db: peewee.Database,
    session: int,
    *,
    before: int = 2**63 - 1,
    after: int = 0,
    limit: int,
    max_chars: int = MAX_HISTORY_CHARS,
) -> tuple[list[MessageRow], bool]:
    """Return the newest messages with ``after < id < before``, newest first.

    A page has at most ``limit`` messages, and fewer if they are long. It is empty only if
    there are no messages.

    :returns: The page, and whether there may be more.
    """
    span = {"session": session, "after": after, "before": before}
    limit = count_fitting(db, _BEFORE_LENGTHS, max_chars, limit=limit, **span)
    return read_page(_BEFORE.execute(db, limit=limit, **span), limit, max_chars)


def find_message(db: peewee.Database, session: int, message_id: int) -> MessageRow | None:
    """Return a message if it belongs to this session, or None."""
    query = Message.select(*MESSAGE_FIELDS)
    row = query.where(Message.session == session, Message.id == message_id).tuples().first(db)
    return None if row is None else row_to_message(row)


def find_content(db: peewee.Database, number: int) -> dict[str, Any] | None:
    """Return the content of a message of any user, or None."""
    content = Message.select(Message.content).where(Message.id == number).scalar(db)
    return None if content is None else orjson.loads(content)


def has_later_user_message(db: peewee.Database, session: int, number: int) -> bool:
    """Return whether the user sent a message after this one."""
    # The start of the stored JSON of a user's message: ``type`` is written first.
    start = peewee.fn.SUBSTR(Message.content, 1, 14) == '{"type":"user"'
    later = Message.select(Message.id).where(Message.session == session, Message.id > number)
    return bool(later.where(start).exists(db))


def find_of_turn(
    db: peewee.Database, session: int, message: MessageRow, *, later: bool
) -> MessageRow | None:
    """Return the first earlier message of the same turn, or the last later one."""
    if message.llm_checkpoint_id is None:
        return None
    near = (
        Message.select(*MESSAGE_FIELDS)
        .where(Message.session == session)
        .where(Message.id > message.id if later else Message.id < message.id)
        .order_by(Message.id if later else Message.id.desc())
        .limit(_TURN_SPAN)
        .alias("near")
    )
    row = (
        peewee.Select((near,), [getattr(near.c, field.name) for field in MESSAGE_FIELDS])
        .where(near.c.llm_checkpoint_id == message.llm_checkpoint_id)
        .order_by(near.c.id.desc() if later else near.c.id)
        .tuples()
        .first(db)
    )
    return None if row is None else row_to_message(row)


def replace_content(db: peewee.Database, number: int, content: dict[str, Any]) -> None:
    """Replace a message's content, and remove its attachment links and attached data.

    The payer's quota counts the new content.
    """
    _change_edition(db, [number])
    text = orjson.dumps(content).decode()
    row = _FIND_PAID.execute(db, id=number).fetchone()
    if row is None:
        return
    payer, sender, sender_name, before = row
    size = stored.size_of(text, sender, sender_name)
    Message.update(content=text, attached=None, size_bytes=size).where(
        Message.id == number
    ).execute(db)
    counting.add(db, payer, "messages", 0, size - before)
    MessageAttachment.delete().where(MessageAttachment.message == number).execute(db)


def replace_answer(db: peewee.Database, old: int, new: int) -> None:
    """Delete an answer that a new one replaces.

    The run of the old one stays. The new one counts its bytes, and those that the old one counted.
    """
    texts = (Message.content, Message.attached, Message.sender_id)
    query = Message.select(Message.size_bytes, *texts).where(Message.id == old)
    row = query.tuples().first(db)
    if row is not None:
        more = row[0] - stored.size_of(*row[1:]) + stored.ROW_BYTES
        grown = Message.update(size_bytes=Message.size_bytes + more).where(Message.id == new)
        for (payer,) in grown.returning(Message.payer).tuples().execute(db):
            counting.add(db, payer, "messages", 0, more)
    delete_messages(db, [old])


def delete_messages(db: peewee.Database, numbers: Sequence[int]) -> None:
    """Delete messages with their links to attachments, and reduce their payers' counts."""
    _change_edition(db, numbers)
    MessageAttachment.delete().where(MessageAttachment.message.in_(numbers)).execute(db)
    query = Message.delete().where(Message.id.in_(numbers))
    gone = query.returning(Message.payer, Message.size_bytes).tuples().execute(db)
    counting.give_back(db, "messages", gone)


def _change_edition(db: peewee.Database, numbers: Sequence[int]) -> None:
    """Note that messages change. Locks their sessions, so it comes before the change."""
    changed = Message.select(Message.session).where(Message.id.in_(numbers))
    ChatSession.update(edition=ChatSession.edition + 1).where(ChatSession.id.in_(changed)).execute(
        db
    )


def read_page(rows: Any, limit: int, max_chars: int) -> tuple[list[MessageRow], bool]:
    """Return the rows that fit, and whether there may be more."""
    page: list[MessageRow] = []
    chars = 0
    for row in rows:
        page.append(row_to_message(row))
        chars += len(row[2])
        if chars > max_chars:
            rows.close()
            return page, True
    return page, len(page) == limit


def row_to_message(row: tuple[Any, ...]) -> MessageRow:
    """Convert a row of the :data:`MESSAGE_FIELDS`, optionally followed by the steps."""
    number, sender_name, content, checkpoint, created_at, *attached = row
    size, steps = len(content), None
    if attached and attached[0]:
        size, steps = size + len(attached[0]), orjson.loads(attached[0])
    return MessageRow(
        number, sender_name, orjson.loads(content), checkpoint, created_at, steps, size
    )

"""The messages of sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import peewee

from ..runtime.clock import now_us, to_iso
from . import counting, stored
from .locks import lock_session
from .models import PUSHED, ChatSession, Message, MessageAttachment
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

_OF_SESSION = equals(Message.session)

_LENGTH = length_of(Message.content, Message.attached)


def _before(*columns: Any) -> Prepared:
    inside = _OF_SESSION & (Message.id > param("after")) & (Message.id < param("before"))
    return Prepared(
        Message.select(*columns).where(inside).order_by(Message.id.desc()).limit(param("limit"))
    )


def _pushed(*columns: Any) -> Prepared:
    inside = _OF_SESSION & PUSHED & (Message.id > param("after"))
    return Prepared(
        Message.select(*columns).where(inside).order_by(Message.id).limit(param("limit"))
    )


_BEFORE, _BEFORE_LENGTHS = _before(*MESSAGE_FIELDS, Message.attached), _before(_LENGTH)

_PUSHED, _PUSHED_LENGTHS = _pushed(*MESSAGE_FIELDS), _pushed(_LENGTH)

_LAST_PUSHED = Prepared(Message.select(peewee.fn.MAX(Message.id)).where(_OF_SESSION & PUSHED))

_NEWEST_PUSHED = Prepared(Message.select(peewee.fn.MAX(Message.id)).where(PUSHED))

_PUSHED_SESSIONS = Prepared(
    Message.select(peewee.fn.MAX(Message.id), Message.session)
    .where(PUSHED & (Message.id > param("after")))
    .group_by(Message.session)
)

_FIND_PAID = Prepared(
    Message.select(Message.payer, Message.sender_id, Message.sender_name, Message.size_bytes).where(
        equals(Message.id)
    )
)

#: Maximum distance between two messages of one turn, in messages.
_TURN_SPAN = 1000

#: The columns of a message that clients see.
SHOWN_FIELDS = (
    Message.id, Message.sender_id, Message.sender_name, Message.content,
    Message.llm_checkpoint_id, Message.created_at, Message.platform_id,
)  # fmt: skip

_DESCRIBED = Prepared(Message.select(*SHOWN_FIELDS).where(equals(Message.id)))


def _page(newest_first: bool, *columns: Any) -> Prepared:
    number = Message.id
    inside = number < param("cursor") if newest_first else number > param("cursor")
    query = Message.select(*columns).where(_OF_SESSION & inside)
    return Prepared(query.order_by(number.desc() if newest_first else number).limit(param("limit")))


NEWEST_FIRST, _NEWEST_LENGTHS = _page(True, *SHOWN_FIELDS), _page(True, _LENGTH)

OLDEST_FIRST, _OLDEST_LENGTHS = _page(False, *SHOWN_FIELDS), _page(False, _LENGTH)

#: Maximum size of a page of messages, so that no response becomes huge.
_MAX_PAGE_CHARS = 2_000_000

#: The same for messages that are parsed: those for a model, and pushed ones.
_MAX_HISTORY_CHARS = 500_000


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
) -> tuple[int, int]:
    """Store a message. Its number is higher than any earlier number in the session.

    :param sender: The username, or :data:`BOT`.
    :param sender_name: The sender's display name, if it differs.
    :param pushed: Whether it is a pushed message, which open streams of the session show.
    :param payer: The key whose quota counts it, or None.
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
    return row[0], now


def list_messages_before(
    db: peewee.Database,
    session: int,
    *,
    before: int,
    after: int = 0,
    limit: int,
    max_chars: int = _MAX_HISTORY_CHARS,
) -> tuple[list[MessageRow], bool]:
    """Return the newest messages with ``after < id < before``, newest first.

    A page has at most ``limit`` messages, and fewer if they are long. It is empty only if
    there are no messages.

    :returns: The page, and whether there may be more.
    """
    span = {"session": session, "after": after, "before": before}
    limit = count_fitting(db, _BEFORE_LENGTHS, max_chars, limit=limit, **span)
    return _read_page(_BEFORE.execute(db, limit=limit, **span), limit, max_chars)


def find_message(db: peewee.Database, session: int, message_id: int) -> MessageRow | None:
    """Return a message if it belongs to this session, or None."""
    query = Message.select(*MESSAGE_FIELDS)
    row = query.where(Message.session == session, Message.id == message_id).tuples().first(db)
    return None if row is None else row_to_message(row)


def list_page(
    db: peewee.Database,
    session: int,
    *,
    cursor: int | None,
    limit: int,
    newest_first: bool,
    user_id: str | None = None,
) -> tuple[list[dict[str, Any]], int | None]:
    """Return the messages after a cursor, in the form that clients see.

    The cost of a page does not depend on its position. A page is shorter if its
    messages are long, but has at least one message.

    :param cursor: The cursor from the previous page, or None for the first page.
    :param user_id: The session's name, which AstrBot returns with each message.
    :returns: The page, and the cursor of the next page, or None on the last page.
    """
    if cursor is None:
        cursor = 2**63 - 1 if newest_first else 0
    statement, lengths = (
        (NEWEST_FIRST, _NEWEST_LENGTHS) if newest_first else (OLDEST_FIRST, _OLDEST_LENGTHS)
    )
    span = {"session": session, "cursor": cursor}
    fitting = count_fitting(db, lengths, _MAX_PAGE_CHARS, limit=limit + 1, **span)
    rows = statement.execute(db, limit=fitting, **span)
    page: list[dict[str, Any]] = []
    chars = 0
    for row in rows:
        chars += len(row[3])
        if page and (len(page) == limit or chars > _MAX_PAGE_CHARS):
            rows.close()
            return page, page[-1]["id"]
        page.append(describe_message(row) | ({} if user_id is None else {"user_id": user_id}))
    return page, page[-1]["id"] if fitting <= limit else None


def count_messages(db: peewee.Database, session: int) -> int:
    """Return how many messages a session has."""
    return int(Message.select().where(Message.session == session).count(db))


def find_page_cursor(db: peewee.Database, session: int, skip: int) -> int | None:
    """Return the cursor after the ``skip`` newest messages, or None if there are fewer.

    The offset is resolved in the index of the session's messages.
    """
    if skip == 0:
        return 2**63 - 1
    query = Message.select(Message.id).where(Message.session == session)
    number: int | None = query.order_by(Message.id.desc()).offset(skip - 1).limit(1).scalar(db)
    return number


#: The start of the stored JSON of a bot's message without parts.
_WITHOUT_PARTS = '{"type":"bot","message":[]'


def describe_message(row: tuple[Any, ...]) -> dict[str, Any]:
    """Return a row of :data:`SHOWN_FIELDS` for :mod:`orjson`; its content stays JSON text.

    A failed turn without text is shown with the text of its error, as in its ``complete``
    event. Many clients only read a message's parts.
    """
    number, sender_id, sender_name, content, checkpoint, created_at, platform_id = row
    stored_at = to_iso(created_at)
    if content.startswith(_WITHOUT_PARTS):
        content = orjson.dumps(show_error(orjson.loads(content))).decode()
    return {
        "id": number,
        "sender_id": sender_id,
        "sender_name": sender_name,
        "content": orjson.Fragment(content),
        "llm_checkpoint_id": checkpoint,
        "created_at": stored_at,
        "updated_at": stored_at,
        "platform_id": platform_id,
    }


def show_error(content: dict[str, Any]) -> dict[str, Any]:
    """Return a content as clients see it: without parts, the error's text becomes a part."""
    if content["message"] or "error" not in content:
        return content
    return {**content, "message": [{"type": "plain", "text": content["error"]["message"]}]}


def get_described(db: peewee.Database, number: int) -> dict[str, Any]:
    """Return one message in the form of :func:`list_page`; it must exist."""
    return describe_message(_DESCRIBED.execute(db, id=number).fetchone())


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


def delete_message(db: peewee.Database, number: int) -> None:
    """Delete a message and its links to attachments."""
    delete_messages(db, [number])


def delete_messages(db: peewee.Database, numbers: Sequence[int]) -> None:
    """Delete messages with their links to attachments, and reduce their payers' counts."""
    _change_edition(db, numbers)
    MessageAttachment.delete().where(MessageAttachment.message.in_(numbers)).execute(db)
    sums = Message.select(
        Message.payer, peewee.fn.COUNT(Message.id), peewee.fn.SUM(Message.size_bytes)
    )
    paid = list(sums.where(Message.id.in_(numbers)).group_by(Message.payer).tuples().execute(db))
    Message.delete().where(Message.id.in_(numbers)).execute(db)
    counting.give_back(db, "messages", paid)


def _change_edition(db: peewee.Database, numbers: Sequence[int]) -> None:
    """Note that messages change. Locks their sessions, so it comes before the change."""
    changed = Message.select(Message.session).where(Message.id.in_(numbers))
    ChatSession.update(edition=ChatSession.edition + 1).where(ChatSession.id.in_(changed)).execute(
        db
    )


def list_pushed(
    db: peewee.Database, session: int, after: int, limit: int
) -> tuple[list[MessageRow], bool]:
    """Return the pushed messages of a session with ``id > after``, oldest first.

    :returns: The page, which is shorter if they are long, and whether there may be more.
    """
    span = {"session": session, "after": after}
    limit = count_fitting(db, _PUSHED_LENGTHS, _MAX_HISTORY_CHARS, limit=limit, **span)
    return _read_page(_PUSHED.execute(db, limit=limit, **span), limit, _MAX_HISTORY_CHARS)


def _read_page(rows: Any, limit: int, max_chars: int) -> tuple[list[MessageRow], bool]:
    page: list[MessageRow] = []
    chars = 0
    for row in rows:
        page.append(row_to_message(row))
        chars += len(row[2])
        if chars > max_chars:
            rows.close()
            return page, True
    return page, len(page) == limit


def find_last_pushed(db: peewee.Database, session: int) -> int:
    """Return the id of the newest pushed message of a session, or 0."""
    return _LAST_PUSHED.execute(db, session=session).fetchone()[0] or 0


def find_newest_pushed(db: peewee.Database) -> int:
    """Return the id of the newest pushed message of all sessions, or 0."""
    return _NEWEST_PUSHED.execute(db).fetchone()[0] or 0


def list_pushed_sessions(db: peewee.Database, after: int) -> list[tuple[int, int]]:
    """Return the sessions with messages pushed after this one: newest id, session."""
    return [tuple(row) for row in _PUSHED_SESSIONS.execute(db, after=after)]


def row_to_message(row: tuple[Any, ...]) -> MessageRow:
    """Convert a row of the :data:`MESSAGE_FIELDS`, optionally followed by the steps."""
    number, sender_name, content, checkpoint, created_at, *attached = row
    size, steps = len(content), None
    if attached and attached[0]:
        size, steps = size + len(attached[0]), orjson.loads(attached[0])
    return MessageRow(
        number, sender_name, orjson.loads(content), checkpoint, created_at, steps, size
    )

"""Pages of a session's messages, in the form that clients see."""

from __future__ import annotations

from typing import Any

import orjson
import peewee

from ..runtime.clock import to_iso
from .messages import LENGTH, OF_SESSION
from .models.sessions import Message
from .pages import count_fitting
from .prepared import Prepared, equals, param

#: The columns of a message that clients see.
SHOWN_FIELDS = (
    Message.id, Message.sender_id, Message.sender_name, Message.content,
    Message.llm_checkpoint_id, Message.created_at, Message.platform_id,
)  # fmt: skip

_DESCRIBED = Prepared(Message.select(*SHOWN_FIELDS).where(equals(Message.id)))


def _page(newest_first: bool, *columns: Any) -> Prepared:
    number = Message.id
    inside = number < param("cursor") if newest_first else number > param("cursor")
    query = Message.select(*columns).where(OF_SESSION & inside)
    return Prepared(query.order_by(number.desc() if newest_first else number).limit(param("limit")))


NEWEST_FIRST, _NEWEST_LENGTHS = _page(True, *SHOWN_FIELDS), _page(True, LENGTH)


OLDEST_FIRST, _OLDEST_LENGTHS = _page(False, *SHOWN_FIELDS), _page(False, LENGTH)

#: Maximum size of a page of messages, so that no response becomes huge.
_MAX_PAGE_CHARS = 2_000_000


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

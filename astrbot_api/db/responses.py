"""Responses of the OpenAI API with their input, and their place in a conversation.

The output of a response is its run's message and is not stored again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import peewee

from ..runtime.clock import now_us
from . import counting, stored
from .locks import lock_session
from .messages import MessageRow, row_to_message
from .models.runs import ResponseConversation, Run, StoredResponse
from .models.sessions import ChatSession, Message
from .pages import count_fitting, length_of
from .prepared import Prepared, equals, insert, param

_DAY_US = 86_400_000_000

#: The kind that counts their bytes. Their outputs are messages and count separately.
_KIND = "messages"

_FORGOTTEN_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Pause:
    """The point at which a response ended because its run asked for approvals.

    :param at: The time, in seconds since 1970.
    :param parts: The run's output until then, as parts of a message.
    :param asked: ``data`` of its events ``approval_required``, each with the ``item_id`` of its
        item.
    """

    at: int
    parts: list[dict[str, Any]]
    asked: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class EntryRow:
    """One entry of a thread, with its session and its run's message.

    :param request: The request of a response, or None for other entries.
    :param input: Its items; a deleted item is None.
    :param removed: Numbers of deleted output items.
    :param previous_id: The ``entry_id`` of the response that it continues.
    :param context_after: Number of the session's last message that the model no longer sees.
    :param paused: Where it ended before its run did, or None if it has the run's end.
    :param begins: Where the previous response paused the same run, or None if this response has
        the run's start.
    :param status: Its run's status, or empty without a run.
    :param reply: Its run's message, or None if there is no message yet.
    """

    id: int
    entry_id: str
    session: int
    session_id: str
    creator: str
    key_id: str
    run_id: str | None
    previous: int | None
    previous_id: str | None
    request: dict[str, Any] | None
    input: list[dict[str, Any] | None]
    removed: frozenset[int]
    paused: Pause | None
    begins: Pause | None
    created_at: int
    context_after: int
    status: str
    reply: MessageRow | None


_BEFORE = StoredResponse.alias()

#: The names of the first columns in :class:`EntryRow`.
_OWN = (
    "id", "entry_id", "session", "session_id", "creator", "key_id", "run_id", "previous",
    "previous_id",
)  # fmt: skip

_COLUMNS = (
    StoredResponse.id, StoredResponse.entry_id, StoredResponse.session, ChatSession.session_id,
    ChatSession.creator, StoredResponse.key_id, StoredResponse.run_id, StoredResponse.previous,
    _BEFORE.entry_id, StoredResponse.request, StoredResponse.input, StoredResponse.removed,
    StoredResponse.paused, _BEFORE.paused, _BEFORE.run_id,
    StoredResponse.created_at, ChatSession.context_after, Run.status,
    Message.id, Message.sender_name, Message.content, Message.llm_checkpoint_id,
    Message.created_at, Message.attached,
)  # fmt: skip


def _select(*columns: Any) -> Any:
    left = peewee.JOIN.LEFT_OUTER
    return (
        StoredResponse.select(*(columns or _COLUMNS))
        .join(ChatSession, on=ChatSession.id == StoredResponse.session)
        .switch(StoredResponse)
        .join(_BEFORE, left, on=_BEFORE.id == StoredResponse.previous)
        .switch(StoredResponse)
        .join(Run, left, on=Run.run_id == StoredResponse.run_id)
        .join(Message, left, on=Message.id == Run.bot_message)
    )


_FIND = Prepared(_select().where(equals(StoredResponse.entry_id)))

_FIND_BY_NUMBER = Prepared(_select().where(equals(StoredResponse.id)))

_LENGTH = length_of(
    StoredResponse.request, StoredResponse.input, StoredResponse.paused, _BEFORE.paused,
    Message.content, Message.attached,
)  # fmt: skip


def _list(newest_first: bool, *columns: Any) -> Prepared:
    number = StoredResponse.id
    inside = number <= param("cursor") if newest_first else number >= param("cursor")
    query = _select(*columns).where(equals(StoredResponse.session) & inside)
    return Prepared(query.order_by(number.desc() if newest_first else number).limit(param("limit")))


#: By sort order (newest first or not): the statements of a page and of its lengths.
_PAGES = {newest: (_list(newest), _list(newest, _LENGTH)) for newest in (True, False)}

_FOLLOWING = Prepared(
    _select().where(
        equals(StoredResponse.session)
        & equals(StoredResponse.previous)
        & equals(StoredResponse.run_id)
    )
)

_NEWEST = Prepared(
    StoredResponse.select(peewee.fn.MAX(StoredResponse.id)).where(equals(StoredResponse.session))
)


def add_entry(
    db: peewee.Database,
    *,
    entry_id: str,
    session: int,
    key_id: str,
    input_json: str,
    request_json: str | None = None,
    run_id: str | None = None,
    previous: int | None,
) -> int:
    """Store an entry, and return its number."""
    size = stored.size_of(request_json, input_json)
    row = insert(
        db, StoredResponse, entry_id=entry_id, session=session, key_id=key_id, run_id=run_id,
        previous=previous, request=request_json, input=input_json, created_at=now_us(),
        size_bytes=size,
    ).fetchone()  # fmt: skip
    counting.add(db, key_id, _KIND, 0, size)
    return int(row[0])


def find_entry(db: peewee.Database, entry_id: str) -> EntryRow | None:
    """Return the entry with this id, of any owner, or None if it or its session is gone."""
    row = _FIND.execute(db, entry_id=entry_id).fetchone()
    return None if row is None else _to_entry(row)


def find_numbered_entry(db: peewee.Database, number: int) -> EntryRow | None:
    """Return the entry with this number, of any owner, or None."""
    row = _FIND_BY_NUMBER.execute(db, id=number).fetchone()
    return None if row is None else _to_entry(row)


def list_entries(
    db: peewee.Database,
    session: int,
    *,
    cursor: int | None,
    newest_first: bool,
    limit: int,
    max_bytes: int,
) -> tuple[list[EntryRow], bool]:
    """Return a page of a session's entries, starting at the cursor.

    :param cursor: The number of the first entry, or None to start at the end of the list.
    :param max_bytes: The page ends with the entry that exceeds this size.
    :returns: The page, and whether there may be more.
    """
    if cursor is None:
        cursor = 2**63 - 1 if newest_first else 0
    statement, lengths = _PAGES[newest_first]
    page = {"session": session, "cursor": cursor}
    limit = count_fitting(db, lengths, max_bytes, limit=limit, **page)
    rows = statement.execute(db, limit=limit, **page)
    entries: list[EntryRow] = []
    size = 0
    for row in rows:
        entries.append(_to_entry(row))
        size += sum(len(value) for value in row if isinstance(value, str))
        if size > max_bytes:
            rows.close()
            return entries, True
    return entries, len(entries) == limit


def find_newest(db: peewee.Database, session: int) -> int | None:
    """Return the number of a session's newest entry, or None."""
    number: int | None = _NEWEST.execute(db, session=session).fetchone()[0]
    return number


def find_following(db: peewee.Database, entry: EntryRow) -> EntryRow | None:
    """Return the response with the rest of an entry's run, or None."""
    row = _FOLLOWING.execute(
        db, session=entry.session, previous=entry.id, run_id=entry.run_id
    ).fetchone()
    return None if row is None else _to_entry(row)


def pause_entry(db: peewee.Database, entry: EntryRow, pause: Pause) -> None:
    """End a response at the point where its run asked for approvals."""
    text = orjson.dumps(pause).decode()
    size = len(text.encode())
    StoredResponse.update(paused=text, size_bytes=StoredResponse.size_bytes + size).where(
        StoredResponse.id == entry.id
    ).execute(db)
    counting.add(db, entry.key_id, _KIND, 0, size)


def remove_input(db: peewee.Database, entry: EntryRow, number: int) -> None:
    """Delete an item of an entry's input; the other items keep their numbers."""
    items = [None if at == number else item for at, item in enumerate(entry.input)]
    StoredResponse.update(input=orjson.dumps(items).decode()).where(
        StoredResponse.id == entry.id
    ).execute(db)


def remove_output(db: peewee.Database, entry: EntryRow, number: int) -> None:
    """Record that an item of an entry's output is deleted."""
    removed = orjson.dumps(sorted({*entry.removed, number})).decode()
    StoredResponse.update(removed=removed).where(StoredResponse.id == entry.id).execute(db)


def clear_entry(db: peewee.Database, entry: EntryRow) -> None:
    """Delete an entry's content. Later entries still find the entries before it."""
    lock_session(db, entry.session)
    only = StoredResponse.id == entry.id
    freed = StoredResponse.select(
        StoredResponse.key_id, StoredResponse.size_bytes - stored.ROW_BYTES
    )
    counting.give_back(db, _KIND, freed.where(only).tuples().execute(db), items=0)
    kept = StoredResponse.update(
        run_id=None, request=None, input="[]", paused=None, size_bytes=stored.ROW_BYTES
    )
    kept.where(only).execute(db)


def delete_of_session(db: peewee.Database, session: int, limit: int) -> int:
    """Delete the first entries of a removed session; return their number."""
    entries = StoredResponse.select(StoredResponse.id).where(StoredResponse.session == session)
    return _delete(db, list(entries.order_by(StoredResponse.id).limit(limit).scalars(db)))


def forget_old(db: peewee.Database, days: int) -> bool:
    """Delete responses older than ``days`` that belong to no conversation.

    :returns: Whether there may be more.
    """
    kept = ResponseConversation.select(ResponseConversation.session)
    old = (
        StoredResponse.select(StoredResponse.id)
        .where(StoredResponse.created_at < now_us() - days * _DAY_US)
        .where(StoredResponse.session.not_in(kept))
        .limit(_FORGOTTEN_AT_ONCE)
    )
    return _delete(db, list(old.scalars(db))) == _FORGOTTEN_AT_ONCE


def _delete(db: peewee.Database, numbers: list[int]) -> int:
    if numbers:
        query = StoredResponse.delete().where(StoredResponse.id.in_(numbers))
        gone = query.returning(StoredResponse.key_id, StoredResponse.size_bytes)
        counting.give_back(db, _KIND, gone.tuples().execute(db), items=0)
    return len(numbers)


def add_items(
    db: peewee.Database, session: int, key_id: str, entry_id: str, input_json: str
) -> None:
    """Append items to a conversation."""
    lock_session(db, session)
    add_entry(
        db, entry_id=entry_id, session=session, key_id=key_id, input_json=input_json,
        previous=find_newest(db, session),
    )  # fmt: skip


def _to_entry(row: tuple[Any, ...]) -> EntryRow:
    own, stored = row[: len(_OWN)], row[len(_OWN) : len(_OWN) + 5]
    run_before, created_at, context_after, status, *message = row[len(_OWN) + 5 :]
    request, items, removed, paused, before = (
        None if text is None else orjson.loads(text) for text in stored
    )
    named = dict(zip(_OWN, own, strict=True))
    goes_on = run_before == named["run_id"]
    return EntryRow(
        **named,
        request=request,
        input=items or [],
        removed=frozenset(removed or ()),
        paused=Pause(**paused) if paused else None,
        begins=Pause(**before) if before and goes_on else None,
        created_at=created_at,
        context_after=context_after,
        status=status or "",
        reply=None if message[0] is None else row_to_message(tuple(message)),
    )

"""Records of imported data, so that a second import changes nothing.

Each imported item is recorded with its source id, in the transaction that stores it.
An item that was deleted here later is not imported again: its record remains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import peewee

from .attachment_uses import link_attachments
from .attachments import find_attachments
from .legacy_keys import LegacyKey, add_legacy_key, placeholder
from .locks import lock_name, lock_session
from .models.fields import Table
from .models.keys import ApiKey, ApiKeyScope
from .models.sessions import ChatSession, ImportedItem, ImportedMessage, Message
from .prepared import Prepared, equals, insert
from .sessions import count_session

_FIND_ITEM = Prepared(
    ImportedItem.select(ImportedItem.target, ImportedItem.stamp).where(
        equals(ImportedItem.kind, ImportedItem.source_id)
    )
)


@dataclass(frozen=True, slots=True)
class Item:
    """The record of an imported item: ``target`` is its number here, ``stamp`` its source time."""

    target: int | None
    stamp: int


@dataclass(frozen=True, slots=True)
class SourceKey:
    """A key to import; ``legacy`` is None for a key that can no longer be used."""

    key_id: str
    name: str
    key_prefix: str
    scopes: tuple[str, ...]
    created_by: str
    created_at: int
    updated_at: int
    last_used_at: int | None
    expires_at: int | None
    revoked_at: int | None
    legacy: LegacyKey | None


@dataclass(frozen=True, slots=True)
class SourceSession:
    """A session to import; ``stamp`` distinguishes it from another session with the same id."""

    session_id: str
    platform_id: str
    creator: str
    display_name: str | None
    is_group: int
    created_at: int
    updated_at: int
    stamp: int


@dataclass(frozen=True, slots=True)
class SourceMessage:
    """A message to import.

    ``part_of`` is the source number of the bot's message that this one continues:
    a turn has only one message of the bot.
    """

    number: int
    platform_id: str
    sender_id: str
    sender_name: str
    content: dict[str, Any]
    llm_checkpoint_id: str | None
    created_at: int
    part_of: int | None


def find_item(db: peewee.Database, kind: str, source_id: str) -> Item | None:
    row = _FIND_ITEM.execute(db, kind=kind, source_id=source_id).fetchone()
    return None if row is None else Item(*row)


def note_item(
    db: peewee.Database, kind: str, source_id: str, target: int | None, stamp: int
) -> None:
    query = ImportedItem.insert(kind=kind, source_id=source_id, target=target, stamp=stamp)
    query.on_conflict_ignore().execute(db)


def has_key(db: peewee.Database, key_id: str) -> bool:
    return bool(ApiKey.select().where(ApiKey.key_id == key_id).exists(db))


def add_key(db: peewee.Database, key: SourceKey) -> bool:
    """Store a key with its original hash. Return False if it already exists."""
    lock_name(db, "imported_key", key.key_id)
    if has_key(db, key.key_id) or find_item(db, "key", key.key_id) is not None:
        return False
    ApiKey.insert(digest=placeholder(key.key_id), **_columns(ApiKey, key)).execute(db)
    rows = [{"key_id": key.key_id, "scope": scope} for scope in key.scopes]
    ApiKeyScope.insert_many(rows).execute(db)
    if key.legacy is not None:
        add_legacy_key(db, key.legacy)
    note_item(db, "key", key.key_id, None, key.created_at)
    return True


def add_session(db: peewee.Database, session: SourceSession) -> int | None:
    """Create an imported session. Return its number, or None if the id is in use."""
    lock_name(db, "session", session.session_id)
    if ChatSession.select().where(ChatSession.session_id == session.session_id).exists(db):
        return None
    number: int = ChatSession.insert(**_columns(ChatSession, session)).execute(db)
    count_session(db, session.creator, session.platform_id)
    note_item(db, "session", session.session_id, number, session.stamp)
    return number


def find_messages(db: peewee.Database, session: int, numbers: Sequence[int]) -> dict[int, int]:
    """Return the imported messages among these: source number -> id here."""
    query = ImportedMessage.select(ImportedMessage.source_id, ImportedMessage.message).where(
        (ImportedMessage.session == session) & ImportedMessage.source_id.in_(numbers)
    )
    return dict(query.tuples().execute(db))


def add_messages(
    db: peewee.Database, session: int, messages: Sequence[SourceMessage]
) -> tuple[int, list[str]]:
    """Store the messages of a page that are not yet imported, in order.

    :returns: Their number, and the ids of their attachments that do not exist here.
    """
    lock_session(db, session)
    if not ChatSession.select().where(ChatSession.id == session).exists(db):
        return 0, []  # the session was deleted meanwhile
    named = [number for one in messages for number in _numbers_named(one)]
    known = find_messages(db, session, list(dict.fromkeys(named)))
    count = 0
    missing: list[str] = []
    for message in messages:
        if message.number in known:
            continue
        content = _point_replies(message.content, known)
        target = None if message.part_of is None else known.get(message.part_of)
        if target is None:
            target = _insert(db, session, message, content)
        else:
            _append(db, session, target, content)
        known[message.number] = target
        insert(db, ImportedMessage, session=session, source_id=message.number, message=target)
        missing += _link(db, target, content)
        count += 1
    return count, missing


def _numbers_named(message: SourceMessage) -> list[int]:
    """Return the numbers of a message and of the messages that it continues or quotes."""
    quoted = [_quoted_number(part) for part in message.content["message"]]
    numbers = [message.number, message.part_of, *quoted]
    return [number for number in numbers if number is not None]


def _quoted_number(part: dict[str, Any]) -> int | None:
    if part["type"] != "reply":
        return None
    text = str(part.get("message_id"))
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _point_replies(content: dict[str, Any], known: dict[int, int]) -> dict[str, Any]:
    """Replace the numbers of quoted messages by their ids here.

    The number of a message that does not exist here becomes a text, so that it cannot match
    another message.
    """
    parts = []
    for part in content["message"]:
        number = _quoted_number(part)
        if number is not None:
            part = {**part, "message_id": known.get(number, f"astrbot:{number}")}
        parts.append(part)
    return {**content, "message": parts}


def _insert(
    db: peewee.Database, session: int, message: SourceMessage, content: dict[str, Any]
) -> int:
    values = _columns(Message, message)
    values["content"] = orjson.dumps(content).decode()
    return int(insert(db, Message, session=session, **values).fetchone()[0])


def _columns(model: type[Table], item: Any) -> dict[str, Any]:
    """Return the item's values for the columns of a table, by name."""
    names = model._meta.sorted_field_names
    return {name: getattr(item, name) for name in names if hasattr(item, name)}


def _append(db: peewee.Database, session: int, number: int, more: dict[str, Any]) -> None:
    """Append a bot's later message of a turn to its first message of that turn."""
    here = (Message.session == session) & (Message.id == number)
    text = Message.select(Message.content).where(here).scalar(db)
    if text is None:
        return  # the message was deleted here
    content = orjson.loads(text)
    content["message"] = join_parts(content["message"], more["message"])
    for key, value in more.items():
        if key == "reasoning" and content.get(key):
            content[key] += value
        elif key not in ("type", "message"):
            content[key] = value
    Message.update(content=orjson.dumps(content).decode()).where(here).execute(db)


def join_parts(parts: list[dict[str, Any]], more: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the joined parts. A tool result in a later part is merged into its call."""
    joined = list(parts)
    calls = {
        call["id"]: call
        for part in joined
        if part["type"] == "tool_call"
        for call in part["tool_calls"]
    }
    for part in more:
        if part["type"] == "tool_call":
            whole = []
            for call in part["tool_calls"]:
                if "name" in call:
                    whole.append(call)
                    calls[call["id"]] = call
                elif call["id"] in calls:
                    calls[call["id"]].update(call)
            part = {**part, "tool_calls": whole}
            if not whole:
                continue
        joined.append(part)
    return joined


def _link(db: peewee.Database, number: int, content: dict[str, Any]) -> list[str]:
    """Link a message to its attachments. Return the ids of attachments that do not exist."""
    wanted = [part["attachment_id"] for part in content["message"] if "attachment_id" in part]
    found = find_attachments(db, wanted)
    link_attachments(db, number, sorted(row.id for row in found.values()))
    return [one for one in wanted if one not in found]

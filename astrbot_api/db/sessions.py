"""The chat sessions: found by id, and listed by creator at constant cost."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import peewee

from ..errors import ApiError, refuse
from ..runtime.clock import now_us, to_iso
from . import counting, stored
from .models.sessions import ChatSession, SessionCount
from .prepared import Prepared, equals, insert, param, params

#: The platform of sessions that are created over HTTP.
WEBCHAT = "webchat"

#: Creator of a session that a pushed message created without a username. The
#: first user who writes in it becomes its owner.
NOBODY = ""

#: Names of messengers' conversations, which are their UMOs.
_CONVERSATION = re.compile(rf"(?!{WEBCHAT}:)[^:]+:(Friend|Group|Other)Message:.+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session; ``id`` is its number in the database, ``session_id`` its public name."""

    id: int
    session_id: str
    platform_id: str
    creator: str
    display_name: str | None
    config_id: str | None
    context_after: int
    edition: int = 0


def make_umo(platform_id: str, session_id: str, username: str) -> str:
    """Return the UMO of a session. A messenger's session has it as its name."""
    if platform_id != WEBCHAT:
        return session_id
    return f"{WEBCHAT}:FriendMessage:{WEBCHAT}!{username}!{session_id}"


_COLUMNS = (
    ChatSession.id, ChatSession.session_id, ChatSession.platform_id, ChatSession.creator,
    ChatSession.display_name, ChatSession.config_id, ChatSession.context_after,
    ChatSession.edition,
)  # fmt: skip

_FIND = Prepared(ChatSession.select(*_COLUMNS).where(equals(ChatSession.session_id)))

_COUNT_ONE_MORE = Prepared(
    SessionCount.insert(**params("creator", "platform_id"), sessions=1).on_conflict(
        conflict_target=[SessionCount.creator, SessionCount.platform_id],
        update={SessionCount.sessions: SessionCount.sessions + 1},
    )
)

_TOUCH = Prepared(
    ChatSession.update(updated_at=param("now"), config_id=param("config_id")).where(
        equals(ChatSession.id)
    )
)

#: The columns of a session that clients see.
_SHOWN = (
    ChatSession.session_id, ChatSession.platform_id, ChatSession.creator, ChatSession.display_name,
    ChatSession.is_group, ChatSession.created_at, ChatSession.updated_at,
)  # fmt: skip

_PAYER = Prepared(ChatSession.select(ChatSession.key_id).where(equals(ChatSession.id)))

#: Counted bytes for a session's title, whether it is set or not.
_TITLE_BYTES = 1024

_NAME = Prepared(
    ChatSession.update(display_name=param("display_name")).where(
        equals(ChatSession.id) & ChatSession.display_name.is_null()
    )
)

_DESCRIBE = Prepared(ChatSession.select(*_SHOWN).where(equals(ChatSession.id)))


def find_session(db: peewee.Database, session_id: str) -> SessionRow | None:
    """Return the session with this name, of any owner, or None."""
    row = _FIND.execute(db, session_id=session_id).fetchone()
    return None if row is None else SessionRow(*row)


def get_owned_session(db: peewee.Database, session_id: str, username: str) -> SessionRow:
    """Return a user's session. Every route that names a session uses this check.

    :raises ApiError: ``session_not_found`` or ``session_of_another_user``.
    """
    session = find_session(db, session_id)
    if session is None:
        raise ApiError("session_not_found", f"session not found: {session_id}")
    check_owner(session, username)
    return session


def check_owner(session: SessionRow, username: str) -> None:
    """:raises ApiError: ``session_of_another_user``."""
    if session.creator != username:
        raise ApiError("session_of_another_user", "session_id belongs to another username")


def find_creator(db: peewee.Database, session_id: str, key_id: str) -> str | None:
    """Return the username of a session that a key created, or None."""
    query = ChatSession.select(ChatSession.creator)
    made = (ChatSession.session_id == session_id) & (ChatSession.key_id == key_id)
    creator: str | None = query.where(made).scalar(db)
    return creator


def create_session(
    db: peewee.Database,
    session_id: str,
    creator: str,
    *,
    platform_id: str = WEBCHAT,
    config_id: str | None = None,
    is_group: bool = False,
    key_id: str | None = None,
) -> SessionRow:
    """Create a session; the name must be unused.

    A messenger's conversation owns the session with its name. Otherwise anybody with a key, such
    as a visitor of a page, could create that session first and so make the bot refuse a group.

    :param key_id: The key that creates it, or the parent of that session key.
    :raises ApiError: ``invalid_request`` for the name of a conversation with another owner.
    """
    if creator != session_id and _CONVERSATION.fullmatch(session_id):
        raise refuse("session_id is the name of a messenger's conversation; choose another one")
    now = now_us()
    (number,) = insert(
        db, ChatSession, session_id=session_id, platform_id=platform_id, creator=creator,
        is_group=int(is_group), config_id=config_id, created_at=now, updated_at=now,
        key_id=key_id or stored.NOBODY, edition=now,
    ).fetchone()  # fmt: skip
    count_session(db, creator, platform_id)
    counting.add(db, key_id or stored.NOBODY, "sessions", 1, _size(session_id, creator))
    return SessionRow(number, session_id, platform_id, creator, None, config_id, 0, now)


def claim_session(db: peewee.Database, session: SessionRow, creator: str) -> SessionRow:
    """Assign a session without an owner to its first user."""
    ChatSession.update(creator=creator).where(ChatSession.id == session.id).execute(db)
    more = _size(session.session_id, creator) - _size(session.session_id, session.creator)
    counting.add(db, _find_payer(db, session), "sessions", 0, more)
    count_session_less(db, session)
    count_session(db, creator, session.platform_id)
    return replace(session, creator=creator)


def count_session(db: peewee.Database, creator: str, platform_id: str) -> None:
    """Count one more session of a creator on a platform."""
    _COUNT_ONE_MORE.execute(db, creator=creator, platform_id=platform_id)


def count_session_less(db: peewee.Database, session: SessionRow) -> None:
    """Reduce the creator's number of sessions by one. With the last one, the name goes, too."""
    row = (SessionCount.creator == session.creator) & (
        SessionCount.platform_id == session.platform_id
    )
    SessionCount.update(sessions=SessionCount.sessions - 1).where(row).execute(db)
    SessionCount.delete().where(row & (SessionCount.sessions == 0)).execute(db)


def pay_less(db: peewee.Database, session: SessionRow) -> None:
    """Reduce the count of the key that created a session which is about to be deleted."""
    size = _size(session.session_id, session.creator)
    counting.add(db, _find_payer(db, session), "sessions", -1, -size)


def _find_payer(db: peewee.Database, session: SessionRow) -> str | None:
    row = _PAYER.execute(db, id=session.id).fetchone()
    return None if row is None else row[0]


def _size(session_id: str, creator: str) -> int:
    """Return the counted bytes of a session: its creator is also stored in three indexes."""
    return stored.size_of(session_id, session_id, *[creator] * 4) + _TITLE_BYTES


def touch_session(db: peewee.Database, session: SessionRow, config_id: str | None) -> None:
    """Store the time of use of a session, and its config for the next turns."""
    _TOUCH.execute(db, now=now_us(), config_id=config_id, id=session.id)


def name_session(db: peewee.Database, number: int, display_name: str) -> None:
    """Set a session's name if it has no name yet."""
    _NAME.execute(db, id=number, display_name=display_name)


def rename_session(db: peewee.Database, number: int, display_name: str | None) -> None:
    """Set the name that the owner chose, or remove it with None."""
    ChatSession.update(display_name=display_name).where(ChatSession.id == number).execute(db)


def describe_session(db: peewee.Database, session: SessionRow) -> dict[str, Any]:
    """Return a session in the form of the list of sessions, with its config.

    :raises ApiError: ``session_not_found`` when it was deleted meanwhile.
    """
    row = _DESCRIBE.execute(db, id=session.id).fetchone()
    if row is None:
        raise ApiError("session_not_found", f"session not found: {session.session_id}")
    return {**_describe(row), "config_id": session.config_id}


def forget_context(db: peewee.Database, number: int, last_message: int) -> None:
    """Hide all messages up to this one from the model from now on."""
    ChatSession.update(context_after=last_message).where(ChatSession.id == number).execute(db)


def list_sessions(
    db: peewee.Database,
    creator: str,
    *,
    platform_id: str = "",
    order_by: str = "created_at",
    page: int,
    page_size: int,
) -> tuple[list[dict[str, Any]], int]:
    """Return one page of a creator's sessions, newest first, and their total.

    The offset is resolved in an index with only this creator's entries, from the nearer
    end. Only the page's own rows are read.

    :param order_by: ``created_at`` or ``updated_at``.
    """
    total = _count_sessions(db, creator, platform_id)
    offset = (page - 1) * page_size
    size = min(page_size, total - offset)
    if size <= 0:
        return [], total
    from_end = offset > total // 2
    skip = total - offset - size if from_end else offset
    statement = prepare_page(order_by, on_platform=bool(platform_id), from_end=from_end)
    rows = statement.execute(db, creator=creator, platform_id=platform_id, limit=size, skip=skip)
    return [_describe(row) for row in rows], total


@lru_cache
def prepare_page(order_by: str, *, on_platform: bool, from_end: bool) -> Prepared:
    """Return the statement of one page of sessions, newest first.

    :param from_end: Whether the offset is counted from the oldest.
    """

    one = ChatSession.alias()
    by = (getattr(one, order_by), one.id)
    ids = one.select(one.id).where(equals(one.creator))
    if on_platform:
        ids = ids.where(equals(one.platform_id))
    ids = ids.order_by(*(field.asc() if from_end else field.desc() for field in by))
    return Prepared(
        ChatSession.select(*_SHOWN)
        .where(ChatSession.id.in_(ids.limit(param("limit")).offset(param("skip"))))
        .order_by(getattr(ChatSession, order_by).desc(), ChatSession.id.desc())
    )


_TOTAL = Prepared(
    SessionCount.select(peewee.fn.SUM(SessionCount.sessions)).where(equals(SessionCount.creator))
)

_TOTAL_ON_PLATFORM = Prepared(
    SessionCount.select(SessionCount.sessions).where(
        equals(SessionCount.creator, SessionCount.platform_id)
    )
)


def _count_sessions(db: peewee.Database, creator: str, platform_id: str) -> int:
    statement = _TOTAL_ON_PLATFORM if platform_id else _TOTAL
    row = statement.execute(db, creator=creator, platform_id=platform_id).fetchone()
    return int((row and row[0]) or 0)


def _describe(row: tuple[Any, ...]) -> dict[str, Any]:
    session_id, platform_id, creator, display_name, is_group, created_at, updated_at = row
    return {
        "session_id": session_id,
        "platform_id": platform_id,
        "creator": creator,
        "display_name": display_name,
        "is_group": is_group,
        "created_at": to_iso(created_at),
        "updated_at": to_iso(updated_at),
    }

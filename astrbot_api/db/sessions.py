"""The chat sessions: found by id, listed by creator at a cost that does not grow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import peewee

from ..errors import ApiError
from ..runtime.clock import now_us, to_iso
from . import stored
from .models import ChatSession, SessionCount
from .prepared import Prepared, equals, insert, param, params

#: The platform of every session that is made over HTTP.
WEBCHAT = "webchat"

#: Creator of a session that a pushed message made without naming a user: the
#: first user who writes in it becomes its owner.
NOBODY = ""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session; ``id`` is its number in the database, ``session_id`` its name."""

    id: int
    session_id: str
    platform_id: str
    creator: str
    display_name: str | None
    config_id: str | None
    context_after: int


_COLUMNS = (
    ChatSession.id, ChatSession.session_id, ChatSession.platform_id, ChatSession.creator,
    ChatSession.display_name, ChatSession.config_id, ChatSession.context_after,
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

#: What clients are shown of a session.
_SHOWN = (
    ChatSession.session_id, ChatSession.platform_id, ChatSession.creator, ChatSession.display_name,
    ChatSession.is_group, ChatSession.created_at, ChatSession.updated_at,
)  # fmt: skip

_PAYER = Prepared(ChatSession.select(ChatSession.key_id).where(equals(ChatSession.id)))

#: What a session counts for its title, whether it has one or not.
_TITLE_BYTES = 1024

_NAME = Prepared(
    ChatSession.update(display_name=param("display_name")).where(
        equals(ChatSession.id) & ChatSession.display_name.is_null()
    )
)

_DESCRIBE = Prepared(ChatSession.select(*_SHOWN).where(equals(ChatSession.id)))


def find_session(db: peewee.Database, session_id: str) -> SessionRow | None:
    """Return the session of this name, of any owner."""
    row = _FIND.execute(db, session_id=session_id).fetchone()
    return None if row is None else SessionRow(*row)


def get_owned_session(db: peewee.Database, session_id: str, username: str) -> SessionRow:
    """Return a session of a username: the one check of every route that names a session.

    :raises ApiError: ``session_not_found``, or ``session_of_another_user``.
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
    """Return the username of a session that a key made; None: it made no such session."""
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
    """Make a session; the name must be free.

    :param key_id: The key that makes it; of a session key, that key's maker.
    """
    now = now_us()
    (number,) = insert(
        db, ChatSession, session_id=session_id, platform_id=platform_id, creator=creator,
        is_group=int(is_group), config_id=config_id, created_at=now, updated_at=now,
        key_id=key_id or stored.NOBODY,
    ).fetchone()  # fmt: skip
    count_session(db, creator, platform_id)
    stored.add(db, key_id or stored.NOBODY, "sessions", 1, _size(session_id, creator))
    return SessionRow(number, session_id, platform_id, creator, None, config_id, 0)


def claim_session(db: peewee.Database, session: SessionRow, creator: str) -> SessionRow:
    """Give a session that nobody owns yet to its first user."""
    ChatSession.update(creator=creator).where(ChatSession.id == session.id).execute(db)
    more = _size(session.session_id, creator) - _size(session.session_id, session.creator)
    stored.add(db, _find_payer(db, session), "sessions", 0, more)
    count_session_less(db, session)
    count_session(db, creator, session.platform_id)
    return replace(session, creator=creator)


def count_session(db: peewee.Database, creator: str, platform_id: str) -> None:
    """Count one more session of a creator on a platform."""
    _COUNT_ONE_MORE.execute(db, creator=creator, platform_id=platform_id)


def count_session_less(db: peewee.Database, session: SessionRow) -> None:
    """Count a session no longer for its creator."""
    (
        SessionCount.update(sessions=SessionCount.sessions - 1)
        .where(SessionCount.creator == session.creator)
        .where(SessionCount.platform_id == session.platform_id)
        .execute(db)
    )


def pay_less(db: peewee.Database, session: SessionRow) -> None:
    """Count a session that is about to be deleted no longer to the key that made it."""
    size = _size(session.session_id, session.creator)
    stored.add(db, _find_payer(db, session), "sessions", -1, -size)


def _find_payer(db: peewee.Database, session: SessionRow) -> str | None:
    row = _PAYER.execute(db, id=session.id).fetchone()
    return None if row is None else row[0]


def _size(session_id: str, creator: str) -> int:
    """Return what a session counts, in bytes: its creator stands in three indexes, too."""
    return stored.size_of(session_id, session_id, *[creator] * 4) + _TITLE_BYTES


def touch_session(db: peewee.Database, session: SessionRow, config_id: str | None) -> None:
    """Note that a session was used, and with which config it goes on."""
    _TOUCH.execute(db, now=now_us(), config_id=config_id, id=session.id)


def name_session(db: peewee.Database, number: int, display_name: str) -> None:
    """Give a session its name unless somebody named it before."""
    _NAME.execute(db, id=number, display_name=display_name)


def rename_session(db: peewee.Database, number: int, display_name: str | None) -> None:
    """Give a session the name that its owner chose; None: it has none."""
    ChatSession.update(display_name=display_name).where(ChatSession.id == number).execute(db)


def describe_session(db: peewee.Database, session: SessionRow) -> dict[str, Any]:
    """Return a session as the list of sessions has it, and its config.

    :raises ApiError: ``session_not_found``, when it was deleted since it was found.
    """
    row = _DESCRIBE.execute(db, id=session.id).fetchone()
    if row is None:
        raise ApiError("session_not_found", f"session not found: {session.session_id}")
    return {**_describe(row), "config_id": session.config_id}


def forget_context(db: peewee.Database, number: int, last_message: int) -> None:
    """Keep everything up to a message from the model from now on."""
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

    The offset is walked in an index that holds nothing else than this
    creator's entries, from whichever end is nearer; only the page's own rows
    are read.

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
    """Return the statement of one page of sessions, the newest first.

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

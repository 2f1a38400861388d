"""Session keys: short-lived keys that another key creates, and that end with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import peewee

from ..runtime.clock import now_us
from .keys import create_key, get_key
from .locks import for_update
from .models.keys import ApiKey, ApiKeyScope, KeyUse
from .models.runs import RUN_ACTIVE, RUN_WAITING, Run

#: Minutes for which an ended session key still counts, and is kept.
KEPT_MINUTES = 10


def create_session_key(
    db: peewee.Database,
    parent_id: str,
    name: str,
    *,
    expires_at: int,
    scopes: Sequence[str] | None = None,
    narrow: Callable[[str | None], str | None] = lambda rules: rules,
    owner_session: str | None = None,
    secret_prefix: str | None = None,
) -> tuple[dict[str, Any], str] | None:
    """Create a short-lived key of a parent key, with which it ends.

    :param expires_at: Its expiry in microseconds, or the parent's if that is earlier.
    :param scopes: The parent's scopes to grant, or None for all.
    :param narrow: Takes the parent's guard rails as JSON and returns those of the new key. It gets
        the current ones: the request may have begun before they were changed.
    :param owner_session: The owner's login with which it also ends.
    :param secret_prefix: Prefix of the parent's secret that creates it. With an earlier secret of a
        rotated key, it ends when that one does.
    :returns: As :func:`create_key`, or None if the parent is unknown, no longer valid,
        or a session key itself.
    """
    # Lock the row: a concurrent revocation would otherwise leave the new key valid.
    parent = for_update(db, ApiKey.select().where(ApiKey.key_id == parent_id)).first(db)
    if parent is None or parent.revoked_at is not None or parent.parent_id is not None:
        return None
    if parent.expires_at is not None:
        if parent.expires_at <= now_us():
            return None
        expires_at = min(expires_at, parent.expires_at)
    if secret_prefix is not None:
        old = (ApiKey.parent_id == parent_id) & (ApiKey.replaced == 1)
        query = ApiKey.select(ApiKey.expires_at).where(old & (ApiKey.key_prefix == secret_prefix))
        expires_at = min([expires_at, *(one for (one,) in query.tuples().execute(db))])
    own = get_key(db, parent_id)["scopes"]
    return create_key(
        db, name, [one for one in own if scopes is None or one in scopes],
        created_by=parent.created_by, expires_at=expires_at, parent_id=parent_id,
        rules=narrow(parent.rules), owner_session=owner_session,
    )  # fmt: skip


def purge_session_keys(db: peewee.Database, limit: int = 1000) -> int:
    """Delete session keys that ended some time ago and have no turn, at most ``limit``.

    Their usage is already counted for their parents, and a turn's usage when it ends.

    :returns: The number of deleted keys.
    """
    before = _kept_from()
    ended = (
        ApiKey.select(ApiKey.key_id)
        .where(ApiKey.parent_id.is_null(False))
        .where((ApiKey.expires_at < before) | (ApiKey.revoked_at < before))
        .limit(limit)
    )
    for unfinished in (RUN_ACTIVE, RUN_WAITING):
        used = Run.select(Run.key_id).where(unfinished & Run.key_id.is_null(False))
        ended = ended.where(ApiKey.key_id.not_in(used))
    return len(_delete(db, [key_id for (key_id,) in ended.tuples().execute(db)]))


def drop_unused(db: peewee.Database, parent_id: str) -> list[str]:
    """Delete the 100 oldest session keys of a key that began no turn; return their ids."""
    began = KeyUse.select(KeyUse.key_id).where(
        (KeyUse.key_id == ApiKey.key_id) & (KeyUse.turns > 0)
    )
    running = Run.select(Run.key_id).where(RUN_ACTIVE & (Run.key_id == ApiKey.key_id))
    unused = ApiKey.select(ApiKey.key_id).where(
        (ApiKey.parent_id == parent_id) & (ApiKey.replaced == 0),
        ~peewee.fn.EXISTS(began) & ~peewee.fn.EXISTS(running),
    )
    oldest = unused.order_by(ApiKey.created_at, ApiKey.key_id).limit(100)
    return _delete(db, [key_id for (key_id,) in oldest.tuples().execute(db)])


def _delete(db: peewee.Database, ids: list[str]) -> list[str]:
    for model in (ApiKeyScope, KeyUse, ApiKey) if ids else ():
        model.delete().where(model.key_id.in_(ids)).execute(db)
    return ids


def count_by_maker(db: peewee.Database) -> dict[str, tuple[int, int]]:
    """Return each key's number of valid session keys, and how many of them are console keys.

    Earlier secrets of a key do not count.
    """
    of_console = peewee.fn.COUNT(ApiKey.owner_session)
    query = ApiKey.select(ApiKey.parent_id, peewee.fn.COUNT(ApiKey.key_id), of_console).where(
        ApiKey.parent_id.is_null(False) & ApiKey.revoked_at.is_null(),
        (ApiKey.replaced == 0) & (ApiKey.expires_at > now_us()),
    )
    rows = query.group_by(ApiKey.parent_id).tuples().execute(db)
    return {parent: (int(count), int(consoles)) for parent, count, consoles in rows}


def count_session_keys(db: peewee.Database, key_id: str, limit: int) -> int:
    """Return the number of a key's session keys, without earlier ones, at most ``limit``."""
    since = _kept_from()
    kept = (ApiKey.expires_at > since) & (peewee.fn.COALESCE(ApiKey.revoked_at, since + 1) > since)
    query = ApiKey.select(ApiKey.parent_id).where((ApiKey.parent_id == key_id) & kept)
    return int(query.limit(limit).count(db))


def _kept_from() -> int:
    return now_us() - KEPT_MINUTES * 60 * 1_000_000

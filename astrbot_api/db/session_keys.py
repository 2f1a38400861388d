"""Session keys: short-lived keys that are made with another one, and end with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peewee

from ..runtime.clock import now_us
from .keys import create_key, get_key
from .locks import for_update
from .models import ApiKey, ApiKeyScope, KeyUse

#: How long a session key stays after its end, so that its holder gets a clear error.
_KEPT_US = 60 * 60 * 1_000_000


def create_session_key(
    db: peewee.Database,
    parent_id: str,
    name: str,
    *,
    expires_at: int,
    scopes: Sequence[str] | None = None,
    rules: str | None = None,
    owner_session: str | None = None,
) -> tuple[dict[str, Any], str] | None:
    """Make a short-lived key of another one; it ends when that does.

    :param expires_at: Its end in microseconds; its parent's, if that is earlier.
    :param scopes: Those of its parent that it has; None: all of them.
    :param rules: Its guard rails; None: its parent's.
    :param owner_session: The owner's login that it ends with, too.
    :returns: As :func:`create_key`; None when there is no such key, when it is
        not valid any more, or is a session key itself.
    """
    # Locked, or a revocation at the same time would leave the new key valid.
    parent = for_update(db, ApiKey.select().where(ApiKey.key_id == parent_id)).first(db)
    if parent is None or parent.revoked_at is not None or parent.parent_id is not None:
        return None
    if parent.expires_at is not None:
        if parent.expires_at <= now_us():
            return None
        expires_at = min(expires_at, parent.expires_at)
    own = get_key(db, parent_id)["scopes"]
    return create_key(
        db, name, [one for one in own if scopes is None or one in scopes],
        created_by=parent.created_by, expires_at=expires_at, parent_id=parent_id,
        rules=parent.rules if rules is None else rules, owner_session=owner_session,
    )  # fmt: skip


def purge_session_keys(db: peewee.Database, limit: int = 1000) -> int:
    """Remove session keys that ended more than an hour ago, some at a time.

    What they did was counted to the keys that made them.

    :returns: How many there were.
    """
    before = now_us() - _KEPT_US
    ended = (
        ApiKey.select(ApiKey.key_id)
        .where(ApiKey.parent_id.is_null(False))
        .where((ApiKey.expires_at < before) | (ApiKey.revoked_at < before))
        .limit(limit)
    )
    ids = [key_id for (key_id,) in ended.tuples().execute(db)]
    for model in (ApiKeyScope, KeyUse, ApiKey) if ids else ():
        model.delete().where(model.key_id.in_(ids)).execute(db)
    return len(ids)


def count_by_maker(db: peewee.Database) -> dict[str, tuple[int, int]]:
    """Return how many session keys of each key are valid, and how many of them a console's."""
    of_console = peewee.fn.COUNT(ApiKey.owner_session)
    query = ApiKey.select(ApiKey.parent_id, peewee.fn.COUNT(ApiKey.key_id), of_console).where(
        ApiKey.parent_id.is_null(False)
        & (ApiKey.replaced == 0)
        & ApiKey.revoked_at.is_null()
        & (ApiKey.expires_at > now_us())
    )
    rows = query.group_by(ApiKey.parent_id).tuples().execute(db)
    return {parent: (int(count), int(consoles)) for parent, count, consoles in rows}


def count_session_keys(db: peewee.Database, key_id: str, limit: int) -> int:
    """Return how many session keys of a key are valid; not more than a limit."""
    valid = ApiKey.select(ApiKey.key_id).where(
        (ApiKey.parent_id == key_id)
        & (ApiKey.replaced == 0)
        & ApiKey.revoked_at.is_null()
        & (ApiKey.expires_at > now_us())
    )
    return int(valid.limit(limit).count(db))

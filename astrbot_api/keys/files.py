"""Checks which stored files a key may use. Only bound keys are restricted.

A picture may have been pushed to thousands of users, and a user may have sent thousands of
messages. So each check reads a limited number of both.
"""

from __future__ import annotations

from collections.abc import Sequence

import peewee

from ..db.attachment_uses import find_user, has_more_uses, is_used, list_users
from ..db.attachments import AttachmentRow
from ..errors import ApiError
from .rules import KeyGuard, KeyRules

#: Numbers of a file's newest uses that are read, usually and at most. The second is also the
#: number of a user's newest messages that are searched for an earlier use.
_FEW_USES, _MAX_USES = 100, 10_000


def check_attachments(db: peewee.Database, guard: KeyGuard, sent: Sequence[AttachmentRow]) -> None:
    """Reject attachments of other users or sessions if the key is bound to some.

    :raises ApiError: ``attachment_not_found``.
    """
    for row in sent:
        if not may_use(db, guard, row):
            raise ApiError("attachment_not_found", f"attachment not found: {row.attachment_id}")


def may_use(db: peewee.Database, guard: KeyGuard, row: AttachmentRow) -> bool:
    """Return whether a key may use a file.

    A bound key may if a message of one of its users contains the file. If no message contains it,
    the key itself must have uploaded it, for one of its users or for no specific user.
    """
    if not guard.rules.binds_files:
        return True
    rules, own = guard.rules, _list_own(db, guard.rules, row, _FEW_USES)
    if not own:
        theirs = row.username is None or rules.allows_username(row.username)
        return theirs and row.key_id == guard.root_id and not is_used(db, row.id)
    return any(own) or (has_more_uses(db, row.id, _FEW_USES) and _is_used_earlier(db, rules, row))


def may_delete(db: peewee.Database, guard: KeyGuard, row: AttachmentRow) -> bool:
    """Return whether a file that a key may use is in no message of others."""
    if not guard.rules.binds_files:
        return True
    own = (_list_own(db, guard.rules, row, limit) for limit in (_FEW_USES, _MAX_USES))
    return all(map(all, own)) and not has_more_uses(db, row.id, _MAX_USES)


def _list_own(db: peewee.Database, rules: KeyRules, row: AttachmentRow, limit: int) -> list[bool]:
    """Return for each user and session among the newest uses of a file whether it is the key's."""
    return [
        rules.allows_username(user) and rules.session_id in (None, session_id)
        for user, session_id in list_users(db, row.id, limit)
    ]


def _is_used_earlier(db: peewee.Database, rules: KeyRules, row: AttachmentRow) -> bool:
    """Return whether a message of the key's users has a file that many newer messages have."""
    if rules.session_id is None and rules.username is None:  # any number of users
        return any(_list_own(db, rules, row, _MAX_USES))
    user = find_user(db, row.id, _MAX_USES, session_id=rules.session_id, username=rules.username)
    return user is not None and rules.allows_username(user)

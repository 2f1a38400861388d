"""Push a message into a session of the web chat, outside any turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import peewee

from ..db import messages, sessions
from ..db.attachment_uses import link_attachments
from ..db.attachments import AttachmentRow, find_attachments
from ..db.locks import lock_name
from ..db.sessions import NOBODY, WEBCHAT
from ..deliveries.webhooks import Announcer
from ..errors import ApiError
from ..keys.files import check_attachments
from ..keys.quotas import Quotas
from ..keys.rules import KeyGuard
from ..messages import Media, Segment, resolve_media
from .watching.pushes import Board


@dataclass(frozen=True, slots=True)
class PushedMessage:
    """A stored message: its id, its time in microseconds, and its session's number."""

    id: int
    created_at: int
    session: int


def resolve_stored(
    db: peewee.Database, segments: Sequence[Segment], guard: KeyGuard | None
) -> tuple[list[Segment], list[AttachmentRow]]:
    """Return segments with the types and names of their stored files, and the files' rows.

    :param guard: The sending key's guard, which limits the files it may use.
    :raises ApiError: ``attachment_not_found``.
    """
    rows = find_attachments(db, [one.attachment_id for one in segments if isinstance(one, Media)])
    if guard is not None:
        check_attachments(db, guard, list(rows.values()))
    found = {key: Media(key, row.type, row.name) for key, row in rows.items()}
    return resolve_media(segments, found), list(rows.values())


class Pusher:
    """Pushes messages into sessions of the web chat."""

    def __init__(self, board: Board, announcer: Announcer, quotas: Quotas) -> None:
        self.quotas = quotas
        self._announcer = announcer
        self._board = board

    def push(
        self,
        db: peewee.Database,
        *,
        username: str,
        session_id: str,
        segments: Sequence[Segment],
        guard: KeyGuard | None = None,
        payer: str | None = None,
    ) -> PushedMessage:
        """Store a message of the bot, and create the session if it does not exist.

        Call :meth:`announce` after the commit. The caller checks the quotas.

        :param username: Required owner of the session, or empty for any. A new session without a
            username belongs to its first user.
        :param guard: The sending key's guard, or None for no restrictions.
        :param payer: The key whose quota counts the message.
        :raises ApiError: ``session_of_another_user`` or ``attachment_not_found``. Nothing is
            stored then.
        """
        resolved, rows = resolve_stored(db, segments, guard)
        lock_name(db, "session", session_id)
        session = sessions.find_session(db, session_id)
        if session is None:
            session = sessions.create_session(db, session_id, username or NOBODY, key_id=payer)
        elif username and session.creator == NOBODY:
            session = sessions.claim_session(db, session, username)
        elif session.platform_id != WEBCHAT or username not in ("", session.creator):
            raise ApiError("session_of_another_user", "session_id belongs to another username")
        else:
            sessions.touch_session(db, session, session.config_id)
        content = {"type": "bot", "message": [one.to_wire() for one in resolved]}
        saved = messages.add_message(
            db, session.id, WEBCHAT, messages.BOT, content, None, pushed=True, payer=payer
        )
        link_attachments(db, saved[0], [row.id for row in rows])
        self._announcer.message_stored(
            db, session_id=session_id, platform_id=WEBCHAT, sender=messages.BOT,
            saved=saved, content=content, payer=payer,
        )  # fmt: skip
        return PushedMessage(*saved, session.id)

    def announce(self, pushed: PushedMessage) -> None:
        """Show a committed message in the open streams of its session."""
        self._board.announce(pushed.session)

"""A message that nobody asked for: stored in a web chat's session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import peewee

from ..db import messages, sessions
from ..db.attachments import AttachmentRow, find_attachments, link_attachments
from ..db.locks import lock_name
from ..db.sessions import NOBODY, WEBCHAT
from ..db.store import Store
from ..deliveries.webhooks import Announcer
from ..errors import ApiError
from ..keys.limits import check_attachments
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

    :param guard: Of the key that sends them: it may name only files that it may use.
    :raises ApiError: ``attachment_not_found``.
    """
    rows = find_attachments(db, [one.attachment_id for one in segments if isinstance(one, Media)])
    if guard is not None:
        check_attachments(db, guard, list(rows.values()))
    found = {key: Media(key, row.type, row.name) for key, row in rows.items()}
    return resolve_media(segments, found), list(rows.values())


class Pusher:
    """Pushes messages into sessions of the web chat."""

    def __init__(self, store: Store, board: Board, announcer: Announcer, quotas: Quotas) -> None:
        self.quotas = quotas
        self._announcer = announcer
        self._store = store
        self._board = board

    def push(
        self,
        *,
        username: str,
        session_id: str,
        segments: Sequence[Segment],
        guard: KeyGuard | None = None,
        payer: str | None = None,
    ) -> PushedMessage:
        """Store a message of the bot's; a session that is not there is made.

        :param username: Whose session it must be; empty: whosever it is. A
            new session without a username is its first user's.
        :param guard: Of the key that sends it; None: it has no rules.
        :param payer: The key whose quota it counts to.
        :raises ApiError: ``session_of_another_user``, ``attachment_not_found`` or
            ``quota_exceeded``; then nothing is stored.
        """

        def job(db: peewee.Database) -> PushedMessage:
            pushed = self.push_in(
                db, username=username, session_id=session_id, segments=segments, guard=guard,
                payer=payer,
            )  # fmt: skip
            self.quotas.check_at_end(db, payer)
            return pushed

        pushed = self._store.write(job)
        self.announce(pushed)
        return pushed

    def push_in(
        self,
        db: peewee.Database,
        *,
        username: str,
        session_id: str,
        segments: Sequence[Segment],
        guard: KeyGuard | None = None,
        payer: str | None = None,
    ) -> PushedMessage:
        """Store a message as :meth:`push` does, in the caller's transaction.

        Once that is committed, :meth:`announce` shows the message. What is
        refused is refused before anything is written. Checking the quotas is the caller's.
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
            saved=saved, content=content,
        )  # fmt: skip
        return PushedMessage(*saved, session.id)

    def announce(self, pushed: PushedMessage) -> None:
        """Show a message that is committed to the open streams of its session."""
        self._board.announce(pushed.session)

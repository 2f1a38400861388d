"""Change the last turn of a session: its user message, or its answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from ...db import message_pages, messages, runs
from ...db.attachment_uses import link_attachments
from ...db.attachments import AttachmentRow, find_attachments, lock_attachments
from ...db.locks import lock_name
from ...db.memory import forget_summary
from ...db.messages import MessageRow
from ...db.sessions import SessionRow, get_owned_session
from ...db.store import Store
from ...errors import ApiError
from ...keys.files import check_attachments
from ...keys.rules import KeyGuard
from ...messages import Media, Segment, keep_found, parse_stored_message, resolve_media
from ..context.supplied import SuppliedMessage


@dataclass(frozen=True, slots=True)
class LastTurn:
    """A session's last turn, to be answered again.

    :param user: The user message. ``bot`` is the answer, or None.
    """

    user: MessageRow
    bot: MessageRow | None

    @property
    def segments(self) -> list[Segment]:
        """Segments of the user message, as stored."""
        return parse_stored_message(self.user.content["message"])


def edit_user_message(
    store: Store,
    session_id: str,
    username: str,
    message_id: int,
    segments: Sequence[Segment],
    guard: KeyGuard | None,
    check_room: Callable[[peewee.Database], None],
) -> dict[str, Any]:
    """Replace the last message of the user.

    :param guard: Restricts the files that the key may attach.
    :param check_room: Checks the quotas, in the transaction.
    :returns: The message, as shown to clients.
    :raises ApiError: ``session_not_found``, ``session_of_another_user``, ``message_not_found``,
        ``message_not_editable``, ``session_busy``, ``message_empty`` or ``attachment_not_found``.
    """

    def job(db: peewee.Database) -> dict[str, Any]:
        lock_name(db, "session", session_id)  # so that no turn begins meanwhile
        session = get_owned_session(db, session_id, username)
        _check_idle(db, session)
        message = _get_message(db, session, message_id)
        if message.content.get("type") != "user":
            raise _not_editable(message_id, "is not the user's")
        _check_last(db, session, message)
        kept, sent = find_media(db, segments)
        if guard is not None:
            check_attachments(db, guard, sent)
        content = {"type": "user", "message": [one.to_wire() for one in kept]}
        messages.replace_content(db, message.id, content)
        check_room(db)
        link_attachments(db, message.id, [row.id for row in sent])
        forget_summary(db, session.id, message.id)
        return message_pages.get_described(db, message.id)

    return store.write(job)


def find_last_turn(
    db: peewee.Database, session: SessionRow, message_id: int, left: Collection[str]
) -> LastTurn:
    """Return a session's last turn, identified by either of its messages.

    :param left: Ids of active turns that are stopped before the answer is replaced.
    :raises ApiError: ``message_not_found``, ``message_not_editable`` or ``session_busy``.
    """
    _check_idle(db, session, left)
    message = _get_message(db, session, message_id)
    if message.content.get("type") == "user":
        turn = LastTurn(message, messages.find_of_turn(db, session.id, message, later=True))
    else:
        user = messages.find_of_turn(db, session.id, message, later=False)
        if user is None or user.content.get("type") != "user":
            raise _not_editable(message_id, "answers no message that is stored")
        turn = LastTurn(user, message)
    _check_last(db, session, turn.user)
    return turn


def find_media(
    db: peewee.Database, segments: Sequence[Segment], *, stored: bool = False
) -> tuple[Sequence[Segment], list[AttachmentRow]]:
    """Find the attachments of a message.

    :param stored: Whether the message is answered again. Deleted attachments are then skipped.
    :raises ApiError: ``attachment_not_found``, or ``message_empty`` if nothing is left to answer.
    """
    ids = [one.attachment_id for one in segments if isinstance(one, Media)]
    if not ids:
        return segments, []
    rows = lock_attachments(db, ids)
    found = {key: Media(key, row.type, row.name) for key, row in rows.items()}
    resolve = keep_found if stored else resolve_media
    return resolve(segments, found), list(rows.values())


def find_earlier_media(db: peewee.Database, said: Iterable[SuppliedMessage]) -> list[AttachmentRow]:
    """Find the files in messages that the caller sends as a conversation."""
    ids = {part["attachment_id"] for one in said for part in one.segments
           if "attachment_id" in part}  # fmt: skip
    return list(find_attachments(db, sorted(ids)).values()) if ids else []


def _check_idle(db: peewee.Database, session: SessionRow, left: Collection[str] = ()) -> None:
    """Raise ApiError ``session_busy`` if the session has another running or queued turn."""
    if not set(left).issuperset(runs.list_active_ids(db, session.id, waiting=False)):
        raise ApiError(
            "session_busy",
            "a turn of this session is running; wait for its end or stop it",
            retry_after_s=2,
        )


def _get_message(db: peewee.Database, session: SessionRow, message_id: int) -> MessageRow:
    message = messages.find_message(db, session.id, message_id)
    if message is None:
        raise ApiError("message_not_found", f"message not found: {message_id}")
    return message


def _check_last(db: peewee.Database, session: SessionRow, message: MessageRow) -> None:
    if messages.has_later_user_message(db, session.id, message.id):
        raise _not_editable(message.id, "is not of the session's last turn")


def _not_editable(message_id: int, why: str) -> ApiError:
    return ApiError(
        "message_not_editable", f"message {message_id} {why}; only the last turn can be changed"
    )

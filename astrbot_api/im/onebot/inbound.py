"""Converts OneBot 11 events to messages."""

from __future__ import annotations

import logging
from typing import Any

from ..adapter import InMessage
from .references import find_references
from .segments import list_files, read_segments, write_text

log = logging.getLogger(__name__)


def read_event(event: Any) -> InMessage | None:
    """Return the message of an event, or None for other events."""
    try:
        if event["post_type"] != "message" or event.get("sub_type") == "notice":
            return None
        return _read_message(event)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        log.warning("a OneBot event could not be parsed: %r", error)
        return None


def _read_message(event: dict[str, Any]) -> InMessage | None:
    own, sender_id = str(event["self_id"]), str(int(event["user_id"]))
    if sender_id == own:
        return None
    group = {"group": True, "private": False}[event["message_type"]]
    segments = read_segments(event["message"])
    called = any(one["type"] == "at" and one["data"].get("qq") == own for one in segments)
    text = write_text(segments, own)
    session_id = str(int(event["group_id"])) if group else _name_private(event, sender_id)
    chat = {"group_id": session_id} if group else {"user_id": sender_id}
    files = tuple(list_files(segments, chat))
    more = find_references(segments, own)
    if not (text or files or called or more):
        return None
    sender = event.get("sender") or {}
    return InMessage(
        # The time makes the id unique: implementations shorten QQ's long ids.
        event_id=f"{int(event['time'])}/{event['message_id']}",
        message_type="GroupMessage" if group else "FriendMessage",
        session_id=session_id,
        sender_id=sender_id,
        sender_name=str(sender.get("card") or sender.get("nickname") or ""),
        text=text,
        files=files,
        addressed=called or not group,
        platform_message_id=str(event["message_id"]),
        more=more,
    )


def _name_private(event: dict[str, Any], sender_id: str) -> str:
    """Return the session of a private message: ``USER`` or ``USER#GROUP``.

    A sender who is not a contact writes through a common group. QQ accepts a reply only with
    that group's number.
    """
    sender = event.get("sender") or {}
    group = sender.get("group_id") or event.get("group_id")
    if event.get("sub_type") != "group" or not group:
        return sender_id
    return f"{sender_id}#{int(group)}"

"""Converts Slack's events to messages. Source: https://docs.slack.dev/apis/events-api"""

from __future__ import annotations

import logging
from typing import Any

from ..adapter import InMessage
from .mrkdwn import read_mrkdwn
from .quoting import find_thread, list_files, read_shared, write_blocks

log = logging.getLogger(__name__)

#: Subtypes of ``message`` that users write. The others are edits, joins and so on.
_SAID = (None, "file_share", "thread_broadcast", "me_message")


def read_event(body: dict[str, Any], threads: bool) -> InMessage | None:
    """Return the message of a request, or None for other events.

    :param threads: Whether a mention in a channel starts a thread.
    """
    try:
        event = body["event"]
        if event["type"] not in ("app_mention", "message"):
            return None
        return _read_message(event, _find_own_id(body), threads)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        log.warning("a Slack event could not be parsed: %r", error)
        return None


def read_press(body: dict[str, Any]) -> InMessage | None:
    """Return the message that a button press stands for, or None for other buttons."""
    try:
        action, message = body["actions"][0], body["message"]
        channel, text = str(body["channel"]["id"]), action["value"]
        if body["type"] != "block_actions" or not isinstance(text, str):
            return None
        thread = message.get("thread_ts")
        private = channel.startswith("D")
        return InMessage(
            event_id=f"{channel}/{message['ts']}/{action['action_ts']}",
            message_type="FriendMessage" if private else "GroupMessage",
            session_id=f"{channel}#{thread}" if thread else channel,
            sender_id=str(body["user"]["id"]),
            sender_name="",
            text=text,
            platform_message_id=str(message["ts"]),
        )
    except (LookupError, TypeError, AttributeError) as error:
        log.warning("a Slack button press could not be parsed: %r", error)
        return None


def _read_message(event: dict[str, Any], own_id: str, threads: bool) -> InMessage | None:
    # A bot that answers bots or itself may never stop.
    if event.get("subtype") not in _SAID or event.get("bot_id") or event["user"] == own_id:
        return None
    channel, ts = str(event["channel"]), str(event["ts"])
    private = event.get("channel_type") == "im" or channel.startswith("D")
    said = str(event.get("text") or "") or write_blocks(event.get("blocks"))
    text, mentioned = read_mrkdwn(said, own_id)
    quoted, shared = read_shared(event, own_id)
    mentioned = mentioned or event["type"] == "app_mention"
    files = (*list_files(event), *shared)
    if not (text or files or mentioned or quoted):
        return None
    thread = event.get("thread_ts")
    if not thread and threads and not private:
        thread = ts
    return InMessage(
        # Not Slack's event_id: an app that subscribes to both event types receives a
        # mention twice, as a mention and as a message.
        event_id=f"{channel}/{ts}",
        message_type="FriendMessage" if private else "GroupMessage",
        session_id=f"{channel}#{thread}" if thread else channel,
        sender_id=str(event["user"]),
        sender_name="",
        text=text,
        files=files,
        addressed=private or mentioned,
        quoted=quoted or None,
        platform_message_id=ts,
        more=find_thread(event, own_id),
    )


def _find_own_id(body: dict[str, Any]) -> str:
    """Return the bot's user id, or empty if Slack names another party that installed the app."""
    found = (
        one["user_id"] for one in body.get("authorizations") or () if one.get("is_bot") is not False
    )
    return str(next(found, ""))

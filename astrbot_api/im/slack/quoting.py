"""What a message of Slack refers to: shared messages, and what its thread says before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from ..adapter import InFile, InMessage
from .api import SlackApi
from .files import list_files
from .mrkdwn import read_mrkdwn

#: Bounds of what is quoted: others chose it.
_MAX_MESSAGES = 20
_MAX_CHARS = 20_000
_MAX_ATTACHMENTS = 20

#: Messages of a thread that are asked for; of a longer one only the first is quoted.
_ASKED = 100
_ASK_S = 10.0


def read_shared(event: dict[str, Any], own_id: str) -> tuple[str, list[InFile]]:
    """Return the text and the files of the messages that somebody shared in a message."""
    texts, files = [], list[InFile]()
    attachments = event.get("attachments")
    for one in attachments[:_MAX_ATTACHMENTS] if isinstance(attachments, list) else ():
        # Other attachments are previews of web pages.
        if isinstance(one, dict) and (one.get("is_share") or one.get("is_msg_unfurl")):
            said, _ = read_mrkdwn(str(one.get("text") or one.get("fallback") or ""), own_id)
            name = one.get("author_name") or one.get("author_subname")
            texts.append(f"{name}: {said}" if name and said else said)
            files += list_files(one)
    return "\n".join(filter(None, texts))[:_MAX_CHARS], files


def find_thread(event: dict[str, Any], own_id: str) -> str:
    """Return which thread a message is said in, for :func:`fetch_thread`; empty: in none."""
    thread, ts = event.get("thread_ts"), event["ts"]
    if not thread or thread == ts:
        return ""
    asked = {"channel": event["channel"], "ts": thread, "before": ts, "own": own_id}
    return orjson.dumps(asked).decode()


def fetch_thread(api: SlackApi, message: InMessage) -> InMessage:
    """Return a message with what its thread says since the bot's last answer.

    What is before that is in the history of the session.

    :raises PlatformError: without the scope ``channels:history`` or ``groups:history``, say.
    """
    asked = orjson.loads(message.more)
    found = api.call(
        "conversations.replies",
        {
            "channel": asked["channel"], "ts": asked["ts"], "latest": asked["before"],
            "limit": str(_ASKED),
        },
        timeout_s=_ASK_S,
    )  # fmt: skip
    said = [one for one in found.get("messages") or () if isinstance(one, dict)][:_ASKED]
    if found.get("has_more"):
        said = said[:1]
    unseen = list(_list_unseen(said, asked["before"], asked["own"]))[-_MAX_MESSAGES:]
    lines = [f"@{one.get('user') or 'bot'}: {text}" for one, text in unseen if text]
    files = [file for one, _ in unseen for file in list_files(one)]
    quoted = "\n".join(filter(None, (message.quoted, *lines)))[:_MAX_CHARS]
    return replace(
        message, quoted=quoted or None, files=(*message.files, *files)[:_MAX_MESSAGES], more=""
    )


def _list_unseen(
    said: list[dict[str, Any]], before: str, own_id: str
) -> Iterator[tuple[dict[str, Any], str]]:
    """Return the messages behind the last one of the bot or to it, each with its text."""
    read = [(one, *read_mrkdwn(str(one.get("text") or ""), own_id)) for one in said]
    read = [one for one in read if str(one[0].get("ts")) != before]
    seen = [at for at, (one, _, called) in enumerate(read) if called or one.get("user") == own_id]
    for one, text, _ in read[seen[-1] + 1 if seen else 0 :]:
        yield one, text

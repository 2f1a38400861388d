"""Files and references in a Slack message: shared messages, earlier messages of its thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from ..adapter import FileType, InFile, InMessage
from .api import SlackApi
from .mrkdwn import read_mrkdwn

_TYPES: dict[str, FileType] = {"image": "image", "audio": "record", "video": "video"}

#: Blocks whose elements form a line, and the fields with more blocks.
_LINES = ("rich_text_section", "rich_text_preformatted", "rich_text_quote")
_NESTED = ("fields", "elements", "message", "blocks")

#: Limits of the quoted content, which others choose.
_MAX_MESSAGES = 20
_MAX_CHARS = 20_000
_MAX_ATTACHMENTS = 20

#: Number of messages to request. Of a longer thread, only the first message is quoted.
_ASKED = 100
_ASK_S = 10.0


def list_files(message: dict[str, Any]) -> Iterator[InFile]:
    """Yield the files of a message or of a shared message."""
    for file in message.get("files") or ():
        url = file.get("url_private_download") or file.get("url_private")
        # A file of a channel shared between workspaces has only an id.
        if file.get("file_access") == "check_file_info":
            url = file.get("id")
        # Skip tombstones and files at external services.
        if url and not file.get("is_external"):
            kind = str(file.get("mimetype") or "").partition("/")[0]
            name = str(file.get("name") or file.get("title") or "file")
            yield InFile(_TYPES.get(kind, "file"), name, str(url))


def read_shared(event: dict[str, Any], own_id: str) -> tuple[str, list[InFile]]:
    """Return the text and the files of shared messages."""
    texts, files = [], list[InFile]()
    attachments = event.get("attachments")
    for one in attachments[:_MAX_ATTACHMENTS] if isinstance(attachments, list) else ():
        # Other attachments are previews of web pages.
        if isinstance(one, dict) and (one.get("is_share") or one.get("is_msg_unfurl")):
            said, _ = read_mrkdwn(_write_attachment(one), own_id)
            name = one.get("author_name") or one.get("author_subname")
            texts.append(f"{name}: {said}" if name and said else said)
            files += list_files(one)
    return "\n".join(filter(None, texts))[:_MAX_CHARS], files


def find_thread(event: dict[str, Any], own_id: str) -> str:
    """Return a message's thread for :func:`fetch_thread`, or an empty text."""
    thread, ts = event.get("thread_ts"), event["ts"]
    if not thread or thread == ts:
        return ""
    asked = {"channel": event["channel"], "ts": thread, "before": ts, "own": own_id}
    return orjson.dumps(asked).decode()


def fetch_thread(api: SlackApi, message: InMessage) -> InMessage:
    """Return a message with its thread's messages since the bot's last reply.

    Earlier messages are already in the history of the session.

    :raises PlatformError: for example without the scope ``channels:history`` or
        ``groups:history``.
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
    said = [one for one in found.get("messages") or () if isinstance(one, dict)]
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
    """Yield the messages after the last one from or to the bot, each with its text."""
    read = [(one, *read_mrkdwn(_write_message(one), own_id)) for one in said]
    read = [one for one in read if str(one[0].get("ts")) != before]
    seen = [at for at, (one, _, called) in enumerate(read) if called or one.get("user") == own_id]
    for one, text, _ in read[seen[-1] + 1 if seen else 0 :]:
        yield one, text


def _write_message(message: dict[str, Any]) -> str:
    """Return the text of a message with its blocks and attachments, in which alerts say more."""
    text = str(message.get("text") or "")
    attachments = [one for one in message.get("attachments") or () if isinstance(one, dict)]
    if text:
        attachments = [one for one in attachments if not _is_preview(one)]
    # The text of a message as people write it has the same content as its blocks.
    blocks = _list_layout(message.get("blocks")) if text else message.get("blocks")
    said = [text, write_blocks(blocks), *map(_write_attachment, attachments)]
    return "\n".join(dict.fromkeys(filter(None, said)))


def _is_preview(attachment: dict[str, Any]) -> bool:
    """Return whether an attachment is the preview of a web page whose link is in the text."""
    is_shared = attachment.get("is_share") or attachment.get("is_msg_unfurl")
    return not is_shared and bool(attachment.get("from_url") or attachment.get("original_url"))


def _list_layout(blocks: Any) -> list[Any]:
    """Return the blocks that only programs send."""
    found = blocks if isinstance(blocks, list) else []
    return [one for one in found if isinstance(one, dict) and one.get("type") != "rich_text"]


def _write_attachment(attachment: dict[str, Any]) -> str:
    said = [attachment.get(name) for name in ("pretext", "title", "text")]
    said += [
        f"{one.get('title', '')}: {one.get('value', '')}"
        for one in attachment.get("fields") or ()
        if isinstance(one, dict)
    ]
    shown = "\n".join(str(one) for one in said if one)
    blocks = (write_blocks(attachment.get(name)) for name in ("blocks", "message_blocks"))
    return shown or "\n".join(filter(None, blocks)) or str(attachment.get("fallback") or "")


def write_blocks(value: Any) -> str:
    """Return the text of blocks, in Slack's markup. Buttons are left out."""
    if isinstance(value, list):
        return "\n".join(filter(None, map(write_blocks, value)))
    if not isinstance(value, dict) or value.get("type") == "actions":
        return ""
    if value.get("type") == "user":
        return f"<@{value.get('user_id', '')}>"
    rows = value.get("rows")
    if isinstance(rows, list):
        return "\n".join(map(_write_row, rows))
    text, elements = value.get("text"), value.get("elements")
    if value.get("type") in _LINES and isinstance(elements, list):
        return "".join(map(write_blocks, elements))
    said = text if isinstance(text, str) else write_blocks(text) or str(value.get("url") or "")
    inner = (write_blocks(value.get(name)) for name in _NESTED)
    return "\n".join(filter(None, (said, *inner)))


def _write_row(row: Any) -> str:
    """Return the row of a table block."""
    cells = map(write_blocks, row if isinstance(row, list) else ())
    return f"| {' | '.join(one.replace(chr(10), ' ') for one in cells)} |"

"""References in a QQ message: the quoted message and forwarded messages.

An event contains only their ids. Sources: get_msg and get_forward_msg in
https://github.com/botuniverse/onebot-11/blob/master/api/public.md, and the answers of NapCat,
Lagrange and go-cqhttp, which use different field names.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from ...deliveries.http import PlatformError
from ..adapter import InFile, InMessage
from .api import OneBotApi
from .segments import list_files, read_segments, write_marked_text

log = logging.getLogger(__name__)

#: Limits per message, because the sender chooses its references.
_MAX_S = 20.0
_MAX_CALLS = 8
_MAX_NODES = 100
_MAX_DEPTH = 3
_MAX_CHARS = 20_000
_MAX_FILES = 10

_UNREADABLE = "[The quoted message could not be read.]"
_BUNDLE = "[Forwarded messages]"
_UNREAD_BUNDLE = "[Forwarded messages, which could not be read]"
_CUT = "[… cut off here]"

_NUMBER = re.compile(r"-?\d{1,19}", re.ASCII)


def find_references(segments: list[dict[str, Any]], own: str) -> str:
    """Return the references in an event's segments, for :func:`fetch_references`.

    :param own: The bot's number.
    :returns: JSON, or empty if there are no references.
    """
    quoted = next((one["data"].get("id") for one in segments if one["type"] == "reply"), None)
    bundles = [one["data"] for one in segments if one["type"] == "forward"]
    if not quoted and not bundles:
        return ""
    return orjson.dumps({"own": own, "quoted": quoted, "bundles": bundles}).decode()


def fetch_references(api: OneBotApi, message: InMessage) -> InMessage:
    """Return a message with the texts and files of its references."""
    asked = orjson.loads(message.more)
    in_group = message.message_type == "GroupMessage"
    fetching = _Fetching(
        api, {"group_id": message.session_id} if in_group else {"user_id": message.sender_id}
    )
    quoted = fetching.read_quoted(asked["quoted"], message, asked["own"]) if asked["quoted"] else ""
    bundles = [line for data in asked["bundles"] for line in fetching.read_bundle(data, 1)]
    text = "\n".join(filter(None, (message.text, _cut(bundles))))
    files = (*message.files, *fetching.files[:_MAX_FILES])
    return replace(message, text=text, quoted=quoted or None, files=files, more="")


@dataclass
class _Fetching:
    """Files and limits while one message's references are fetched.

    :param chat: As in :func:`list_files`.
    """

    api: OneBotApi
    chat: dict[str, str]
    files: list[InFile] = field(default_factory=list)
    calls: int = 0
    nodes: int = 0
    ends_at: float = field(default_factory=lambda: time.monotonic() + _MAX_S)

    def read_quoted(self, number: str, message: InMessage, own: str) -> str:
        """Return the text of a quoted message, and collect its files."""
        found = self._call("get_msg", {"message_id": _to_id(number)})
        if not isinstance(found, dict) or not _is_of_chat(found, message, own):
            return _UNREADABLE
        return _cut(list(self._read_content(_find_content(found), 1)))

    def read_bundle(self, data: dict[str, Any], depth: int) -> Iterator[str]:
        """Yield the lines of forwarded messages as ``Name: text``, nested ones indented."""
        nodes = data.get("content")
        if not isinstance(nodes, list) or not nodes:
            nodes = self._fetch_nodes(str(data.get("id") or ""))
        if not nodes:
            yield _UNREAD_BUNDLE
            return
        yield _BUNDLE
        for node in nodes:
            if self.nodes >= _MAX_NODES:
                yield _CUT
                return
            self.nodes += 1
            yield from self._read_node(node, depth)

    def _read_node(self, node: Any, depth: int) -> Iterator[str]:
        if not isinstance(node, dict):
            return
        if node.get("type") == "node" and isinstance(node.get("data"), dict):
            node = node["data"]
        lines = "\n".join(self._read_content(_find_content(node), depth))
        yield f"{_find_name(node)}: {lines[:_MAX_CHARS]}".replace("\n", "\n  ")

    def _read_content(self, content: Any, depth: int) -> Iterator[str]:
        """Yield the text of one message, and the lines of forwarded messages in it."""
        segments = read_segments([content] if isinstance(content, dict) else content)
        self.files += list_files(segments, self.chat)
        text = write_marked_text(segments)
        if text:
            yield text
        for one in segments:
            if one["type"] == "forward" and depth < _MAX_DEPTH:
                yield from self.read_bundle(one["data"], depth + 1)
            elif one["type"] == "forward":
                yield _UNREAD_BUNDLE

    def _fetch_nodes(self, number: str) -> list[Any]:
        # NapCat uses one of the names, go-cqhttp and the standard use the other.
        found = self._call("get_forward_msg", {"id": number, "message_id": number})
        if isinstance(found, dict):
            found = found.get("messages") or found.get("message")
        return found if isinstance(found, list) else []

    def _call(self, action: str, parameters: dict[str, Any]) -> Any:
        left_s = self.ends_at - time.monotonic()
        if self.calls >= _MAX_CALLS or left_s <= 0:
            return None
        self.calls += 1
        try:
            return self.api.call(action, parameters, timeout_s=left_s)
        except PlatformError as error:
            log.warning("a referenced message could not be fetched: %s", error)
            return None


def _is_of_chat(found: dict[str, Any], message: InMessage, own: str) -> bool:
    """Return whether a quoted message belongs to the same chat. Its id may be forged."""
    if message.message_type == "GroupMessage":
        group = str(found.get("group_id") or message.session_id)
        return found.get("message_type") != "private" and group == message.session_id
    sender = _as_dict(found.get("sender")).get("user_id") or found.get("user_id")
    return found.get("message_type") != "private" or str(sender) in (message.sender_id, own)


def _find_content(message: dict[str, Any]) -> Any:
    return message.get("message") or message.get("content") or []


def _find_name(node: dict[str, Any]) -> str:
    sender = _as_dict(node.get("sender"))
    named = (sender.get("card"), sender.get("nickname"), node.get("nickname"), node.get("name"))
    found = next(filter(None, named), None) or sender.get("user_id") or node.get("user_id")
    return str(found or "?")[:100]


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _to_id(number: str) -> int | str:
    return int(number) if _NUMBER.fullmatch(number) else number


def _cut(lines: list[str]) -> str:
    text = "\n".join(lines)
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}\n{_CUT}"

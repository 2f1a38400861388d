"""Events of OneBot 11, read into messages."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import orjson

from ..adapter import FileType, InFile, InMessage
from .segments import read_segments

log = logging.getLogger(__name__)

#: Type of segment -> type of the file, and its name where it has none.
_FILES: dict[str, tuple[FileType, str]] = {
    "image": ("image", "image.jpg"),
    "record": ("record", "record.amr"),
    "video": ("video", "video.mp4"),
    "file": ("file", "file"),
}


class EventReader:
    """Reads the events that an implementation posts."""

    def read(self, event: Any) -> InMessage | None:
        """Return the message of an event; None for any other event."""
        try:
            if event["post_type"] != "message" or event.get("sub_type") == "notice":
                return None
            return self._read_message(event)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("an event of OneBot is not understood: %r", error)
            return None

    def _read_message(self, event: dict[str, Any]) -> InMessage | None:
        own, sender_id = str(event["self_id"]), str(int(event["user_id"]))
        if sender_id == own:
            return None
        group = {"group": True, "private": False}[event["message_type"]]
        segments = read_segments(event["message"])
        called = any(one["type"] == "at" and one["data"].get("qq") == own for one in segments)
        text = "".join(_texts(segments, own)).strip()
        files = tuple(self._list_files(segments))
        if not text and not files and not called:
            return None
        sender = event.get("sender") or {}
        return InMessage(
            # The implementations make short ids of QQ's long ones.
            event_id=f"{int(event['time'])}/{event['message_id']}",
            message_type="GroupMessage" if group else "FriendMessage",
            session_id=str(int(event["group_id"])) if group else sender_id,
            sender_id=sender_id,
            sender_name=str(sender.get("card") or sender.get("nickname") or ""),
            text=text,
            files=files,
            addressed=called or not group,
            platform_message_id=str(event["message_id"]),
        )

    def _list_files(self, segments: list[dict[str, Any]]) -> Iterator[InFile]:
        for one in segments:
            if one["type"] in _FILES:
                kind, name = _FILES[one["type"]]
                data = one["data"]
                shown = data.get("name") or data.get("file") or name
                # go-cqhttp names a file by its address or by its hash.
                if "/" in shown or "." not in shown:
                    shown = name
                yield InFile(kind, shown, orjson.dumps([one["type"], data]).decode())


def _texts(segments: list[dict[str, Any]], own: str) -> Iterator[str]:
    for one in segments:
        data = one["data"]
        if one["type"] == "text":
            yield data.get("text", "")
        elif one["type"] == "at" and data.get("qq") != own:
            yield f"@{data.get('name') or data.get('qq', '')} "

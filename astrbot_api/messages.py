"""Messages from clients: a string, or a list of segments.

Chat is as lenient as the recorded server: it drops segments that it does not know or cannot
resolve, as long as something is left to answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ApiError, refuse

#: Types of segments with an ``attachment_id``.
MEDIA_TYPES = ("image", "record", "video", "file")

EMPTY_MESSAGE = "Message content is empty (reply only is not allowed)"


@dataclass(frozen=True, slots=True)
class Plain:
    """Text."""

    text: str

    def to_wire(self) -> dict[str, Any]:
        """Return the segment in its stored form, which clients also see."""
        return {"type": "plain", "text": self.text}


@dataclass(frozen=True, slots=True)
class Reply:
    """A quotation of a stored message of the same session.

    ``selected_text``, if not empty, is the quoted part.
    """

    message_id: int | str
    selected_text: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Return the segment in its stored form, which clients also see."""
        return {
            "type": "reply",
            "message_id": self.message_id,
            "selected_text": self.selected_text,
        }


@dataclass(frozen=True, slots=True)
class Media:
    """An uploaded picture, recording, video or other file.

    ``type`` and ``filename`` are the attachment's own once it is found. The caller's values are
    ignored.
    """

    attachment_id: str
    type: str = ""
    filename: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Return the segment in its stored form, which clients also see."""
        return {
            "type": self.type,
            "attachment_id": self.attachment_id,
            "filename": self.filename,
        }


Segment = Plain | Reply | Media


def parse_chat_message(value: Any, *, max_chars: int, max_segments: int) -> list[Segment]:
    """Parse the ``message`` of a chat request.

    Use :func:`resolve_media` to look up the attachments of its media segments.

    :param value: Value in the JSON body: a string or a list of objects.
    :raises ApiError: ``message_empty`` or ``invalid_request``.
    """
    if isinstance(value, str):
        check_text("message", value)
        segments: list[Segment] = [Plain(value.strip())]
    elif isinstance(value, list):
        _check_count(value, max_segments)
        if value and not any(isinstance(part, dict) for part in value):
            raise refuse("message[0]: message part must be an object")
        found = (_parse_segment(part, f"message[{at}]") for at, part in enumerate(value))
        segments = [segment for segment in found if segment is not None]
    elif isinstance(value, dict):
        segments = []
    else:
        raise refuse("message must be a string or list")
    segments = [one for one in segments if not isinstance(one, Plain) or one.text]
    require_content(segments)
    _check_chars(segments, max_chars)
    return segments


def parse_stored_message(parts: list[dict[str, Any]]) -> list[Segment]:
    """Parse the segments of a stored message, which was validated when it arrived.

    Imported messages may refer to missing files, which are dropped.
    """
    kept = (
        part
        for part in parts
        if part.get("type") not in MEDIA_TYPES or _read_attachment_id(part) is not None
    )
    found = (_parse_segment(part, "message") for part in kept)
    return [segment for segment in found if segment is not None]


def parse_im_message(
    value: Any, *, max_chars: int, max_segments: int, copies: int = 1
) -> list[Segment]:
    """Parse the ``message`` of a proactive message, strictly, unlike chat.

    The attachments of its media segments are not looked up yet.

    :param copies: How many times it will be stored. All copies together may have ``max_chars``.
    :raises ApiError: ``message_empty`` or ``invalid_request``.
    """
    if isinstance(value, str):
        check_text("message", value)
        segments: list[Segment] = [Plain(value)]
    elif isinstance(value, list):
        _check_count(value, max_segments)
        segments = [_parse_im_segment(part) for part in value]
    else:
        raise refuse("message must be a string or list")
    segments = [one for one in segments if not isinstance(one, Plain) or one.text]
    require_content(segments)
    if any(isinstance(one, Reply) for one in segments):
        raise refuse("reply segments are not supported by im/message")
    _check_chars(segments, max_chars, copies)
    return segments


def resolve_media(segments: Iterable[Segment], found: Mapping[str, Media]) -> list[Segment]:
    """Replace ids with the stored attachments.

    :param found: Segments with the stored type and name, by attachment id.
    :raises ApiError: ``attachment_not_found`` for the first missing one.
    """
    resolved: list[Segment] = []
    for one in segments:
        if isinstance(one, Media) and one.attachment_id not in found:
            raise ApiError("attachment_not_found", f"attachment not found: {one.attachment_id}")
        resolved.append(found[one.attachment_id] if isinstance(one, Media) else one)
    return resolved


def keep_found(segments: Iterable[Segment], found: Mapping[str, Media]) -> list[Segment]:
    """Replace ids with the stored attachments, and drop those not found.

    :param found: Segments with the stored type and name, by attachment id.
    :raises ApiError: ``message_empty`` if nothing is left to answer.
    """
    kept: list[Segment] = []
    for segment in segments:
        if not isinstance(segment, Media):
            kept.append(segment)
        elif segment.attachment_id in found:
            kept.append(found[segment.attachment_id])
    require_content(kept)
    return kept


def require_content(segments: Iterable[Segment]) -> None:
    """Raise ApiError ``message_empty`` if there are only quotations."""
    for one in segments:
        if isinstance(one, Media) or (isinstance(one, Plain) and one.text.strip()):
            return
    raise ApiError("message_empty", EMPTY_MESSAGE)


def separate_texts(segments: Iterable[Segment]) -> list[Segment]:
    """Return segments without empty texts, and with each further text on a new line.

    For protocols whose text parts are separate texts. Stored texts are joined directly.
    """
    found: list[Segment] = []
    seen = False
    for one in segments:
        if isinstance(one, Plain):
            if not one.text:
                continue
            one, seen = Plain(f"\n{one.text}" if seen else one.text), True
        found.append(one)
    return found


def _check_count(parts: list[Any], max_segments: int) -> None:
    if len(parts) > max_segments:
        raise refuse(f"message has {len(parts)} segments; at most {max_segments} are allowed")


def _check_chars(segments: Iterable[Segment], max_chars: int, copies: int = 1) -> None:
    chars = sum(_count_chars(one) for one in segments)
    if chars * copies > max_chars:
        each = f" for each of {copies} targets" if copies > 1 else ""
        raise refuse(f"message has {chars} characters{each}; at most {max_chars} are allowed")


def _count_chars(segment: Segment) -> int:
    """Return the total length of all caller-chosen texts in a segment."""
    if isinstance(segment, Plain):
        return len(segment.text)
    if isinstance(segment, Reply):
        return len(str(segment.message_id)) + len(segment.selected_text)
    return len(segment.attachment_id) + len(segment.filename)


def _parse_im_segment(part: Any) -> Segment:
    """Parse one segment of a proactive message. Error texts are the recorded server's."""
    if not isinstance(part, dict):
        raise refuse("message part must be an object")
    kind = part.get("type", "")
    if kind == "plain":
        return Plain(_text_or_number(part.get("text", ""), "text"))
    if kind == "reply":
        number = part.get("message_id")
        if isinstance(number, bool) or not isinstance(number, (int, str)) or number == "":
            raise refuse("reply part missing message_id")
        return Reply(number)
    if kind in MEDIA_TYPES:
        return _parse_media(kind, part)
    shown = kind if isinstance(kind, str) else type(kind).__name__
    raise refuse(f"unsupported message part type: {shown[:100]}")


def _parse_media(kind: str, part: dict[str, Any]) -> Media:
    attachment_id = _read_attachment_id(part)
    if attachment_id is None:
        raise refuse(f"{kind} part missing attachment_id")
    check_text("attachment_id", attachment_id)
    return Media(attachment_id)


def _read_attachment_id(part: dict[str, Any]) -> str | None:
    value = part.get("attachment_id")
    return (value.strip() or None) if isinstance(value, str) else None


def _parse_segment(part: Any, where: str) -> Segment | None:
    """Parse one segment; return None for a segment that chat drops."""
    if not isinstance(part, dict):
        return None
    kind = part.get("type")
    if kind == "plain":
        text = _text_or_number(part.get("text", ""), f"{where}.text")
        return Plain(text)
    if kind in MEDIA_TYPES:
        return _parse_media(kind, part)
    if kind == "reply":
        message_id = to_whole(part.get("message_id"))
        if message_id is None or message_id == "":
            return None
        if isinstance(message_id, bool) or not isinstance(message_id, (int, str)):
            raise refuse(f"{where}.message_id must be a string or an integer")
        if isinstance(message_id, str):
            check_text(f"{where}.message_id", message_id)
        selected = part.get("selected_text")
        quoted = "" if selected is None else _text_or_number(selected, f"{where}.selected_text")
        return Reply(message_id, quoted)
    return None


def to_whole(value: Any) -> Any:
    """Convert a whole JSON number with a decimal point, such as ``5.0``, to an integer.

    A number beyond 64 bits becomes a string, since this server writes no such numbers. Other values
    are returned unchanged.
    """
    if not isinstance(value, float) or not value.is_integer():
        return value
    whole = int(value)
    return whole if -(2**63) <= whole < 2**64 else str(whole)


def _text_or_number(value: Any, where: str) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise refuse(f"{where} must be a string")
    check_text(where, value)
    return value


def check_text(where: str, text: str) -> None:
    """Refuse text that databases or clients cannot store unchanged.

    :param where: Name of the field, for the message.
    :raises ApiError: ``invalid_request`` for a NUL or half of a surrogate pair.
    """
    if "\x00" in text:
        raise refuse(f"{where} must not contain the character NUL (U+0000)")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise refuse(f"{where} must be valid Unicode: it has half of a surrogate pair") from error


def clean_text(text: str) -> str:
    """Return text without what :func:`check_text` refuses.

    For conversations that a client sends again: it cannot remove a binary tool result from them.
    """
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def plain_text(segments: list[dict[str, Any]]) -> str:
    """Return the text of stored segments, without other segments."""
    return "".join(one["text"] for one in segments if one.get("type") == "plain")

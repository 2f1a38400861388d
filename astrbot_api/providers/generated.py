"""Pictures and sound that a model makes, in the shapes that endpoints send them."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from typing import Any

from ..agent.provider import MediaDelta

#: Most bytes of media of one answer, encoded.
MAX_CHARS = 64 * 1024 * 1024

#: OpenAI's pcm16: 24 kHz, one channel.
_PCM_RATE_HZ = 24_000

_ENDINGS = {
    "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif",
    "audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/ogg": "ogg",
    "audio/flac": "flac", "video/mp4": "mp4",
}  # fmt: skip

_MAGIC = (
    (b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpg"), (b"GIF8", "gif"), (b"OggS", "ogg"),
    (b"fLaC", "flac"), (b"ID3", "mp3"), (b"\xff\xfb", "mp3"), (b"\xff\xf3", "mp3"),
)  # fmt: skip


def read_image(part: Any) -> MediaDelta | str:
    """Understand one picture: an ``image_url`` part, ``b64_json``, or a URL alone.

    :returns: The picture, or the address of one that is elsewhere; empty: it is none.
    """
    if isinstance(part, str):
        return _read_url(part)
    if not isinstance(part, Mapping):
        return ""
    for key in ("image_url", "url", "image", "source"):
        inner = part.get(key)
        if isinstance(inner, Mapping):
            return read_image(inner)
        if isinstance(inner, str):
            return _read_url(inner)
    for key in ("b64_json", "data", "image_base64"):
        if isinstance(part.get(key), str):
            kind = str(part.get("mime_type") or part.get("media_type") or "")
            return _decode(part[key], _ENDINGS.get(kind, ""), "image")
    return ""


def _read_url(url: str) -> MediaDelta | str:
    head, comma, data = url.partition(",")
    if head.startswith("data:") and comma:
        kind = head[5:].partition(";")[0].strip().lower()
        return _decode(data, _ENDINGS.get(kind, ""), kind.partition("/")[0] or "image")
    return url if url.startswith(("https://", "http://")) else ""


class SoundCollector:
    """Puts the sound of one answer together: base64 in pieces, and what is said in it."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._format = ""

    def add(self, audio: Mapping[str, Any]) -> str:
        """Take one ``audio`` object; return what it adds to the transcript."""
        data = audio.get("data")
        if isinstance(data, str) and data:
            self._pieces.append(data)
        self._format = str(audio.get("format") or self._format)
        transcript = audio.get("transcript")
        return transcript if isinstance(transcript, str) else ""

    def finish(self, asked_format: str) -> list[MediaDelta]:
        """Return the sound, if any came.

        :param asked_format: What the request asked for: ``pcm16`` has no header of its own.
        """
        pieces, self._pieces = self._pieces, []
        # Each piece may be encoded by itself, padding and all.
        found = b"".join(map(_decode_bytes, pieces))
        if not found:
            return []
        kind = self._format or asked_format
        ending = _find_ending(found) or ("wav" if kind in ("pcm16", "") else kind)
        if kind == "pcm16" and not _find_ending(found):
            found = _add_wav_head(found)
        return [MediaDelta(found, f"audio.{ending}")]


def _decode(data: str, ending: str, name: str) -> MediaDelta | str:
    found = _decode_bytes(data)
    if not found:
        return ""
    return MediaDelta(found, f"{name}.{_find_ending(found) or ending or 'png'}")


def _decode_bytes(data: str) -> bytes:
    try:
        return base64.b64decode("".join(data.split()) + "=" * (-len(data) % 4))
    except (binascii.Error, ValueError):
        return b""


def _find_ending(data: bytes) -> str:
    if data[:4] == b"RIFF":
        return "webp" if data[8:12] == b"WEBP" else "wav"
    return next((ending for magic, ending in _MAGIC if data.startswith(magic)), "")


def _add_wav_head(data: bytes) -> bytes:
    form = struct.pack("<HHIIHH", 1, 1, _PCM_RATE_HZ, _PCM_RATE_HZ * 2, 2, 16)
    size = len(data)
    head = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<I", 16) + form
    return head + b"data" + struct.pack("<I", size) + data

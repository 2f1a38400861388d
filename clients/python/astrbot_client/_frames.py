"""Parser of server-sent events from chunks of bytes."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Frame(NamedTuple):
    """One event of a stream, with the text of its ``id:`` line."""

    data: dict[str, Any]
    id: str


class FrameParser:
    """Parses bytes and returns complete frames.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, 9.2.6.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._data: list[str] = []
        self._id = ""
        #: Seconds of the last ``retry:`` line.
        self.retry_s: float | None = None
        #: Number of comments, such as heartbeats.
        self.comments = 0

    @property
    def partial(self) -> bytes:
        """The received part of an incomplete frame."""
        return self._buffer or "\n".join(self._data).encode()

    def feed(self, chunk: bytes) -> list[Frame]:
        """Return the frames that ``chunk`` completes. Frames without JSON are dropped."""
        # Bytes, not text: str.splitlines would also split at U+2028 and others.
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        frames = []
        for line in lines:
            frame = self._take(line[:-1] if line.endswith(b"\r") else line)
            if frame is not None:
                frames.append(frame)
        return frames

    def _take(self, line: bytes) -> Frame | None:
        if not line:
            return self._finish()
        name, _, value = line.partition(b":")
        text = value.decode("utf-8", "replace")
        text = text.removeprefix(" ")
        if name == b"data":
            self._data.append(text)
        elif name == b"id":
            self._id = text
        elif name == b"retry" and text.isdigit():
            self.retry_s = int(text) / 1000
        elif not name:
            self.comments += 1
        return None

    def _finish(self) -> Frame | None:
        data, self._data = "\n".join(self._data), []
        number, self._id = self._id, ""
        try:
            value = json.loads(data) if data else None
        except ValueError:
            return None
        return Frame(value, number) if isinstance(value, dict) else None

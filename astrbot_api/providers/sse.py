"""Reads the ``data`` of server-sent events, whatever way the bytes are cut.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, section
"Interpreting an event stream". Event names, ids and ``retry`` are dropped:
model endpoints say everything in ``data``.
"""

from __future__ import annotations

from ..errors import ProviderError

#: Longest line, and longest ``data`` of one event, in bytes.
MAX_EVENT_BYTES = 4 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"


class SSEParser:
    """Takes bytes as they arrive and gives the ``data`` of each whole event.

    It works on bytes, so a cut inside a UTF-8 character does no harm.

    :param max_event_bytes: What one line, and one event, may hold.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._at_start = True
        self._tail = bytearray()  # a line whose end has not come
        self._after_cr = False  # a "\n" that comes next belongs to that "\r"
        self._data: list[bytes] = []  # data lines of an event whose end has not come
        self._data_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes.

        :returns: The ``data`` of every event that they complete, in order.
        :raises ProviderError: when a line or an event is too long.
        """
        if (
            self._at_start
            or self._tail
            or self._data
            or self._after_cr
            or not data.endswith(b"\n\n")
            or b"\r" in data
        ):
            return self._feed_lines(data)
        # The usual case, whole events with one data line each, costs one
        # split for all of them.
        found: list[bytes] = []
        for block in data[:-2].split(b"\n\n"):
            if block.startswith(b"data: ") and b"\n" not in block:
                found.append(block[6:])
            else:
                found += self._feed_lines(block + b"\n\n")
        return found

    def finish(self) -> list[bytes]:
        """Note that no more bytes come.

        :returns: The event that only lacks its blank line, if there is one:
            endpoints forget it after the last event.
        """
        return self.feed(b"\n\n") if self._tail or self._data else []

    def _feed_lines(self, data: bytes) -> list[bytes]:
        if self._after_cr and data:
            self._after_cr = False
            if data.startswith(b"\n"):
                data = data[1:]
        if not data:
            return []
        lines = data.splitlines()
        rest = b"" if data.endswith((b"\n", b"\r")) else lines.pop()
        self._after_cr = data.endswith(b"\r")
        if lines and self._tail:
            self._check_size(len(self._tail) + len(lines[0]))
            lines[0] = bytes(self._tail) + lines[0]
            self._tail.clear()
        found: list[bytes] = []
        for line in lines:
            self._take_line(line, found)
        if rest:
            self._tail += rest
            self._check_size(len(self._tail))
        return found

    def _take_line(self, line: bytes, found: list[bytes]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                found.append(b"\n".join(self._data))
                self._data = []
                self._data_bytes = 0
        elif line.startswith(b"data:"):
            value = line[6:] if line.startswith(b"data: ") else line[5:]
            self._data.append(value)
            self._data_bytes += len(value) + 1
            self._check_size(self._data_bytes)
        elif line == b"data":
            self._data.append(b"")

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max:
            raise ProviderError("The model's endpoint sent an overlong event.")

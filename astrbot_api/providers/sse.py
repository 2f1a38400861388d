"""Reads the payloads of an answer's body by its bytes, whatever its header says.

Events are found whatever way the bytes are cut.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, section
"Interpreting an event stream". Event names, ids and ``retry`` are dropped:
model endpoints say everything in ``data``.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Callable
from typing import Any

import orjson

from ..errors import ProviderError
from . import failures

#: Longest line, and longest ``data`` of one event, in bytes.
MAX_EVENT_BYTES = 32 * 1024 * 1024

#: What stands at the end of a stream, after blanks are taken off.
_DONE = (b"[DONE]", b'"[DONE]"', b"DONE", b"[EOS]")

#: What an answer may begin with, where its header says that it is a page.
_STARTS = (b"data", b"event", b"id", b"retry", b":", b"{", b"[")

#: A field of an event that has no part in an answer, or a comment.
_FIELD = re.compile(rb"(?!(data|error):)[\w-]*:", re.IGNORECASE)

_DATA = re.compile(rb"data\s*:\s*", re.IGNORECASE)

_BOM = b"\xef\xbb\xbf"

#: What is no part of a payload at its ends.
_BLANKS = b"\0 \t\r\n"

_GZIP = b"\x1f\x8b"


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
            if self._data and value[:1] == b"{" and self._data[-1].rstrip()[-1:] == b"}":
                # The blank line between two events is missing.
                found.append(b"\n".join(self._data))
                self._data, self._data_bytes = [], 0
            self._data.append(value)
            self._data_bytes += len(value) + 1
            self._check_size(self._data_bytes)
        elif line == b"data":
            self._data.append(b"")
        elif not _FIELD.match(line):
            self._take_odd_line(line.lstrip(b" \t" + _BOM), found)

    def _take_odd_line(self, line: bytes, found: list[bytes]) -> None:
        """Take a line that no event has: another spelling, the rest of a JSON text, words."""
        data = _DATA.match(line)
        if data:
            self._take_line(b"data: " + line[data.end() :], found)
        elif self._data and line[:1] in (b"}", b"]", b'"', b","):
            self._data.append(line)
            self._data_bytes += len(line) + 1
            self._check_size(self._data_bytes)
        elif line:
            found.append(line)  # an error in the middle of a stream, as JSON or in words

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max:
            raise ProviderError("The model's endpoint sent an overlong event.")


class BodyParser:
    """Takes the bytes of an answer's body and gives its JSON texts.

    Server-sent events, one JSON document, or one JSON object a line: the first byte that is no
    blank shows which. ``Content-Type`` does not: endpoints are wrong about it in each way.

    :param content_type: As the header has it, to know a web page whose bytes do not show it.
    """

    def __init__(self, content_type: str = "") -> None:
        self._may_be_page = content_type.strip().lower().startswith("text/html")
        #: Whether ``[DONE]`` has come.
        self.done = False
        self._events = SSEParser()
        self._begun = False
        self._start = b""
        self._unpack: Callable[[bytes], bytes] | None = None
        self._document: bytearray | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the payloads that they complete, without ``[DONE]``.

        :raises ProviderError: for a web page, and for what is too long.
        """
        if self._unpack is None:
            self._start += data
            if self._start in _HALF_MARKS:
                return []
            self._unpack = _choose_unpacking(self._start)
            data, self._start = self._start, b""
        data = self._unpack(data)
        if not self._begun:
            data = self._begin(data)
        if self._document is None:
            return self._choose(self._events.feed(data))
        self._document += data
        if len(self._document) > 2 * MAX_EVENT_BYTES:
            raise ProviderError("The model's endpoint sent an overlong answer.")
        return []

    def finish(self) -> list[bytes]:
        """Note that no more bytes come; return what is left."""
        if self._document is None:
            return self._choose(self._events.finish())
        document, self._document = bytes(self._document).strip(), bytearray()
        if not document:
            return []
        try:
            orjson.loads(document)
        except orjson.JSONDecodeError:
            lines = document.splitlines()
            if len(lines) > 1 and all(one[:1] in b"{" for one in lines):
                return self._choose(lines)
        return [document]

    @property
    def is_document(self) -> bool:
        """Whether the body is no stream of events."""
        return self._document is not None

    def _begin(self, data: bytes) -> bytes:
        self._start += data
        head = self._start.removeprefix(_BOM).lstrip()
        if not head or _BOM.startswith(self._start):
            return b""
        if head[:1] == b"<" or (self._may_be_page and not head.startswith(_STARTS)):
            raise NotAnAnswer(failures.NOT_A_MODEL)
        data, self._start, self._begun = self._start, b"", True
        if head[:1] in (b"{", b"["):
            self._document = bytearray()
            return head
        return data

    def _choose(self, payloads: list[bytes]) -> list[bytes]:
        """Leave out blanks, and what comes after ``[DONE]``."""
        for payload in payloads:
            if payload[:1] != b"{":
                break
        else:
            return payloads
        found: list[bytes] = []
        for payload in payloads:
            payload = payload.strip(_BLANKS)
            while payload.startswith(b"data:"):  # a relay has put it there again
                payload = payload[5:].strip(_BLANKS)
            if payload.upper() in _DONE:
                self.done = True
                break
            if payload:
                found.append(payload)
        return found


#: What the mark of an encoding may begin with.
_HALF_MARKS = (b"", _GZIP[:1], codecs.BOM_UTF16_LE[:1], codecs.BOM_UTF16_BE[:1])


def _choose_unpacking(start: bytes) -> Callable[[bytes], bytes]:
    """Return what makes UTF-8 of a body whose header does not say how it is encoded."""
    if start.startswith(_GZIP):
        unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
        return lambda data: _inflate(unpacking, data)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decoder = codecs.getincrementaldecoder("utf-16")("replace")
        return lambda data: decoder.decode(data).encode()
    return lambda data: data


def _inflate(unpacking: Any, data: bytes) -> bytes:
    """:raises ProviderError: for what is damaged, or becomes too large."""
    try:
        found: bytes = unpacking.decompress(data, MAX_EVENT_BYTES)
    except zlib.error as error:
        raise ProviderError(failures.BROKE_OFF, retryable=True) from error
    if unpacking.unconsumed_tail:
        raise ProviderError("The model's endpoint sent an overlong event.")
    return found


class NotAnAnswer(ProviderError):
    """The body is a web page: the address leads to something else."""

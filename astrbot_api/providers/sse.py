"""Incremental parsers for response bodies: server-sent events, JSON documents, JSON lines.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, section
"Interpreting an event stream". Event names, ids and ``retry`` are ignored,
because model endpoints use ``data`` only.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from io import BytesIO
from itertools import chain
from typing import Any

import orjson

from ..errors import ProviderError
from ..runtime.threads import let_others_run
from . import failures
from .shapes import load_bounded

#: Maximum size of a line, and of the ``data`` of one event, in bytes.
MAX_EVENT_BYTES = 32 * 1024 * 1024

#: End marks of a stream, without whitespace.
_DONE = (b"[DONE]", b'"[DONE]"', b"DONE", b"[EOS]")

#: Starts of a valid body, to accept it if its header says that it is a web page.
_STARTS = (b"data", b"event", b"id", b"retry", b":", b"{", b"[")

#: An ignored field of an event, or a comment.
_FIELD = re.compile(rb"(?!(data|error):)[\w-]*:", re.IGNORECASE)

_DATA = re.compile(rb"data\s*:\s*", re.IGNORECASE)

_BOM = b"\xef\xbb\xbf"

#: Characters stripped from both ends of a payload.
_BLANKS = b"\0 \t\r\n"

_GZIP = b"\x1f\x8b"

#: Maximum size of a decompressed piece, in bytes. Other greenlets run between two pieces.
_PIECE_BYTES = 65_536

#: Lines of a document after which other greenlets run.
_LINES_PER_TURN = 10_000

#: Memory of one line of an event beside its bytes, approximately.
_LINE_BYTES = 64


class SSEParser:
    """Parser that returns the ``data`` of each complete event.

    It works on bytes, so chunks may end inside a UTF-8 character.
    """

    def __init__(self) -> None:
        self._at_start = True
        self._tail = bytearray()  # incomplete line
        self._after_cr = False  # the last chunk ended with "\r": skip a "\n"
        self._data: list[bytes] = []  # data lines of the incomplete event
        self._data_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Parse the next bytes.

        :returns: The ``data`` of each completed event, in order.
        :raises ProviderError: when a line or an event is too long.
        """
        if self._at_start and data.startswith(b"data: "):
            self._at_start = False  # without a byte order mark
        if (
            self._at_start
            or self._tail
            or self._data
            or self._after_cr
            or not data.endswith(b"\n\n")
            or b"\r" in data
        ):
            return self._feed_lines(data)
        # Fast path: complete events with one data line each need only one split.
        found: list[bytes] = []
        for block in data[:-2].split(b"\n\n"):
            if block.startswith(b"data: ") and b"\n" not in block:
                found.append(block[6:])
            else:
                found += self._feed_lines(block + b"\n\n")
        return found

    def finish(self) -> list[bytes]:
        """End the input.

        :returns: The last event if its blank line is missing. Some endpoints omit it.
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
            _check_size(len(self._tail) + len(lines[0]))
            lines[0] = bytes(self._tail) + lines[0]
            self._tail.clear()
        found: list[bytes] = []
        for line in lines:
            self._take_line(line, found)
        if rest:
            self._tail += rest
            _check_size(len(self._tail))
        return found

    def _take_line(self, line: bytes, found: list[bytes]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                self._end_event(found)
        elif line.startswith(b"data:"):
            value = line[6:] if line.startswith(b"data: ") else line[5:]
            if self._data and value[:1] == b"{" and self._data[-1].rstrip()[-1:] == b"}":
                self._end_event(found)  # the blank line between two events is missing
            self._add_data(value)
        elif line == b"data":
            self._add_data(b"")
        elif not _FIELD.match(line):
            self._take_odd_line(line.lstrip(b" \t" + _BOM), found)

    def _take_odd_line(self, line: bytes, found: list[bytes]) -> None:
        """Parse a nonstandard line: another spelling of a field, more JSON, or an error text."""
        data = _DATA.match(line)
        if data:
            self._take_line(b"data: " + line[data.end() :], found)
        elif self._data and line[:1] in (b"}", b"]", b'"', b","):
            self._add_data(line)
        elif line:
            found.append(line)  # an error inside the stream, as JSON or text

    def _add_data(self, line: bytes) -> None:
        self._data.append(line)
        self._data_bytes += len(line) + _LINE_BYTES
        _check_size(self._data_bytes)

    def _end_event(self, found: list[bytes]) -> None:
        found.append(b"\n".join(self._data))
        self._data, self._data_bytes = [], 0


def _check_size(size_bytes: int) -> None:
    if size_bytes > MAX_EVENT_BYTES:
        raise ProviderError("The model's endpoint sent an overlong event.")


class BodyParser:
    """Parser of a response body that returns its JSON payloads.

    The first byte that is not whitespace shows the format: server-sent events, one JSON document,
    or JSON lines. The ``Content-Type`` of many endpoints is wrong.

    :param content_type: The header, to recognise a web page that does not start with a tag.
    """

    def __init__(self, content_type: str) -> None:
        self._may_be_page = content_type.strip().lower().startswith("text/html")
        #: Whether ``[DONE]`` was received.
        self.done = False
        self._events = SSEParser()
        self._begun = False
        self._start = b""
        self._unpack: Callable[[bytes], Iterable[bytes]] | None = None
        self._document: bytearray | None = None

    def feed(self, data: bytes) -> Iterable[bytes]:
        """Parse the next bytes and return the completed payloads, without ``[DONE]``.

        Compressed bytes are parsed while the caller iterates.

        :raises ProviderError: when the body is a web page or too long, also while iterating.
        """
        if self._unpack is None:
            self._start += data
            if self._start in _HALF_MARKS:
                return []
            self._unpack = _choose_unpacking(self._start)
            data, self._start = self._start, b""
        return chain.from_iterable(map(self._feed, self._unpack(data)))

    def _feed(self, data: bytes) -> list[bytes]:
        if not self._begun:
            data = self._begin(data)
        if self._document is None:
            return self._choose(self._events.feed(data))
        self._document += data
        if len(self._document) > 2 * MAX_EVENT_BYTES:
            raise ProviderError("The model's endpoint sent an overlong answer.")
        return []

    def finish(self) -> Iterable[bytes]:
        """End the input and return the remaining payloads."""
        if self._document is None:
            return self._choose(self._events.finish())
        document, self._document = bytes(self._document).strip(), bytearray()
        if not document:
            return []
        # The whole text of JSON lines is no JSON, and has far more members than one chunk.
        first, more, _ = document.partition(b"\n")
        with suppress(orjson.JSONDecodeError):
            load_bounded(first)
            if more and all(line[:1] in b"{\r\n" for line in _iter_lines(document)):
                return (line for line in _iter_lines(document) if line[:1] == b"{")
        return [document]

    @property
    def is_document(self) -> bool:
        """Whether the body is a JSON document or JSON lines."""
        return self._document is not None

    def _begin(self, data: bytes) -> bytes:
        self._start += data
        if _BOM.startswith(self._start):
            return b""
        head = self._start.removeprefix(_BOM).lstrip()
        if not head:
            self._start = b""
            return b""
        if head[:1] == b"<" or (self._may_be_page and not head.startswith(_STARTS)):
            raise NotAnAnswer(failures.NOT_A_MODEL)
        data, self._start, self._begun = self._start, b"", True
        if head[:1] in (b"{", b"["):
            self._document = bytearray()
            return head
        return data

    def _choose(self, payloads: list[bytes]) -> list[bytes]:
        """Drop empty payloads, and everything after ``[DONE]``."""
        found: list[bytes] = []
        for payload in payloads:
            if payload[:1] == b"{":  # the usual case
                found.append(payload)
                continue
            payload = payload.strip(_BLANKS)
            while payload.startswith(b"data:"):  # a relay repeated the field name
                payload = payload[5:].strip(_BLANKS)
            if payload.upper() in _DONE:
                self.done = True
                break
            if payload:
                found.append(payload)
        return found


def _iter_lines(document: bytes) -> Iterator[bytes]:
    """Yield lines one by one, because a document may have millions. Let other greenlets run."""
    for count, line in enumerate(BytesIO(document), 1):
        if count % _LINES_PER_TURN == 0:
            let_others_run()
        yield line


#: Incomplete gzip headers and byte order marks.
_HALF_MARKS = (b"", _GZIP[:1], codecs.BOM_UTF16_LE[:1], codecs.BOM_UTF16_BE[:1])


def _choose_unpacking(start: bytes) -> Callable[[bytes], Iterable[bytes]]:
    """Return a function that decodes gzip or UTF-16 without a header to pieces of UTF-8."""
    if start.startswith(_GZIP):
        unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
        return lambda data: _inflate(unpacking, data)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decoder = codecs.getincrementaldecoder("utf-16")("replace")
        return lambda data: (decoder.decode(data).encode(),)
    return lambda data: (data,)


def _inflate(unpacking: Any, data: bytes) -> Iterator[bytes]:
    """Yield decompressed gzip data in pieces.

    :raises ProviderError: when the data is damaged.
    """
    while data:
        try:
            yield unpacking.decompress(data, _PIECE_BYTES)
        except zlib.error as error:
            raise ProviderError(failures.BROKE_OFF, retryable=True) from error
        data = unpacking.unconsumed_tail
        let_others_run()


class NotAnAnswer(ProviderError):
    """Raised when the body is a web page, because the base URL is wrong."""

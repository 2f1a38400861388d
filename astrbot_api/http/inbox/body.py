"""An inbox as a stream of server-sent events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import orjson

from ...chat.watching.inbox import Inbox
from ...errors import StorageError
from ...events import MAX_LINE_BYTES, Event, inbox_message, inbox_opened

_HEARTBEAT = b": heartbeat\n\n"

#: Tells the client to come back soon and to resume.
_RETRY = b"retry: 1000\n\n"


class InboxBody:
    """The body of the stream: an iterable with ``close``, as WSGI has it.

    :param is_draining: Whether this worker is about to stop.
    """

    def __init__(self, inbox: Inbox, heartbeat_s: float, is_draining: Callable[[], bool]) -> None:
        self._inbox = inbox
        self._heartbeat_s = heartbeat_s
        self._is_draining = is_draining
        self._lead = _frame(inbox_opened(inbox.cursor, inbox.reset), inbox.cursor)
        self._over = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return what is new; a comment where there is nothing."""
        self._inbox.sending_since = None
        if self._over:
            raise StopIteration
        data, self._lead = self._lead or self._read(), b""
        self._inbox.sending_since = monotonic()
        return data

    def close(self) -> None:
        """Give back what the stream holds."""
        self._over = True
        self._inbox.close()

    def _read(self) -> bytes:
        inbox = self._inbox
        if self._is_draining():
            self._over = True
            return _RETRY
        try:
            found = inbox.take(self._heartbeat_s)
        except StorageError:
            self._over = True
            return _RETRY
        frames = b"".join(_show(*one) for one in found)
        if inbox.overrun and not found:
            self._over = True
            return _RETRY
        return frames or _HEARTBEAT


def _show(session_id: str, message: dict[str, Any], chars: int) -> bytes:
    event = inbox_message(session_id, message)
    # A character may take several bytes; a line is never longer than clients read.
    if chars > MAX_LINE_BYTES // 8:
        line = orjson.dumps(event)
        if len(line) > MAX_LINE_BYTES - 64:
            event = {**event, "truncated": True, "data": {**message, "content": None}}
    return _frame(event, message["id"])


def _frame(event: Event, number: int) -> bytes:
    return b"data: %b\nid: %d\n\n" % (orjson.dumps(event), number)

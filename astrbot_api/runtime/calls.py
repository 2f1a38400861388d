"""HTTP calls that can be cancelled and have a time limit, and their errors."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from typing import Any, Literal, Protocol

from ..errors import AstrBotError

Reason = Literal[
    "address", "forbidden", "header", "unreachable", "handshake", "untrusted", "silent", "slow",
    "broken",
]  # fmt: skip

#: Error texts, which follow the name of the host.
_WORDS: dict[Reason, str] = {
    "address": "has an invalid address or proxy",
    "forbidden": "has an address that is not allowed",
    "header": "was not called: its key or another header has a character that HTTP forbids",
    "unreachable": "cannot be reached",
    "handshake": "refused the TLS handshake",
    "untrusted": "has an invalid TLS certificate",
    "silent": "did not respond in time",
    "slow": "took too long",
    "broken": "closed the connection unexpectedly",
}


class OutboundError(AstrBotError):
    """Raised when a request fails or its response is incomplete.

    :param text: Text for the log. It may contain the address and the library's error.
    :ivar words: Text for the caller, without the address.
    """

    def __init__(self, reason: Reason, text: str = "") -> None:
        super().__init__(text or _WORDS[reason])
        self.reason = reason
        self.words = _WORDS[reason]
        if reason == "untrusted" and "expired" in text:
            self.words = self.words.replace("invalid", "expired")


class Cancellable(Protocol):
    """Interface of a cancellation token."""

    def raise_if_cancelled(self) -> None:
        """Raise if cancelled."""

    def wait(self, timeout_s: float) -> bool:
        """Sleep until the timeout or cancellation, and return whether it was cancelled."""

    def on_cancel(self, callback: Callable[[], None]) -> AbstractContextManager[None]:
        """Call the callback on cancellation while the block runs."""


def wait_for(event: threading.Event, timeout_s: float, cancel: Cancellable | None) -> None:
    """Wait until an event is set, but not longer than the timeout. Raise if cancelled."""
    with cancel.on_cancel(event.set) if cancel else nullcontext():
        event.wait(timeout_s)
    if cancel:
        cancel.raise_if_cancelled()


class Owned(Protocol):
    """Interface of a connection: the call that uses it now."""

    owner: Call | None


class Call:
    """Cancellation and time limit of one or several consecutive requests.

    As a context manager it ends a blocked read on cancellation and at the time limit.

    :param limit_s: Time limit in seconds for all requests, including connecting.
    """

    def __init__(
        self,
        cancel: Cancellable | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        limit_s: float | None = None,
    ) -> None:
        self.cancel = cancel
        self.headers = headers or {}
        self.deadline = None if limit_s is None else time.monotonic() + limit_s
        self.reused = False
        self._connection: Owned | None = None
        self._sock: Any = None
        self._ending = ExitStack()

    def __enter__(self) -> Call:
        if self.cancel is not None:
            self._ending.enter_context(self.cancel.on_cancel(self.break_off))
        if self.deadline is not None:
            # Headers that arrive byte by byte would never exceed the read timeout.
            timer = threading.Timer(self.left_s(), self.break_off)
            timer.daemon = True
            timer.start()
            self._ending.callback(timer.cancel)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def check(self) -> None:
        """Raise if the call was cancelled or has exceeded its time limit.

        :raises OutboundError: when the time limit is exceeded.
        """
        if self.cancel is not None:
            self.cancel.raise_if_cancelled()
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise OutboundError("slow")

    def left_s(self, at_most_s: float = threading.TIMEOUT_MAX) -> float:
        """Return the remaining time in seconds, at most ``at_most_s`` and never 0."""
        if self.deadline is None:
            return at_most_s
        return max(0.001, min(at_most_s, self.deadline - time.monotonic()))

    def sleep(self, pause_s: float) -> None:
        """Sleep until the pause ends or the call is cancelled, then :meth:`check`."""
        if self.cancel is None:
            time.sleep(pause_s)
        else:
            self.cancel.wait(pause_s)
        self.check()

    def attach(self, connection: Owned, sock: Any) -> None:
        """Register the socket that this call uses, then :meth:`check`."""
        connection.owner = self
        # TLS within TLS, through an https:// proxy, wraps the real socket.
        self._connection, self._sock = connection, getattr(sock, "socket", sock)
        self.check()

    def break_off(self) -> None:
        """Shut the socket down, so that a blocked read ends.

        Any thread or greenlet may call it. It does nothing if the connection
        already serves another call.
        """
        if self._owns_socket():
            # SSLSocket.shutdown() would drop the TLS state while another thread
            # reads. OSError: the socket is already closed.
            with suppress(OSError):
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def limit_wait(self, timeout_s: float) -> None:
        """Set the read timeout for the rest of the response, in seconds."""
        if self._owns_socket():
            with suppress(OSError):
                self._sock.settimeout(timeout_s)

    def _owns_socket(self) -> bool:
        return self._connection is not None and self._connection.owner is self

"""Cancellation of a run, which wakes every waiting model call, tool and queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import RunCancelled


class Cancellation:
    """Cancels one run, once.

    Any thread or greenlet may call :meth:`cancel`. Code that blocks on a socket registers with
    :meth:`on_cancel` how to interrupt it.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        #: ``stopped`` or ``interrupted``, once :attr:`cancelled` is true.
        self.reason = ""

    @property
    def cancelled(self) -> bool:
        """Whether the run was cancelled."""
        return self._event.is_set()

    def cancel(self, reason: str = "stopped") -> None:
        """Cancel the run. Later calls do not change the reason.

        :param reason: ``stopped`` or ``interrupted``.
        """
        with self._lock:
            if self._event.is_set():
                return
            self.reason = reason
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def wait(self, timeout_s: float) -> bool:
        """Sleep until the timeout or the cancellation.

        :returns: Whether the run was cancelled.
        """
        return self._event.wait(timeout_s)

    def raise_if_cancelled(self) -> None:
        """Raise RunCancelled if the run was cancelled."""
        if self._event.is_set():
            raise RunCancelled(self.reason)

    @contextmanager
    def on_cancel(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call ``callback`` if the run is cancelled while the block executes.

        If the run is already cancelled, it is called at once. It runs in the cancelling thread and
        must not block. Use it to close a socket.
        """
        with self._lock:
            late = self._event.is_set()
            self._callbacks.append(callback)
        if late:
            callback()
        try:
            yield
        finally:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

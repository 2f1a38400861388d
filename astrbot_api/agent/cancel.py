"""A request to stop that reaches every waiter: model, tool or queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import RunCancelled


class Cancellation:
    """Asks one run, once, to end.

    Any thread or greenlet may call :meth:`cancel`. What blocks in a socket
    registers how to break the wait with :meth:`on_cancel`.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        #: ``stopped`` or ``interrupted``, once :attr:`cancelled` is true.
        self.reason = ""

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to end."""
        return self._event.is_set()

    def cancel(self, reason: str = "stopped") -> None:
        """Ask the run to end. The first reason stays.

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
        """Sleep, but wake up at once when the run is cancelled.

        :returns: Whether it was cancelled.
        """
        return self._event.wait(timeout_s)

    def raise_if_cancelled(self) -> None:
        """:raises RunCancelled: when the run was asked to end."""
        if self._event.is_set():
            raise RunCancelled(self.reason)

    @contextmanager
    def on_cancel(self, callback: Callable[[], None]) -> Iterator[None]:
        """Have ``callback`` called on cancellation while the block runs.

        It is called at once when the run is cancelled already. It runs in
        the thread that cancels, so it must not block: closing a socket is
        what it is for.
        """
        with self._lock:
            late = self._event.is_set()
            if not late:
                self._callbacks.append(callback)
        if late:
            callback()
        try:
            yield
        finally:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

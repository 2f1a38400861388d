"""Values that each process creates for itself: connections, threads, sockets.

A forked child inherits its parent's objects, but not its threads, and must not
use its connections. A :class:`PerProcess` creates a new value in the child.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar


class _Closable(Protocol):
    def close(self) -> object: ...


T = TypeVar("T")
C = TypeVar("C", bound=_Closable)

# Number of forks between the first process and this one.
_forks = [0]


def _note_fork() -> None:
    _forks[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class PerProcess(Generic[T]):
    """A value that is created once per process, on first use.

    A lookup is one dictionary access, because it runs on every request.
    ``os.getpid`` would be a system call. Values of parent processes are kept:
    a destructor could close the parent's connections too.

    :param make: Creates the value. Other threads wait meanwhile. If it raises,
        the caller gets the error, and the next caller tries again.
    """

    __slots__ = ("_locks", "_make", "_values")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[int, T] = {}
        # One lock per process: a thread that does not exist here may hold the parent's lock.
        self._locks: dict[int, threading.Lock] = {}

    def get(self) -> T:
        """Return this process's value. The first call creates it."""
        try:
            return self._values[_forks[0]]
        except KeyError:
            with self._locks.setdefault(_forks[0], threading.Lock()):
                if _forks[0] not in self._values:
                    self._values[_forks[0]] = self._make()
                return self._values[_forks[0]]

    @property
    def current(self) -> T | None:
        """This process's value, or None before it is created."""
        return self._values.get(_forks[0])

    @property
    def inherited(self) -> list[T]:
        """Values of parent processes, to close this process's copies of their sockets."""
        return [value for forks, value in self._values.items() if forks != _forks[0]]

    def take(self) -> T | None:
        """Remove and return this process's value, for a caller that closes it.

        The next :meth:`get` creates a new value.
        """
        return self._values.pop(_forks[0], None)


class OwnConnections(Generic[C]):
    """The connections of one process to an SQLite file: they must not cross a fork."""

    def __init__(self) -> None:
        #: Idle connections.
        self.readers: list[C] = []
        #: The writer's connection, or empty before the first write.
        self.writers: list[C] = []
        self.closed = False

    def close(self) -> None:
        """Close all connections. A borrowed one is closed when it is returned."""
        self.closed = True
        self.close_idle()
        for connection in self.writers:
            connection.close()

    def close_idle(self) -> None:
        """Close the idle connections. Another thread may do the same."""
        with suppress(IndexError):
            while True:
                self.readers.pop().close()

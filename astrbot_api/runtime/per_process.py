"""A value that each process makes for itself: connections, threads, sockets.

A forked child inherits the objects of its parent, but none of its threads, and
must not use its connections. A :class:`PerProcess` makes another one there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

# A fact of the process, not of an application: how often it is a fork's child.
_forks = [0]


def _note_fork() -> None:
    _forks[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class PerProcess(Generic[T]):
    """A value that is made once a process, when it is first needed.

    Looking it up costs one look into a dictionary: ``os.getpid`` would be a
    system call, and this is done on every request. Values of parent processes
    are kept, unused: a destructor that closes one would end the parent's too.

    :param make: Makes the value. Threads that ask meanwhile wait for it. When
        it raises, the caller gets the error and the next one tries again.
    """

    __slots__ = ("_locks", "_make", "_values")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[int, T] = {}
        # One a process: a parent's may be held by a thread that the child lacks.
        self._locks: dict[int, threading.Lock] = {}

    def get(self) -> T:
        """Return this process's value; the first call makes it."""
        try:
            return self._values[_forks[0]]
        except KeyError:
            with self._locks.setdefault(_forks[0], threading.Lock()):
                if _forks[0] not in self._values:
                    self._values[_forks[0]] = self._make()
                return self._values[_forks[0]]

    @property
    def current(self) -> T | None:
        """This process's value; None where it was not made."""
        return self._values.get(_forks[0])

    @property
    def inherited(self) -> list[T]:
        """Values of parent processes, to close this process's copies of their sockets."""
        return [value for forks, value in self._values.items() if forks != _forks[0]]

    def take(self) -> T | None:
        """Return this process's value and forget it: for those who close it.

        The next :meth:`get` makes another one.
        """
        return self._values.pop(_forks[0], None)

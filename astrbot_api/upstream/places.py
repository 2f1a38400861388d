"""Places at one AstrBot: few turns at a time are sent there, the others wait their turn.

AstrBot 4.25 fails from about eight chats at once. The limit holds for all workers of this
host: a place is a locked file, which a worker that dies gives back.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..agent.cancel import Cancellation
from ..errors import ProviderError
from ..runtime.private_files import create_private_file

#: How often the first in the queue looks whether another worker has given a place back, and
#: how often the others look where they are, in seconds.
_LOOK_S = 0.1
_SHOW_S = 1.0


@dataclass(slots=True, eq=False)
class _Waiter:
    payer: str
    user: str
    woken: threading.Event = field(default_factory=threading.Event)
    place: int | None = None


class Places:
    """The places at one AstrBot.

    The next one goes to the key, and of its users to the one, with the fewest turns there;
    among equals to who has waited longest.

    :param folder: Has the locked files; the workers of a host share it.
    :param name: Of the files of this AstrBot.
    :param size: Turns at a time.
    :param max_waiting: Turns of this worker that may wait.
    """

    def __init__(self, folder: Path, name: str, size: int, max_waiting: int) -> None:
        self._files = [folder / f"{name}.{number}.lock" for number in range(size)]
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._waiting: list[_Waiter] = []
        self._running: Counter[str] = Counter()

    @contextmanager
    def take(self, payer: str, user: str, cancel: Cancellation) -> Iterator[_Waiter]:
        """Enter the queue, and leave the queue or the place at the end.

        :raises ProviderError: when too many wait already.
        """
        waiter = _Waiter(payer, user)
        with self._lock:
            if len(self._waiting) >= self._max_waiting:
                raise ProviderError(
                    f"{len(self._waiting)} turns wait for that AstrBot; try again later.",
                    retryable=True,
                )
            self._waiting.append(waiter)
        try:
            with cancel.on_cancel(waiter.woken.set):
                yield waiter
        finally:
            self._leave(waiter)

    def iter_positions(self, waiter: _Waiter, cancel: Cancellation) -> Iterator[int]:
        """Yield the position in the queue, from 1, whenever it changes, until there is a place.

        :raises RunCancelled: when the turn is cancelled.
        """
        shown = 0
        while True:
            self._grant()
            if waiter.place is not None:
                return
            position = self._find_position(waiter)
            if position != shown:
                shown = position
                yield position
            waiter.woken.wait(_LOOK_S if position == 1 else _SHOW_S)
            waiter.woken.clear()
            cancel.raise_if_cancelled()

    def _grant(self) -> None:
        """Give free places to those whose turn it is."""
        with self._lock:
            while self._waiting:
                place = self._lock_file()
                if place is None:
                    return
                waiter = min(self._waiting, key=self._rank)
                self._waiting.remove(waiter)
                self._running.update(self._names(waiter))
                waiter.place = place
                waiter.woken.set()

    def _find_position(self, waiter: _Waiter) -> int:
        with self._lock:
            order = sorted(self._waiting, key=self._rank)
        return order.index(waiter) + 1 if waiter in order else 1

    def _rank(self, waiter: _Waiter) -> tuple[int, int]:
        # Python's sort and min keep the order of arrival among equals.
        payer, user = self._names(waiter)
        return self._running[payer], self._running[user]

    @staticmethod
    def _names(waiter: _Waiter) -> tuple[str, str]:
        return waiter.payer, f"{waiter.payer}\0{waiter.user}"

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            if waiter.place is not None:
                os.close(waiter.place)  # which unlocks the file
                waiter.place = None
                self._running.subtract(self._names(waiter))
                self._running += Counter()  # forgets those with none
        self._grant()

    def _lock_file(self) -> int | None:
        for path in self._files:
            create_private_file(path)
            place = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(place)
            else:
                return place
        return None


class PlacesOfHost:
    """The places of every AstrBot that the configs name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._made: dict[tuple[str, int, int], Places] = {}

    def get(self, name: str, size: int, max_waiting: int) -> Places:
        """Return the places at one AstrBot."""
        with self._lock:
            key = (name, size, max_waiting)
            if key not in self._made:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                self._made[key] = Places(self._folder, *key)
            return self._made[key]

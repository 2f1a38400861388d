"""Limits the number of concurrent turns at one AstrBot. Further turns wait in a queue.

AstrBot 4.25 fails at about eight concurrent chats. The limit applies to all workers of this
host. A slot is a locked file, so the slot of a dead worker is released.
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

#: Polling intervals in seconds: of the first turn in the queue for a free slot, and of the
#: others for their position.
_LOOK_S = 0.1
_SHOW_S = 1.0


@dataclass(slots=True, eq=False)
class _Waiter:
    payer: str
    user: str
    woken: threading.Event = field(default_factory=threading.Event)
    #: Descriptor of the locked file, once the turn has a slot.
    slot: int | None = None


class TurnSlots:
    """The slots at one AstrBot.

    The next slot goes to the key with the fewest turns there, then to its user with the fewest.
    Ties go to the longest wait.

    :param folder: Folder of the locked files, shared by the workers of a host.
    :param name: Prefix of this AstrBot's files.
    :param size: Maximum number of concurrent turns.
    :param max_waiting: Maximum number of waiting turns in this worker.
    """

    def __init__(self, folder: Path, name: str, size: int, max_waiting: int) -> None:
        self._files = [folder / f"{name}.{number}.lock" for number in range(size)]
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._waiting: list[_Waiter] = []
        self._running: Counter[str] = Counter()

    @contextmanager
    def take(self, payer: str, user: str, cancel: Cancellation) -> Iterator[_Waiter]:
        """Enter the queue. On exit, leave the queue or release the slot.

        :raises ProviderError: if the queue is full.
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
            self.leave(waiter)

    def iter_positions(self, waiter: _Waiter, cancel: Cancellation) -> Iterator[int]:
        """Yield each new position in the queue, from 1, until a slot is assigned.

        :raises RunCancelled: if the turn is cancelled.
        """
        shown = 0
        while True:
            self._assign_slots()
            if waiter.slot is not None:
                return
            position = self._find_position(waiter)
            if position != shown:
                shown = position
                yield position
            waiter.woken.wait(_LOOK_S if position == 1 else _SHOW_S)
            waiter.woken.clear()
            cancel.raise_if_cancelled()

    def _assign_slots(self) -> None:
        """Assign free slots to the next turns in the queue."""
        with self._lock:
            while self._waiting:
                slot = self._lock_file()
                if slot is None:
                    return
                waiter = min(self._waiting, key=self._sort_key)
                self._waiting.remove(waiter)
                self._running.update(self._names(waiter))
                waiter.slot = slot
                waiter.woken.set()

    def _find_position(self, waiter: _Waiter) -> int:
        with self._lock:
            order = sorted(self._waiting, key=self._sort_key)
        return order.index(waiter) + 1 if waiter in order else 1

    def _sort_key(self, waiter: _Waiter) -> tuple[int, int]:
        # sort() and min() keep the order of arrival for equal ranks.
        payer, user = self._names(waiter)
        return self._running[payer], self._running[user]

    @staticmethod
    def _names(waiter: _Waiter) -> tuple[str, str]:
        return waiter.payer, f"{waiter.payer}\0{waiter.user}"

    def leave(self, waiter: _Waiter) -> None:
        """Give up a slot or a place in the queue. Idempotent."""
        with self._lock:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            if waiter.slot is not None:
                os.close(waiter.slot)  # also unlocks the file
                waiter.slot = None
                self._running.subtract(self._names(waiter))
                self._running += Counter()  # removes zero counts
        self._assign_slots()

    def _lock_file(self) -> int | None:
        for path in self._files:
            create_private_file(path)
            slot = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(slot)
            else:
                return slot
        return None


class HostSlots:
    """The slots of every AstrBot in the configs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._made: dict[tuple[str, int, int], TurnSlots] = {}

    def get(self, name: str, size: int, max_waiting: int) -> TurnSlots:
        with self._lock:
            key = (name, size, max_waiting)
            if key not in self._made:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                self._made[key] = TurnSlots(self._folder, *key)
            return self._made[key]

"""Limits of the memory for long texts and answers that a worker holds for its clients.

A limit of each text alone is not enough: a client may send the end of a message minutes after its
beginning, or start a hundred turns with long conversations.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable

from ..errors import ApiError

#: Size of each text that is not counted, in bytes.
_FREE_BYTES = 64 * 1024

#: Maximum wait for other texts to end, in seconds. A burst of long messages ends earlier.
_MAX_WAIT_S = 10.0


class MemoryBudget:
    """The long texts of one kind that a worker holds.

    :param refusal: Message of the error beyond the limits.
    :param max_bytes: Maximum size of all texts. One owner may have half of it.
    """

    def __init__(self, refusal: str, max_bytes: int) -> None:
        self._refusal = refusal
        self._max_bytes = max_bytes
        self._max_bytes_of_one = max_bytes // 2
        self._changed = threading.Condition()
        self._bytes: Counter[str] = Counter()

    def add(self, owner: str, size_bytes: int, *, max_wait_s: float = 0.0) -> None:
        """Count more bytes of an owner; a negative number if they are no longer held.

        :param max_wait_s: Maximum wait for room. An owner that waits must hold nothing of the same
            text, or such texts would wait for each other.
        :raises ApiError: ``server_busy`` beyond a limit. Nothing is counted then.
        """
        with self._changed:
            if size_bytes > 0 and not self._changed.wait_for(
                lambda: self._has_room(owner, size_bytes), max_wait_s
            ):
                raise ApiError("server_busy", self._refusal, retry_after_s=5)
            self._bytes[owner] += size_bytes
            if not self._bytes[owner]:
                del self._bytes[owner]
            if size_bytes < 0:
                self._changed.notify_all()

    def _has_room(self, owner: str, size_bytes: int) -> bool:
        own, all_bytes = self._bytes[owner] + size_bytes, self._bytes.total() + size_bytes
        return own <= self._max_bytes_of_one and all_bytes <= self._max_bytes


class Reservation:
    """Memory for one message, or for the texts or files of one turn. Empty at first.

    As a context manager, it is released at the end of the block.

    :param owner: The root key, or the address of a client without a key.
    """

    def __init__(self, budget: MemoryBudget, owner: str) -> None:
        self._budget = budget
        self._owner = owner
        self._counted = 0

    def reserve(self, size_bytes: int) -> None:
        """Reserve memory before its first byte is used. May wait some seconds for it.

        :raises ApiError: ``server_busy``, if the worker holds too much.
        """
        self._set(size_bytes, _MAX_WAIT_S)

    def resize(self, size_bytes: int) -> None:
        """Set the size in use; 0 releases it. Does not wait.

        :raises ApiError: ``server_busy``, if the worker holds too much.
        """
        self._set(size_bytes, 0.0)

    def _set(self, size_bytes: int, max_wait_s: float) -> None:
        more = max(0, size_bytes - _FREE_BYTES) - self._counted
        if more:
            self._budget.add(self._owner, more, max_wait_s=max_wait_s)
            self._counted += more

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.resize(0)


class UnreadAnswers:
    """The long answers that a worker is sending.

    A time limit of each is not enough: hundreds of clients may wait for it without reading.

    :param max_bytes: Maximum size of an owner's answers. Beyond that, the oldest ones are cut off.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        #: Size of each answer, oldest first, by owner and by the function that cuts it off.
        self._sizes: defaultdict[str, dict[Callable[[], None], int]] = defaultdict(dict)

    def hold(self, owner: str, size_bytes: int, cut_off: Callable[[], None]) -> Callable[[], None]:
        """Count an answer until the returned function is called. A single one may have any size.

        :param owner: The root key.
        :param cut_off: Closes the connection. A function of this answer only.
        """
        ended = []
        with self._lock:
            own = self._sizes[owner]
            own[cut_off] = size_bytes
            while len(own) > 1 and sum(own.values()) > self._max_bytes:
                ended.append(next(iter(own)))
                del own[ended[-1]]
        for one in ended:
            one()
        return lambda: self._release(owner, cut_off)

    def _release(self, owner: str, cut_off: Callable[[], None]) -> None:
        with self._lock:
            self._sizes[owner].pop(cut_off, None)
            if not self._sizes[owner]:
                del self._sizes[owner]

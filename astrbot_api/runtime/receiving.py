"""Limit of the memory for messages that are being received.

A client may send the end of a message minutes after its beginning. With a limit of each message
alone, a hundred clients would hold a gigabyte.
"""

from __future__ import annotations

import threading
from collections import Counter

from ..errors import ApiError

#: Maximum size of all unfinished messages of a worker, and of those of one sender, in bytes.
_MAX_BYTES = 256 * 2**20
_MAX_BYTES_OF_ONE = 128 * 2**20

#: Size of each message that is not counted, in bytes.
_FREE_BYTES = 64 * 1024


class Receiving:
    """The unfinished messages of one worker."""

    def __init__(
        self, max_bytes: int = _MAX_BYTES, max_bytes_of_one: int = _MAX_BYTES_OF_ONE
    ) -> None:
        self._max_bytes = max_bytes
        self._max_bytes_of_one = max_bytes_of_one
        self._lock = threading.Lock()
        self._bytes: Counter[str] = Counter()

    def add(self, sender: str, size_bytes: int) -> None:
        """Count more bytes of a sender; a negative number if they are no longer held.

        :raises ApiError: ``server_busy`` beyond a limit. Nothing is counted then.
        """
        with self._lock:
            own = self._bytes[sender] + size_bytes
            if size_bytes > 0 and (
                own > self._max_bytes_of_one
                or self._bytes.total() + size_bytes > self._max_bytes
            ):  # fmt: skip
                raise ApiError(
                    "server_busy",
                    "The server is receiving too many long messages; try again later.",
                    retry_after_s=5,
                )
            self._bytes[sender] = own
            if not own:
                del self._bytes[sender]


class Unfinished:
    """A message that is being received. As a context manager, it ends with its block.

    :param sender: The root key, or the address of a client without a key.
    """

    def __init__(self, receiving: Receiving, sender: str) -> None:
        self._receiving = receiving
        self._sender = sender
        self._counted = 0

    def grow(self, size_bytes: int) -> None:
        """Set the size of the message so far; 0 when it is finished.

        :raises ApiError: ``server_busy``, if the worker holds too much.
        """
        more = max(0, size_bytes - _FREE_BYTES) - self._counted
        if more:
            self._receiving.add(self._sender, more)
            self._counted += more

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.grow(0)

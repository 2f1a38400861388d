"""A configuration file whose changes are felt without a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from ..errors import SettingsError

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How long a look at the file holds, in seconds.
_RECHECK_S = 1.0


class WatchedFile(Generic[T]):
    """What a file says, read again when it has changed; a bad file changes nothing.

    :param read: Reads the file; it is given what the last good one said, and
        raises :class:`~astrbot_api.errors.SettingsError` for one that is wrong.
    :param empty: What holds before the first reading.
    """

    def __init__(self, path: Path, read: Callable[[Path, T], T], empty: T) -> None:
        self._path = path
        self._read = read
        self._content = empty
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._stamp: tuple[int, int] | None = None

    def load(self) -> None:
        """Read the file now and refuse a bad one, for the start of the server.

        :raises SettingsError: when it is wrong.
        """
        with self._lock:
            self._stamp = self._read_stamp()
            self._content = self._read(self._path, self._content)

    def get(self) -> T:
        """Return what the file says, as of a second ago at most."""
        now = time.monotonic()
        if now - self._checked_at >= _RECHECK_S:
            with self._lock:
                self._checked_at = now
                self._refresh()
        return self._content

    def _refresh(self) -> None:
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._content = self._read(self._path, self._content)
        except SettingsError as error:
            log.error("%s (what the last good file said stays)", error)

    def _read_stamp(self) -> tuple[int, int]:
        try:
            stat = self._path.stat()
        except OSError:
            return (0, 0)
        return (stat.st_mtime_ns, stat.st_size)

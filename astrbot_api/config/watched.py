"""A configuration file whose changes take effect without a restart."""

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

#: Interval between checks of the file, in seconds.
_RECHECK_S = 1.0


class WatchedFile(Generic[T]):
    """Parsed content of a file, reloaded after changes. An invalid file changes nothing.

    :param read: Parses the file. It receives the last valid content, and raises
        :class:`~astrbot_api.errors.SettingsError` for an invalid file.
    :param empty: Content before the first read.
    """

    def __init__(self, path: Path, read: Callable[[Path, T], T], empty: T) -> None:
        self._path = path
        self._read = read
        self._content = empty
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._stamp: tuple[int, int] | None = None

    def load(self) -> None:
        """Read the file now. Called at the server's start.

        :raises SettingsError: if the file is invalid.
        """
        with self._lock:
            self._stamp = self._read_stamp()
            self._content = self._read(self._path, self._content)

    def get(self) -> T:
        """Return the content, at most one second old."""
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
            log.error("%s (the last valid content stays in effect)", error)

    def _read_stamp(self) -> tuple[int, int]:
        try:
            stat = self._path.stat()
        except OSError:
            return (0, 0)
        return (stat.st_mtime_ns, stat.st_size)

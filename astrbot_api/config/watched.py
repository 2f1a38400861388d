"""A configuration file whose changes take effect without a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ..errors import SettingsError

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Interval between checks of the file, in seconds.
_RECHECK_S = 1.0

#: Time without changes after which a file is complete, in seconds.
_SETTLED_S = 1.0


@dataclass(frozen=True, slots=True)
class InvalidFile:
    """A configuration file whose present content is invalid.

    :param name: The file, relative to the data directory.
    :param kept: Whether its last valid content stays in effect.
    """

    name: str
    error: str
    kept: bool


def is_settled(path: Path) -> bool:
    """Return whether a file has not been changed, created or removed just now.

    Editors and copying programs write a file in steps: they empty or rename it first. An empty or
    incomplete file can be valid. A time in the future, of another host's clock, is settled.
    """
    for one in (path, path.parent):
        try:
            age_s = time.time() - one.stat().st_mtime
        except OSError:  # it was removed: its folder has the time
            continue
        return not 0 <= age_s < _SETTLED_S
    return True


class WatchedFile(Generic[T]):
    """Parsed content of a file, reloaded when it is settled. An invalid file changes nothing.

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
        self._error = ""

    def load(self) -> None:
        """Read the file now. Called at the server's start.

        :raises SettingsError: if the file is invalid.
        """
        with self._lock:
            self._stamp = self._read_stamp()
            self._content = self._read(self._path, self._content)

    def get(self) -> T:
        """Return the content, at most two seconds old."""
        now = time.monotonic()
        if now - self._checked_at >= _RECHECK_S:
            with self._lock:
                self._checked_at = now
                self._refresh()
        return self._content

    def find_invalid(self) -> InvalidFile | None:
        """Return the file if its present content is invalid, else None."""
        self.get()
        return InvalidFile(self._path.name, self._error, kept=True) if self._error else None

    def _refresh(self) -> None:
        stamp = self._read_stamp()
        if stamp == self._stamp or not is_settled(self._path):
            return
        self._stamp = stamp
        try:
            self._content = self._read(self._path, self._content)
            self._error = ""
        except SettingsError as error:
            self._error = str(error)
            log.error("%s (the last valid content stays in effect)", error)

    def _read_stamp(self) -> tuple[int, int]:
        try:
            stat = self._path.stat()
        except OSError:
            return (0, 0)
        return (stat.st_mtime_ns, stat.st_size)

"""``bots.toml``: which bots there are. A change is picked up without a restart."""

from __future__ import annotations

import logging
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

from ..errors import SettingsError

log = logging.getLogger(__name__)

#: How long a look at the file holds, in seconds.
_RECHECK_S = 1.0


def read_bots(path: Path) -> list[dict[str, Any]]:
    """Read and check ``bots.toml``; a missing file is an empty one.

    :returns: The ``[[bot]]`` tables, each with a unique ``id`` and a ``type``.
    :raises SettingsError: One line: file, key, what is wrong.
    """
    try:
        with path.open("rb") as file:
            data = tomllib.load(file)
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path.name}: {error}") from error
    bots = data.get("bot", [])
    if not isinstance(bots, list):
        raise SettingsError(f"{path.name}: bot: write [[bot]], one table a bot")
    seen: set[str] = set()
    for number, bot in enumerate(bots, 1):
        for key in ("id", "type"):
            if not isinstance(bot.get(key), str) or not bot[key].strip():
                raise SettingsError(f"{path.name}: bot {number}: {key}: required, a string")
        if ":" in bot["id"] or bot["id"] == "webchat":
            raise SettingsError(
                f"{path.name}: bot {number}: id: must have no colon and not be webchat"
            )
        if bot["id"] in seen:
            raise SettingsError(f"{path.name}: bot {number}: id: {bot['id']} is there twice")
        seen.add(bot["id"])
    return bots


class BotFile:
    """The bots of one data directory, kept up to date."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "bots.toml"
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._stamp: tuple[int, int] | None = None
        self._ids: list[str] = []

    def load(self) -> None:
        """Read the file now and refuse a bad one, for the start of the server.

        :raises SettingsError: when it is wrong.
        """
        self._ids = [bot["id"] for bot in read_bots(self._path)]

    def list_ids(self) -> list[str]:
        """Return the bots' ids, in the order of the file."""
        now = time.monotonic()
        if now - self._checked_at >= _RECHECK_S:
            with self._lock:
                self._checked_at = now
                self._reload()
        return list(self._ids)

    def _reload(self) -> None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
        except FileNotFoundError:
            stamp = (0, 0)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._ids = [bot["id"] for bot in read_bots(self._path)]
        except SettingsError as error:
            log.error("%s (the last good bots stay)", error)

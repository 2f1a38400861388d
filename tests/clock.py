"""The wall clock of servers, which a test turns while they run."""

from __future__ import annotations

import os
import struct
from pathlib import Path

_HOOK = Path(__file__).parent / "load" / "clock"


class Clock:
    """How far the clock of servers is ahead, in a file that their processes read.

    Start the servers with :attr:`environ`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()
        self.set_s(0)

    @property
    def environ(self) -> dict[str, str]:
        """The variables with which a server obeys it."""
        paths = [str(_HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"ASTRBOT_TORTURE_CLOCK": str(self._path), "PYTHONPATH": os.pathsep.join(paths)}

    def set_s(self, ahead_s: int) -> None:
        """Set the servers' clocks; they jump at once."""
        with self._path.open("r+b") as file:
            file.write(struct.pack("<q", ahead_s))

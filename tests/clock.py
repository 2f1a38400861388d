"""Wall clock of servers, which a test can change while they run."""

from __future__ import annotations

import os
import struct
from pathlib import Path

_HOOK = Path(__file__).parent / "load" / "clock"


class Clock:
    """Offset of the servers' clocks, in a file that their processes read.

    Start the servers with :attr:`environ`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()
        self.set_s(0)

    @property
    def environ(self) -> dict[str, str]:
        """Environment variables that make a server use this clock."""
        paths = [str(_HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"ASTRBOT_TORTURE_CLOCK": str(self._path), "PYTHONPATH": os.pathsep.join(paths)}

    def set_s(self, ahead_s: int) -> None:
        """Set the offset of the servers' clocks. It applies at once."""
        with self._path.open("r+b") as file:
            file.write(struct.pack("<q", ahead_s))

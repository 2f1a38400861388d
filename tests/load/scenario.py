"""One kind of fault: what was done, and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from .ledger import Ledger
from .verifying import verify
from .world import World


@dataclass
class Result:
    """What one scenario came to.

    :param did: What was done to the server, in a few words.
    :param recovery_s: The longest time from the end of a fault until the server served again.
    :param notes: Figures besides.
    """

    did: str
    ledger: Ledger = field(default_factory=Ledger)
    recovery_s: float = 0.0
    notes: str = ""
    skipped: str = ""

    def note_recovery(self, seconds: float) -> None:
        """Keep the longest time."""
        self.recovery_s = max(self.recovery_s, seconds)

    def check(self, *, holds: bool, claim: str) -> None:
        """Write a claim down that does not hold."""
        if not holds:
            self.ledger.faults.append(claim)

    def finish(self, world: World, *, keep_logs: bool = True) -> Result:
        """Look whether all that was acknowledged is there."""
        verify(world, self.ledger, keep_logs=keep_logs)
        self._read_log(world)
        return self

    def _read_log(self, world: World) -> None:
        """A traceback of ours in the log is a fault, whatever the clients saw."""
        log = world.server.read_log()
        for line in log.splitlines():
            if line.endswith("ended unforeseen"):
                self.ledger.faults.append(f"server log: {line[:200]}")
        if self.ledger.faults:
            self.ledger.faults.append(f"the server's log is kept as {world.keep_log()}")


def pause(seconds: float) -> None:
    """Let the load go on between two faults."""
    time.sleep(seconds)

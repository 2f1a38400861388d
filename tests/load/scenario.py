"""Result of one scenario."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from .ledger import Ledger
from .verifying import verify
from .world import World


@dataclass
class Result:
    """Actions and findings of one scenario.

    :param did: Short description of the fault.
    :param recovery_s: Longest time from the end of a fault until the server worked again.
    :param notes: Additional figures.
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
        """Record a claim that is false."""
        if not holds:
            self.ledger.faults.append(claim)

    def finish(self, world: World, *, keep_logs: bool = True) -> Result:
        """Check that all acknowledged data exists."""
        verify(world, self.ledger, keep_logs=keep_logs)
        self._read_log(world)
        return self

    def _read_log(self, world: World) -> None:
        """Report tracebacks in the log as faults."""
        log = world.server.read_log()
        for line in log.splitlines():
            if line.endswith("failed unexpectedly"):
                self.ledger.faults.append(f"server log: {line[:200]}")
        if self.ledger.faults:
            self.ledger.faults.append(f"the server's log is kept as {world.keep_log()}")


def pause(seconds: float) -> None:
    """Continue the load for some time between two faults."""
    time.sleep(seconds)

"""The server's wall clock jumps an hour ahead and back."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from ..clock import Clock
from .scenario import Result, pause
from .traffic import traffic
from .world import LEASE_S, World, parse_json

_HOUR_S = 3600


def jump_clock(size: float) -> Result:
    """Change the clock under load. Leases of living and dead workers must stay correct."""
    jumps = max(1, round(2 * size))
    result = Result(f"the clock set an hour ahead and an hour back {jumps} times, a worker killed")
    with tempfile.NamedTemporaryFile() as file:
        clock = Clock(Path(file.name))
        with World(
            **clock.environ,
            # By default, events of runs are also kept for one hour.
            ASTRBOT_RUN_LOG_KEEP_S="86400",
        ) as world:
            with traffic(world, result.ledger, min(1.0, size)):
                pause(2)
                _jump(world, result, clock, jumps)
                ended = result.ledger.errors["event run_interrupted"]
                result.check(holds=not ended, claim=f"{ended} living runs were taken for dead")
                # Its lease is an hour in the future, but its runs must still end.
                clock.set_s(_HOUR_S)
                pause(LEASE_S * 2)
                clock.set_s(0)
                world.kill_worker(random.Random(1).choice)
                result.note_recovery(world.wait_until_it_serves())
                pause(LEASE_S)
            _check_expiry(world, result, clock)
            return result.finish(world)


def _jump(world: World, result: Result, clock: Clock, jumps: int) -> None:
    for _ in range(jumps):
        for ahead_s in (_HOUR_S, 0, -_HOUR_S, 0):
            clock.set_s(ahead_s)
            result.note_recovery(world.wait_until_it_serves())
            pause(LEASE_S * 1.5)


def _check_expiry(world: World, result: Result, clock: Clock) -> None:
    """A key expires by the clock: it is rejected an hour later, not before."""
    made = world.server.request(
        "POST", "/api/v1/keys/session", world.key, json={"username": "a", "expires_in_s": 600}
    )
    secret = parse_json(made.data)["data"]["api_key"]
    for ahead_s, wanted in ((0, 200), (_HOUR_S, 401), (0, 200)):
        clock.set_s(ahead_s)
        status = world.server.request("GET", "/api/v1/keys/self", secret).status
        result.check(holds=status == wanted, claim=f"a key of 600 s: {status} after {ahead_s} s")

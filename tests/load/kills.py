"""Workers and the whole server are killed repeatedly."""

from __future__ import annotations

import random

from .scenario import Result, pause
from .traffic import traffic
from .world import World


def kill_workers(size: float) -> Result:
    """Kill on SQLite."""
    return _kill(size, shared=False)


def kill_workers_shared(size: float) -> Result:
    """Kill on PostgreSQL and Redis."""
    return _kill(size, shared=True)


def _kill(size: float, *, shared: bool) -> Result:
    kills = max(2, round(8 * size))
    state = "PostgreSQL and Redis" if shared else "SQLite"
    result = Result(f"{kills} workers killed, then all of the server, on {state}")
    chance = random.Random(1)
    with World(shared=shared) as world:
        with traffic(world, result.ledger, min(1.0, size)):
            pause(2)
            for _ in range(kills):
                world.kill_worker(chance.choice)
                pause(chance.uniform(0.3, 2.5))
                result.note_recovery(world.wait_until_it_serves())
            world.kill_server()
            world.start_server()
            result.note_recovery(world.wait_until_it_serves())
            pause(2)
        return result.finish(world)

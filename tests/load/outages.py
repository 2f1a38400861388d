"""PostgreSQL and Redis fail under load and return."""

from __future__ import annotations

import random

from .scenario import Result, pause
from .traffic import traffic
from .world import World

#: Durations of the outages in seconds, shorter and longer than a request waits.
_AWAY_S = (0.2, 3.0, 0.2, 8.0)


def restart_postgres(size: float) -> Result:
    """Stop PostgreSQL in both ways and start it again."""
    rounds = max(1, round(2 * size))
    result = Result(
        f"PostgreSQL ended {2 * rounds} times fast, {2 * rounds} at once, workers killed meanwhile"
    )
    chance = random.Random(1)
    with World(shared=True) as world:
        assert world.postgres is not None
        with traffic(world, result.ledger, min(1.0, size)):
            pause(2)
            for number, away_s in enumerate(_AWAY_S * rounds):
                world.postgres.end(at_once=number % 4 >= 2)
                if away_s > 1:
                    # Its replacement finds no database.
                    world.kill_worker(chance.choice)
                pause(away_s)
                world.postgres.start()
                result.note_recovery(world.wait_until_it_serves())
                pause(1)
        return result.finish(world)


def restart_redis(size: float) -> Result:
    """Kill Redis and start it with or without its data."""
    rounds = max(1, round(2 * size))
    result = Result(f"Redis killed {4 * rounds} times, half of them emptied")
    with World(shared=True) as world:
        assert world.redis is not None
        with traffic(world, result.ledger, min(1.0, size)):
            pause(2)
            for number, away_s in enumerate(_AWAY_S * rounds):
                world.redis.kill()
                pause(away_s)
                world.redis.start(persistent=number % 4 < 2)
                result.note_recovery(world.wait_until_it_serves())
                pause(1)
        # Events that an emptied Redis lost cannot be read again.
        return result.finish(world, keep_logs=False)

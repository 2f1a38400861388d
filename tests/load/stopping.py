"""The server is reloaded and stopped under load."""

from __future__ import annotations

import os
import signal

from ..waiting import wait_for
from .scenario import Result, pause
from .traffic import traffic
from .world import World


def stop_and_reload(size: float) -> Result:
    """Send HUP repeatedly, then TERM, and start the server again."""
    reloads = max(1, round(4 * size))
    result = Result(f"{reloads} times HUP, then TERM and a new start")
    with World() as world:
        with traffic(world, result.ledger, min(1.0, size)):
            pause(2)
            for _ in range(reloads):
                before = set(world.server.list_workers())
                os.kill(world.server.process.pid, signal.SIGHUP)
                result.note_recovery(world.wait_until_it_serves())
                wait_for(lambda before=before: not before & set(world.server.list_workers()), 60)
            code = world.server.stop()
            result.check(holds=code == 0, claim=f"TERM ended the server with {code}")
            world.start_server()
            result.note_recovery(world.wait_until_it_serves())
            pause(1)
        return result.finish(world)

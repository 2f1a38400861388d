"""Turns that are in the middle of something when workers are killed: they go on, and end right."""

from __future__ import annotations

import random
import re
import threading
import time

import urllib3

from ..servers import iter_events
from .scenario import Result, pause
from .world import World

#: Time between two kills, in seconds.
_EVERY_S = 2.0

#: How long a turn may take to its end, in seconds.
_PATIENCE_S = 180.0

#: Text, thinking and a tool; each turn lasts some seconds.
_KINDS = (
    "DELAY=100 N=60 {}",
    "THINK DELAY=100 N=40 {}",
    "TOOL=recall DELAY=50 {}",
    "FIRST=3000 {}",
)

_LOST = (urllib3.exceptions.HTTPError, OSError)


def kill_running(size: float) -> Result:
    """Kill a worker every two seconds while many turns run."""
    turns, kills = max(10, round(100 * size)), max(3, round(30 * size))
    result = Result(f"{kills} workers killed while {turns} turns ran")
    ends: dict[int, str] = {}
    chance = random.Random(1)
    with World(ASTRBOT_MAX_PICKUPS="20") as world:
        undisturbed = {kind: _finish(world, kind.format("first")) for kind in _KINDS}

        def run(number: int) -> None:
            ends[number] = _finish(world, _KINDS[number % len(_KINDS)].format(f"turn {number}"))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(turns)]
        for thread in threads:
            thread.start()
        for _ in range(kills):
            pause(_EVERY_S)
            world.kill_worker(chance.choice)
        for thread in threads:
            thread.join(_PATIENCE_S)
        result.note_recovery(world.wait_until_it_serves())
        right = sum(
            text == undisturbed[_KINDS[number % len(_KINDS)]] for number, text in ends.items()
        )
        figures = world.server.request("GET", "/metrics").data.decode()
        picked = re.search(r"astrbot_run_pickups_total (\d+)", figures)
        result.notes = f"{right} of {turns} turns ended right; {picked[1] if picked else 0} pickups"
        result.check(holds=right >= 0.99 * turns, claim=result.notes)
        return result.finish(world)


def _finish(world: World, message: str) -> str:
    """Have one turn, over as many connections as that takes; return its whole text."""
    body = {"username": "runner", "message": message}
    key, until = f"k{random.getrandbits(64)}", time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        try:
            opened = world.server.request(
                "POST", "/api/v1/chat", world.key, json=body, preload_content=False,
                headers={"Idempotency-Key": key},
            )  # fmt: skip
            if opened.status == 200:
                for event in iter_events(opened):
                    if event["type"] == "complete":
                        return str(event["data"])
            opened.close()
        except _LOST:
            pass
        time.sleep(0.2)
    return "no end"

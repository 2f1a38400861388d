"""Running turns complete correctly when their workers die or are replaced."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import urllib3

from ..servers import Server, iter_events
from ..steps_app import CONFIG
from ..waiting import wait_for
from .scenario import Result, pause
from .world import World

#: Seconds between two kills.
_EVERY_S = 2.0

#: Time limit of a turn, in seconds.
_PATIENCE_S = 180.0

#: Config and message of turns with text, reasoning, and tools, one of which must not be called
#: twice. Each turn lasts some seconds.
_KINDS = (
    ("default", "DELAY=100 N=60 {}"),
    ("default", "THINK DELAY=100 N=40 {}"),
    ("default", "TOOL=recall DELAY=50 {}"),
    ("default", "FIRST=3000 {}"),
    ("steps", "STEPS=4 DELAY=200 {}"),
    ("steps", "STEPS=8 DELAY=250 {}"),
)

_LOST = (urllib3.exceptions.HTTPError, OSError)


@dataclass
class _Turns:
    """Many turns at once, on any host of a world.

    :param finish: Runs one turn, and returns its whole text or the reason of its failure.
    """

    world: World
    finish: Callable[[World, str, str], str]
    undisturbed: dict[str, str] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self, count: int, *, again: bool = False) -> None:
        """Run one undisturbed turn of each kind, then start the others.

        :param again: Whether to start a new turn after each one, to keep their number constant.
        """
        for config, message in _KINDS:
            self.undisturbed[message] = _resume_to_end(self.world, config, message.format("first"))
        self.threads = [
            threading.Thread(target=self._run, args=(number, count if again else 0), daemon=True)
            for number in range(count)
        ]
        for thread in self.threads:
            thread.start()

    def _run(self, number: int, further: int) -> None:
        while True:
            config, message = _KINDS[number % len(_KINDS)]
            self.ends[number] = "no end"
            self.ends[number] = self.finish(self.world, config, message.format(f"turn {number}"))
            if not further or self.stopped.is_set():
                return
            number += further

    def join(self) -> dict[int, str]:
        """Start no more turns, wait for all, and return the wrong results."""
        self.stopped.set()
        for thread in self.threads:
            thread.join(_PATIENCE_S)
        return {
            number: text
            for number, text in self.ends.items()
            if text != self.undisturbed[_KINDS[number % len(_KINDS)][1]]
        }


def kill_running(size: float) -> Result:
    """Kill a worker every two seconds while many turns run, on SQLite."""
    return _kill(size, shared=False)


def kill_running_shared(size: float) -> Result:
    """The same on two hosts with PostgreSQL and Redis."""
    return _kill(size, shared=True)


def roll(size: float) -> Result:
    """Replace all workers while many turns run, on SQLite."""
    return _roll(size, shared=False)


def roll_shared(size: float) -> Result:
    """The same on two hosts with PostgreSQL and Redis, one after the other."""
    return _roll(size, shared=True)


def _kill(size: float, *, shared: bool) -> Result:
    turns, kills = max(12, round(100 * size)), max(3, round(30 * size))
    result = Result(f"{kills} workers killed while {turns} turns ran")
    chance = random.Random(1)
    with _make_world(shared=shared, ASTRBOT_MAX_PICKUPS="20") as world:
        running = _Turns(world, _resume_to_end)
        running.start(turns)
        for _ in range(kills):
            pause(_EVERY_S)
            world.kill_worker(chance.choice)
        wrong = running.join()
        result.note_recovery(world.wait_until_it_serves())
        _note(result, world, turns, wrong, "pickups")
        result.check(holds=len(wrong) <= 0.01 * turns, claim=f"{result.notes}: {_show(wrong)}")
        return result.finish(world)


def _roll(size: float, *, shared: bool) -> Result:
    clients, rounds = max(12, round(50 * size)), max(1, round(3 * size))
    result = Result(f"all workers replaced {rounds} times while {clients} turns ran")
    with _make_world(shared=shared, ASTRBOT_GRACEFUL_TIMEOUT_S="30") as world:
        running = _Turns(world, _read_once)
        running.start(clients, again=True)
        pause(1)
        for _ in range(rounds):
            for host in world.hosts:
                _reload(host)
                result.note_recovery(world.wait_until_it_serves())
        wrong = running.join()
        _note(result, world, len(running.ends), wrong, "handovers")
        result.check(holds=not wrong, claim=f"{result.notes}: {_show(wrong)}")
        return result.finish(world)


def _make_world(*, shared: bool, **environ: str) -> World:
    return World(
        shared=shared, hosts=2 if shared else 1, configs={"steps": CONFIG},
        app="tests.steps_app:create_steps_app()", **environ,
    )  # fmt: skip


def _reload(host: Server) -> None:
    """Replace the workers of a host, and return when the old ones are gone."""
    before = set(host.list_workers())
    os.kill(host.process.pid, signal.SIGHUP)
    wait_for(lambda: not before & set(host.list_workers()), 90)


def _note(result: Result, world: World, turns: int, wrong: dict[int, str], what: str) -> None:
    """Record the number of correct turns, and check that no call was made twice."""
    count = 0.0
    for host in world.hosts:
        figures = host.request("GET", "/metrics").data.decode()
        found = re.search(rf"astrbot_run_{what}_total (\d+)", figures)
        count += int(found[1]) if found else 0
    calls = Counter(Path(world.calls_path).read_text(encoding="utf-8").split())
    twice = [call for call, times in calls.items() if times > 1]
    result.notes = (
        f"{turns - len(wrong)} of {turns} turns ended right; {count:.0f} {what}; "
        f"{len(calls)} calls that must not be made twice, {len(twice)} were"
    )
    result.check(holds=not twice, claim=f"called twice: {twice[:5]}")


def _show(wrong: dict[int, str]) -> str:
    return "; ".join(f"turn {number}: {text[-200:]!r}" for number, text in list(wrong.items())[:5])


def _resume_to_end(world: World, config: str, message: str) -> str:
    """Run one turn over as many connections as needed, and return its whole text."""
    body = {"username": "runner", "message": message, "config_id": config}
    key, until = f"k{random.getrandbits(64)}", time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        try:
            opened = random.choice(world.hosts).request(
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


def _read_once(world: World, config: str, message: str) -> str:
    """Run one turn with a single request, and read its response to the end."""
    body = {"username": "runner", "message": message, "config_id": config}
    try:
        opened = random.choice(world.hosts).request(
            "POST", "/api/v1/chat", world.key, json=body, preload_content=False,
            headers={"Connection": "close"},
        )  # fmt: skip
        if opened.status != 200:
            return f"{opened.status}: {opened.data!r}"
        shown, whole, kinds = "", "", list[str]()
        for event in iter_events(opened):
            kinds.append(event["type"])
            if event["type"] == "plain" and event["chain_type"] is None:
                shown += event["data"]
            elif event["type"] == "rewind":
                shown = shown[: len(shown) - event["data"]["chars"]]
            elif event["type"] == "complete":
                whole = event["data"]
    except _LOST as error:
        return f"broken off: {error!r}"
    if kinds[-1] != "end" or "error" in kinds or shown != whole:
        return f"{kinds[-4:]}, shown {shown!r}, complete {whole!r}"
    return whole

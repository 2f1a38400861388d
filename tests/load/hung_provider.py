"""A model endpoint that accepts requests and does not answer them."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from ..servers import parse_events, write_config
from .scenario import Result
from .traffic import traffic
from .world import World, parse_json

#: ``read_timeout_s`` of the configs.
_READ_TIMEOUT_S = 4.0

#: First bytes of each endpoint, and bytes it then sends every second.
_WAYS = {
    "silent": (b"", b""),
    "headers": (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", b""),
    "trickle": (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", b": wait\n\n"),
}


def hang_provider(size: float) -> Result:
    """Run turns with hanging endpoints, beside clients of a working one."""
    count = max(2, round(40 * size))
    result = Result(f"{3 * count} turns, {count} each of an endpoint that hangs in its way")
    with _hanging_endpoints() as urls, World() as world:
        for name, url in urls.items():
            write_config(
                world.data_dir, url, name=name, provider=f"read_timeout_s = {_READ_TIMEOUT_S}",
                agent="titles = false",
            )  # fmt: skip
        world.server.stop()
        world.start_server()
        with (
            traffic(world, result.ledger, min(0.5, size)),
            ThreadPoolExecutor(6 * count) as pool,
        ):
            world.wait_until_it_serves()
            asked = [(name, number) for name in urls for number in range(count)]
            hung = [pool.submit(_ask, world, result, *one) for one in asked]
            behind = [pool.submit(_ask_behind, world, result, *one) for one in asked]
            result.note_recovery(world.wait_until_it_serves())
            time.sleep(_READ_TIMEOUT_S)
            for number in range(count):
                _stop(world, result, f"trickle-{number}")
            took_s = [one.result() for one in (*hung, *behind)]
        result.notes = f"The last hung turn ended after {max(took_s):.1f} s."
        return result.finish(world)


def _ask(world: World, result: Result, name: str, number: int) -> float:
    """Run a turn with a hanging endpoint and return its duration."""
    began = time.monotonic()
    events = _chat(world, f"{name}-{number}", name)
    codes = [one["code"] for one in events if one["type"] == "error"]
    ended = bool(events) and events[-1]["type"] == "end"
    wanted = [] if name == "trickle" else ["provider_error"]
    result.check(holds=ended and codes == wanted, claim=f"{name}-{number} ended with {codes}")
    result.ledger.errors.update(f"event {code}" for code in codes)
    return time.monotonic() - began


def _ask_behind(world: World, result: Result, name: str, number: int) -> float:
    """Run a second turn of the same session, with the working endpoint."""
    time.sleep(1.0)
    began = time.monotonic()
    events = _chat(world, f"{name}-{number}", "default")
    said = [one["data"] for one in events if one["type"] == "complete"]
    result.check(
        holds=said == ["echo: ECHO turn"], claim=f"the turn behind {name}-{number}: {said}"
    )
    return time.monotonic() - began


def _chat(world: World, session_id: str, config_id: str) -> list[dict[str, Any]]:
    body = {
        "username": "hung", "session_id": session_id, "message": "ECHO turn",
        "config_id": config_id,
    }  # fmt: skip
    answer = world.server.request("POST", "/api/v1/chat", world.key, json=body, timeout=60)
    assert answer.status == 200, answer.data
    return parse_events(answer.data)


def _stop(world: World, result: Result, session_id: str) -> None:
    """Stop the slow turn, and only that one."""
    path = f"/api/v1/chat/sessions/{session_id}"
    shown = parse_json(world.server.request("GET", f"{path}?username=hung", world.key).data)
    run_id = shown["data"]["active_runs"][0]["run_id"]
    answer = world.server.request("POST", f"/api/v1/chat/runs/{run_id}/stop", world.key)
    stopped = json.loads(answer.data)["data"]["stopped_count"]
    result.check(holds=stopped == 1, claim=f"stopping {session_id} stopped {stopped} turns")


@contextmanager
def _hanging_endpoints() -> Iterator[dict[str, str]]:
    """Open one endpoint for each way to hang, and yield their addresses."""
    over = threading.Event()
    listeners = {name: socket.create_server(("127.0.0.1", 0), backlog=1024) for name in _WAYS}
    for name, listener in listeners.items():
        threading.Thread(target=_serve, args=(listener, *_WAYS[name], over), daemon=True).start()
    try:
        yield {
            name: f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            for name, listener in listeners.items()
        }
    finally:
        over.set()
        for listener in listeners.values():
            listener.close()


def _serve(listener: socket.socket, first: bytes, then: bytes, over: threading.Event) -> None:
    """Accept all connections and send only the given bytes."""
    listener.settimeout(1.0)
    taken: list[socket.socket] = []
    while not over.is_set():
        began = time.monotonic()
        while (left_s := began + 1.0 - time.monotonic()) > 0:
            listener.settimeout(max(0.01, left_s))
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                break
            except OSError:
                return
            taken.append(connection)
            with suppress(OSError):
                connection.sendall(first)
        for connection in taken:
            with suppress(OSError):
                connection.sendall(then)
    for connection in taken:
        connection.close()

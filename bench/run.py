"""``make bench``: the figures that stand in the documentation.

Each figure is a ratio, or stands beside what it is compared with, measured
in turns in one run on the same gunicorn: on a busy machine single numbers
move by a third, ratios much less.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from astrbot_api.testing.fake_openai import FakeOpenAI
from bench.files import measure_files
from bench.load import Result, run_load
from bench.push import measure_pushes
from bench.streams import measure_fast_streams, measure_open_streams, measure_other_worker
from tests.e2e.crowd import chat_at_once
from tests.servers import Server, create_key, write_config

ROUNDS = 5


def _get(path: str, key: str) -> Callable[[int], bytes]:
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\nX-API-Key: {key}\r\n\r\n".encode()
    return lambda number: request


def _has_length(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    at = head.lower().index(b"content-length:")
    return len(body) >= int(head[at + 15 :].split(b"\r\n", 1)[0])


def measure_bots(seconds: float) -> dict[str, Any]:
    """(a) An authenticated ``GET /im/bots`` beside the same answer from bare Flask."""
    with (
        tempfile.TemporaryDirectory() as ours,
        tempfile.TemporaryDirectory() as bare,
    ):
        folder = Path(ours)
        write_config(folder, "http://127.0.0.1:9/v1")
        (folder / "bots.toml").write_text('[[bot]]\nid = "tg"\ntype = "telegram"\n')
        key = create_key(folder, "im")
        with (
            Server(folder, workers=1) as server,
            Server(Path(bare), workers=1, app="bench.bare:application") as flask,
        ):
            request = _get("/api/v1/im/bots", key)

            def load(port: int) -> Result:
                return run_load(
                    port, request, _has_length, connections=32, seconds=seconds,
                    is_good=lambda answer: b'"tg"' in answer and b" 200 " in answer[:16],
                )  # fmt: skip

            load(server.port), load(flask.port)  # warm
            pairs = [
                (load(server.port).per_second, load(flask.port).per_second) for _ in range(ROUNDS)
            ]
    return {
        "ours_per_second": round(statistics.median(one for one, _ in pairs)),
        "flask_per_second": round(statistics.median(one for _, one in pairs)),
        "ratio": round(statistics.median(one / other for one, other in pairs), 3),
        "aim": "ratio >= 0.85",
    }


def measure_turns(seconds: float) -> dict[str, Any]:
    """(c) Whole chat turns, from a model endpoint that answers at once."""
    with tempfile.TemporaryDirectory() as name, FakeOpenAI() as model:
        folder = Path(name)
        write_config(folder, model.base_url, agent="titles = false")
        key = create_key(folder, "chat")
        with Server(folder, workers=1) as server:
            sessions = [str(uuid.uuid4()) for _ in range(400)]

            def request(number: int) -> bytes:
                body = json.dumps(
                    {
                        "username": "bench",
                        "session_id": sessions[number % len(sessions)],
                        "message": f"Hello {number}",
                    }
                )
                return (
                    f"POST /api/v1/chat HTTP/1.1\r\nHost: bench\r\nX-API-Key: {key}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
                ).encode()

            def load() -> Result:
                return run_load(
                    server.port, request, lambda answer: answer.endswith(b"\r\n0\r\n\r\n"),
                    connections=32, seconds=seconds,
                    is_good=lambda answer: b'"complete","data":"Hello from mock."' in answer,
                )  # fmt: skip

            load()
            rounds = [load() for _ in range(ROUNDS)]
    return {
        "turns_per_second_one_worker": round(statistics.median(r.per_second for r in rounds)),
        "failed": sum(r.failed for r in rounds),
        "p50_ms": round(statistics.median(r.percentile_ms(50) for r in rounds), 1),
        "p99_ms": round(statistics.median(r.percentile_ms(99) for r in rounds), 1),
        "aim": "200 turns a second on one worker",
    }


def measure_crowd(seconds: float) -> dict[str, Any]:
    """500 chats at once, two workers, a model that takes 4 s for each."""
    with tempfile.TemporaryDirectory() as name, FakeOpenAI() as model:
        folder = Path(name)
        write_config(folder, model.base_url, agent="titles = false")
        key = create_key(folder, "chat")
        with Server(folder) as server:
            server.chat(key, message="warm")
            outcomes = chat_at_once(server.port, key, 500, "ECHO FIRST=4000")
    return {
        "chats": len(outcomes),
        "right": sum(one.right for one in outcomes),
        "seconds": round(max(one.ended_s for one in outcomes), 2),
        "aim": "500 right in under 8 s",
    }


def measure_sessions(seconds: float) -> dict[str, Any]:
    """(b) A page of sessions of somebody who has a thousand, and a million."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_config(folder, "http://127.0.0.1:9/v1")
        key = create_key(folder, "chat")
        _fill_sessions(folder / "astrbot.db", {"small": 1000, "big": 1_000_000})
        with Server(folder, workers=1) as server:

            def load(username: str, page: int) -> float:
                path = f"/api/v1/chat/sessions?username={username}&page={page}"
                return run_load(
                    server.port, _get(path, key), _has_length, connections=1,
                    seconds=seconds / 3, is_good=lambda answer: b'"session_id"' in answer,
                ).percentile_ms(50)  # fmt: skip

            cases = {"small_1": ("small", 1), "big_1": ("big", 1), "big_1000": ("big", 1000)}
            rounds = [{name: load(*case) for name, case in cases.items()} for _ in range(ROUNDS)]
    p50 = {name: statistics.median(one[name] for one in rounds) for name in cases}
    return {
        "page_1_of_a_thousand_ms": round(p50["small_1"], 2),
        "page_1_of_a_million_ms": round(p50["big_1"], 2),
        "page_1000_of_a_million_ms": round(p50["big_1000"], 2),
        "ratio": round(p50["big_1000"] / p50["small_1"], 2),
        "aim": "page 1,000 of a million within 2x of page 1 of a thousand",
    }


def _fill_sessions(path: Path, counts: dict[str, int]) -> None:
    with sqlite3.connect(path) as db:
        for creator, count in counts.items():
            db.executemany(
                "INSERT INTO chat_session (session_id, platform_id, creator, is_group,"
                " context_after, created_at, updated_at) VALUES (?, 'webchat', ?, 0, 0, ?, ?)",
                ((f"{creator}-{n}", creator, n, n) for n in range(count)),
            )
            db.execute("INSERT INTO session_count VALUES (NULL, ?, 'webchat', ?)", (creator, count))
    db.close()


MEASURES: dict[str, Callable[[float], dict[str, Any]]] = {
    "bots": measure_bots,
    "sessions": measure_sessions,
    "turns": measure_turns,
    "crowd": measure_crowd,
    "files": measure_files,
    "push": lambda seconds: measure_pushes(),
    "open_streams": measure_open_streams,
    "fast_streams": measure_fast_streams,
    "other_worker": measure_other_worker,
}


def main() -> None:
    """Measure what is asked for and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MEASURES)}; default: all")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one round")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    figures: dict[str, Any] = {"load_before": os.getloadavg()[0]}
    for name in options.names or MEASURES:
        figures[name] = MEASURES[name](options.seconds)
        print(name, json.dumps(figures[name]), flush=True)
    figures["load_after"] = os.getloadavg()[0]
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

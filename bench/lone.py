"""(c2) A single turn compared with its endpoint: the delay for one user alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from astrbot_api.testing.fake_openai import FakeOpenAI
from tests.servers import Server, create_key, write_config

from .contestants import WORKERS, make_folder, start_bare
from .figures import FLASK, OURS, Aim, Finding, Panel, Sizes, percentile, spread, take_turns

_COMPARED = (
    "One client (Python's http.client, one connection) runs one whole turn after another and reads "
    "to `end`, with and without pauses of 50 ms. The endpoint returns four tokens at once. For "
    "comparison, the same client calls the endpoint and reads to `[DONE]`, and bare Flask, which "
    "forwards the tokens and stores nothing."
)

_ENDPOINT = "the endpoint alone"
_PAUSES_S = {"with a pause": 0.05, "without a pause": 0.0}
_TURNS = 60

#: Maximum time of a turn, as a multiple of its endpoint's own time.
_AIM = 7.0


class Request(NamedTuple):
    """A request, its port, and text that a complete answer contains."""

    port: int
    path: str
    body: dict[str, Any]
    proof: bytes
    key: str = "-"


def measure_lone(sizes: Sizes) -> Finding:
    """Measure the p50 of a turn, as a multiple of the endpoint's own."""
    with ExitStack() as stack:
        model = stack.enter_context(FakeOpenAI())
        folder = make_folder(stack)
        write_config(folder, model.base_url, agent="titles = false")
        server = stack.enter_context(Server(folder, workers=WORKERS))
        key = create_key(folder, "chat")
        bare = start_bare(stack, BENCH_MODEL=model.base_url)[FLASK]
        message = {"username": "bench", "message": "Hello"}
        requests = {
            OURS: Request(server.port, "/api/v1/chat", message, b'"end"', key),
            FLASK: Request(bare.port, "/relay", message, b'"data":"."'),
            _ENDPOINT: _ask_endpoint(model.base_url),
        }
        jobs: dict[str, Callable[[], float]] = {
            f"{name}, {pause}": lambda name=name, pause_s=pause_s: _time_turns(
                requests[name], pause_s
            )
            for pause, pause_s in _PAUSES_S.items()
            for name in requests
        }
        found = take_turns(jobs, sizes.rounds)
    p50 = {name: spread(values) for name, values in found.items()}
    ratios, bare_ratios = (
        {
            pause: p50[f"{name}, {pause}"].median / p50[f"{_ENDPOINT}, {pause}"].median
            for pause in _PAUSES_S
        }
        for name in (OURS, FLASK)
    )
    return Finding(
        _COMPARED,
        {"p50_ms": p50, "ratio_to_endpoint": ratios, "ratio_of_flask_to_endpoint": bare_ratios},
        [
            Aim(f"a single turn, {pause}, ratio to the endpoint", ratio, at_most=_AIM)
            for pause, ratio in ratios.items()
        ],
        [Panel("a single whole turn, p50", "ms", p50)],
    )


def _ask_endpoint(base_url: str) -> Request:
    body = {"model": "mock", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    parts = urlsplit(base_url)
    return Request(parts.port or 0, f"{parts.path}/chat/completions", body, b"[DONE]")


def _time_turns(request: Request, pause_s: float) -> float:
    """Return the p50 of turns on one connection, in milliseconds."""
    took_ms = []
    headers = {"Content-Type": "application/json", "X-API-Key": request.key}
    connection = HTTPConnection("127.0.0.1", request.port)
    for _ in range(_TURNS):
        time.sleep(pause_s)
        began = time.perf_counter()
        connection.request("POST", request.path, json.dumps(request.body), headers)
        answer = connection.getresponse().read()
        took_ms.append(1000 * (time.perf_counter() - began))
        assert request.proof in answer, answer[-200:]
    connection.close()
    return percentile(took_ms, 50)

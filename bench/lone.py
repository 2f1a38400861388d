"""(c2) A lone whole turn beside its endpoint: what one user alone waits for."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from urllib.parse import urlsplit

from astrbot_api.testing.fake_openai import FakeOpenAI
from tests.servers import Server, create_key, write_config

from .contestants import WORKERS, make_folder
from .crowd import chat
from .figures import OURS, Aim, Finding, Panel, Sizes, percentile, spread, take_turns

_COMPARED = (
    "One client has one whole turn after another, read to `end`, with 50 ms between two and with "
    "none; the endpoint answers four tokens at once. Beside it the same client asks the endpoint "
    "itself, and reads to `[DONE]`."
)

_ENDPOINT = "the endpoint alone"
_PAUSES_S = {"with a pause": 0.05, "without a pause": 0.0}
_TURNS = 60

#: Most that a turn may take of its endpoint's own time.
_AIM = 7.0


def measure_lone(sizes: Sizes) -> Finding:
    """The p50 of a turn, as a multiple of the endpoint's own."""
    with ExitStack() as stack:
        model = stack.enter_context(FakeOpenAI())
        folder = make_folder(stack)
        write_config(folder, model.base_url, agent="titles = false")
        server = stack.enter_context(Server(folder, workers=WORKERS))
        key = create_key(folder, "chat")
        requests: dict[str, tuple[int, bytes]] = {
            OURS: (server.port, chat(key, "Hello")),
            _ENDPOINT: (urlsplit(model.base_url).port or 0, _ask_endpoint(model.base_url)),
        }
        jobs: dict[str, Callable[[], float]] = {
            f"{name}, {pause}": lambda name=name, pause_s=pause_s: _time_turns(
                *requests[name], pause_s
            )
            for pause, pause_s in _PAUSES_S.items()
            for name in requests
        }
        found = take_turns(jobs, sizes.rounds)
    p50 = {name: spread(values) for name, values in found.items()}
    ratios = {
        pause: p50[f"{OURS}, {pause}"].median / p50[f"{_ENDPOINT}, {pause}"].median
        for pause in _PAUSES_S
    }
    return Finding(
        _COMPARED,
        {"p50_ms": p50, "ratio_to_endpoint": ratios},
        [
            Aim(f"a lone turn, {pause}, of the endpoint's time", ratio, at_most=_AIM)
            for pause, ratio in ratios.items()
        ],
        [Panel("a lone whole turn, p50", "ms", p50)],
    )


def _ask_endpoint(base_url: str) -> bytes:
    parts = urlsplit(base_url)
    body = json.dumps(
        {"model": "mock", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    )
    return (
        f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def _time_turns(port: int, request: bytes, pause_s: float) -> float:
    """Return the p50 of turns on one connection, in milliseconds."""
    took_ms = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_TURNS):
            time.sleep(pause_s)
            began = time.perf_counter()
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"\r\n0\r\n\r\n"):
                chunk = connection.recv(65536)
                assert chunk, answer[-200:]
                answer += chunk
            took_ms.append(1000 * (time.perf_counter() - began))
            assert b'"end"' in answer or b"[DONE]" in answer, answer[-200:]
    return percentile(took_ms, 50)

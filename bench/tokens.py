"""(d) Tokens per second, through one stream and through five hundred."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.servers import Server, create_key

from .contestants import (
    ROOM,
    WORKERS,
    make_folder,
    read_usage,
    start_bare,
    stop_at_once,
    write_mock_config,
)
from .crowd import Crowd, bare_stream, chat
from .figures import FLASK, OURS, WSGI, Aim, Finding, Panel, Sizes, percentile, spread, take_turns

_FLOOD = (
    "The same source in the same process yields tokens during the round, with a greenlet switch "
    "after each, as a token comes from a socket. The bare generators write each token as one "
    "frame. This server numbers it, stores it in the journal (fifty transactions per second), adds"
    " it to the reply and writes the same frame, together with others of its transaction. One "
    "client counts the tokens that arrive."
)

_PACED = (
    "Each stream has 20 tokens per second from the same source. Measured are the delay of a token "
    "until the client has it, and CPU time. This server sends a token after its transaction."
)


def start_ticking(stack: ExitStack, folder: Path | None = None) -> tuple[Server, str]:
    """Start this server with the ticking model; return it and a key."""
    folder = folder or make_folder(stack)
    write_mock_config(folder)
    key = create_key(folder, "chat")
    server = Server(folder, workers=WORKERS, app="bench.ticking:create()", **ROOM)
    stack.enter_context(server)
    stop_at_once(stack, server)
    server.chat(key, message="TICKS=1 EVERY=1")
    return server, key


def measure_tokens(sizes: Sizes) -> Finding:
    """Measure tokens at full speed."""
    with ExitStack() as stack:
        ours, key = start_ticking(stack)
        servers = {OURS: ours, **start_bare(stack)}
        for server in servers.values():
            stop_at_once(stack, server)
        requests = {
            OURS: chat(key, "FLOOD"),
            FLASK: bare_stream("FLOOD"),
            WSGI: bare_stream("FLOOD"),
        }

        def flood(name: str, streams: int) -> tuple[float, float]:
            return _flood(servers[name], requests[name], streams, sizes.seconds)

        found = {
            streams: take_turns(
                {name: partial(flood, name, streams) for name in servers}, max(1, sizes.rounds - 2)
            )
            for streams in (1, sizes.fast_streams)
        }
    figures: dict[str, object] = {}
    aims, panels = [], []
    for streams, rounds in found.items():
        of = "one stream" if streams == 1 else f"{streams} streams"
        rate = {name: spread([one for one, _ in some]) for name, some in rounds.items()}
        cpu_us = {name: spread([one for _, one in some]) for name, some in rounds.items()}
        share = rate[OURS].median / rate[FLASK].median
        figures[of] = {"tokens_per_second": rate, "cpu_us_per_token": cpu_us, "ratio": share}
        aims.append(Aim(f"tokens per second, ratio to bare Flask, {of}", share, at_least=0.7))
        panels.append(Panel(of, "tokens per second", rate, 0.7 * rate[FLASK].median))
        panels.append(Panel(f"{of}: CPU time", "µs per token", cpu_us))
    return Finding(_FLOOD, figures, aims, panels)


def _flood(server: Server, request: bytes, streams: int, seconds: float) -> tuple[float, float]:
    """Return tokens per second, and CPU microseconds of the worker per token."""
    crowd = Crowd(server.port)
    try:
        crowd.open([request] * streams)
        crowd.read_for(0.3)  # until every source waits
        server.request("GET", f"/bench/go?seconds={seconds}")
        crowd.read_for(0.3 * seconds)
        before, crowd.counting = read_usage(server), True
        crowd.read_for(0.6 * seconds)
        after, crowd.counting = read_usage(server), False
        crowd.read_to_the_end()
    finally:
        crowd.close()
    spent_us = 1e6 * (after.cpu_s - before.cpu_s)
    return crowd.tokens / (0.6 * seconds), spent_us / max(1, crowd.tokens)


def measure_fast_streams(sizes: Sizes) -> Finding:
    """Measure 20 tokens per second on each of many streams."""
    streams, every_ms = sizes.fast_streams, 50
    words = f"TICKS={20 * 600} EVERY={every_ms}"
    contestants: dict[str, Callable[[ExitStack], tuple[Server, bytes]]] = {
        OURS: lambda stack: _ticking(stack, words),
        **{name: lambda stack, name=name: (start_bare(stack)[name], bare_stream(words))
           for name in (FLASK, WSGI)},
    }  # fmt: skip
    cores, delays = {}, {}
    for name, start in contestants.items():
        with ExitStack() as stack:
            server, request = start(stack)
            stop_at_once(stack, server)
            cores[name], delays[name] = _pace(server, [request] * streams, 3 * sizes.seconds)
    p50 = {name: percentile(one, 50) for name, one in delays.items()}
    p99 = {name: percentile(one, 99) for name, one in delays.items()}
    return Finding(
        f"{streams} streams. {_PACED}",
        {
            "tokens_per_second": {n: len(d) / (3 * sizes.seconds) for n, d in delays.items()},
            "cores": cores,
            "delay_p50_ms": p50,
            "delay_p99_ms": p99,
        },
        [],
        [
            Panel(f"{streams} streams, 20 tokens per second each", "cores", cores),
            Panel("delay of a token, p50", "ms", p50),
            Panel("delay of a token, p99", "ms", p99),
        ],
    )


def _ticking(stack: ExitStack, words: str) -> tuple[Server, bytes]:
    server, key = start_ticking(stack)
    return server, chat(key, words)


def _pace(server: Server, requests: list[bytes], seconds: float) -> tuple[float, list[float]]:
    """Return the cores used by a worker, and the delays in milliseconds."""
    crowd = Crowd(server.port)
    try:
        crowd.open(requests)
        crowd.read_for(2)
        before, crowd.timing = read_usage(server), True
        crowd.read_for(seconds)
        after = read_usage(server)
    finally:
        crowd.close()
    return (after.cpu_s - before.cpu_s) / seconds, crowd.delays_ms

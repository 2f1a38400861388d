"""(e) Open streams: their cost, and the delay of another stream."""

from __future__ import annotations

from contextlib import ExitStack

from astrbot_api.testing.fake_openai import FakeOpenAI
from tests.servers import Server, create_key, write_config

from .contestants import ROOM, WORKERS, make_folder, read_usage, start_bare, stop_at_once
from .crowd import Crowd, bare_stream, chat
from .figures import FLASK, OURS, WSGI, Aim, Finding, Panel, Sizes, percentile
from .tokens import start_ticking

_SLOW = "TICKS=600 EVERY=1000"
_SHORT = "TICKS=1 EVERY=1"

_COMPARED = (
    "{streams} streams of one token per second are open. Other streams are opened one after "
    "another, each on a new connection, and timed from the request to the first byte of the body. "
    "Memory: growth of the worker's resident size for each stream with its running turn, with the "
    "source in the worker, and with a connection to a model endpoint for each."
)


def measure_open_streams(sizes: Sizes) -> Finding:
    """Measure first bytes beside open streams, and memory of a stream and of an idle worker."""
    streams = sizes.open_streams
    first_ms: dict[str, list[float]] = {}
    kb: dict[str, float] = {}
    for name in (OURS, FLASK, WSGI):
        with ExitStack() as stack:
            if name == OURS:
                server, key = start_ticking(stack)
                slow, short = chat(key, _SLOW), chat(key, _SHORT)
            else:
                server, slow, short = (
                    start_bare(stack)[name],
                    bare_stream(_SLOW),
                    bare_stream(_SHORT),
                )
                stop_at_once(stack, server)
                server.request("GET", "/api/v1/im/bots")
            first_ms[name], kb[name] = _fill(server, slow, short, streams, 3 * sizes.seconds)
    endpoint = f"{OURS}, endpoint"
    kb[endpoint] = _kb_with_endpoint(streams)
    idle_mb = _idle_mb()
    p50 = {name: percentile(one, 50) for name, one in first_ms.items()}
    p99 = {name: percentile(one, 99) for name, one in first_ms.items()}
    return Finding(
        _COMPARED.format(streams=streams),
        {
            "first_byte_p50_ms": p50,
            "first_byte_p99_ms": p99,
            "further_streams": {name: len(one) for name, one in first_ms.items()},
            "kb_per_stream": kb,
            "idle_mb": idle_mb,
        },
        [
            Aim(f"first byte beside {streams} open streams, p99 ms", p99[OURS], at_most=50),
            Aim("KB per stream", kb[OURS], at_most=40),
            Aim("KB per stream with a connection to an endpoint", kb[endpoint], at_most=40),
            Aim("MB of an idle worker", idle_mb, at_most=80),
        ],
        [
            Panel(f"first byte beside {streams} streams, p50", "ms", p50),
            Panel(f"first byte beside {streams} streams, p99", "ms", p99, 50),
            Panel("memory of a stream", "KB", kb, 40),
            Panel("memory of an idle worker", "MB", {OURS: idle_mb}, 80),
        ],
    )


def _fill(
    server: Server, slow: bytes, short: bytes, streams: int, seconds: float
) -> tuple[list[float], float]:
    """Return first bytes of other streams in milliseconds, and kilobytes per stream."""
    crowd = Crowd(server.port)
    try:
        crowd.time_first_bytes(short, 0.5)  # warm-up
        empty = read_usage(server)
        crowd.open([slow] * streams)
        crowd.read_for(2)
        kb = (read_usage(server).rss_kb - empty.rss_kb) / streams
        return crowd.time_first_bytes(short, seconds), kb
    finally:
        crowd.close()


def _kb_with_endpoint(streams: int) -> float:
    with ExitStack() as stack:
        model = stack.enter_context(FakeOpenAI())
        folder = make_folder(stack)
        write_config(folder, model.base_url, agent="titles = false")
        key = create_key(folder, "chat")
        server = stack.enter_context(Server(folder, workers=WORKERS, **ROOM))
        stop_at_once(stack, server)
        server.chat(key, message="Hello")
        crowd = Crowd(server.port)
        try:
            empty = read_usage(server)
            crowd.open([chat(key, "N=600 DELAY=1000")] * streams)
            crowd.read_for(2)
            return (read_usage(server).rss_kb - empty.rss_kb) / streams
        finally:
            crowd.close()


def _idle_mb() -> float:
    """Return the resident size of a worker that has answered one request."""
    with ExitStack() as stack:
        folder = make_folder(stack)
        write_config(folder, "http://127.0.0.1:9/v1")
        server = stack.enter_context(Server(folder, workers=WORKERS))
        server.request("GET", "/api/v1/im/bots", create_key(folder, "im"))
        return read_usage(server).rss_kb / 1024


def measure_many_streams(sizes: Sizes) -> Finding:
    """Measure thousands of running turns with their streams, one token per second each."""
    streams, seconds = sizes.many_streams, 4 * sizes.seconds
    with ExitStack() as stack:
        server, key = start_ticking(stack)
        empty = read_usage(server)
        crowd = Crowd(server.port)
        stack.callback(crowd.close)
        crowd.open([chat(key, _SLOW)] * streams)
        crowd.read_for(3)  # until all tokens have arrived
        before, crowd.timing = read_usage(server), True
        crowd.read_for(seconds)
        after = read_usage(server)
    p50, p99 = (percentile(crowd.delays_ms, percent) for percent in (50, 99))
    kb = (after.rss_kb - empty.rss_kb) / streams
    return Finding(
        f"{streams} turns on one worker, each with a stream of one token per second.",
        {
            "tokens_per_second": len(crowd.delays_ms) / seconds,
            "delay_p50_ms": p50,
            "delay_p99_ms": p99,
            "cores": (after.cpu_s - before.cpu_s) / seconds,
            "kb_per_stream": kb,
        },
        [Aim(f"delay of a token on {streams} streams, p99 ms", p99, at_most=50)],
        [
            Panel(f"delay of a token, {streams} streams", "ms", {"p50": p50, "p99": p99}, 50),
            Panel("memory of a stream", "KB", {OURS: kb}, 40),
        ],
    )

"""Delay of events that come from elsewhere: pushed messages, and runs of another worker."""

from __future__ import annotations

from contextlib import ExitStack

from astrbot_api.testing.fake_openai import FakeOpenAI
from tests.e2e.pushing import push_into_streams
from tests.servers import Server, create_key, write_config

from .contestants import make_folder, read_usage
from .crowd import Crowd, get
from .figures import Aim, Finding, Panel, Sizes, percentile
from .tokens import start_ticking

_STREAMS = 50


def measure_pushes(sizes: Sizes) -> Finding:
    """Measure messages that are pushed into 50 open streams of two workers, three times."""
    delays_ms: list[float] = []
    for _ in range(min(3, sizes.rounds)):
        with ExitStack() as stack:
            model = stack.enter_context(FakeOpenAI())
            folder = make_folder(stack)
            write_config(folder, model.base_url, agent="titles = false")
            server = stack.enter_context(Server(folder))
            key = create_key(folder, "chat", "im")
            streams, sent_at = push_into_streams(
                server, key, streams=_STREAMS, messages=sizes.pushed
            )
        for one in streams:
            assert len(one.seen) == sizes.pushed // _STREAMS, f"{one.session_id}: {len(one.seen)}"
            delays_ms += [1000 * (at - sent_at[text]) for text, at in one.seen_at.items()]
    figures = {f"p{percent}": percentile(delays_ms, percent) for percent in (50, 99, 100)}
    return Finding(
        f"{sizes.pushed} messages, ten at a time, into {_STREAMS} open streams on two workers. "
        "The delay is from the request to the stream. Each message must arrive once.",
        {"messages": len(delays_ms), "delay_ms": figures},
        [],
        [Panel("from POST /im/message to the stream", "ms", figures)],
    )


def measure_other_worker(sizes: Sizes) -> Finding:
    """Measure streams of 20 tokens per second, run by one worker and read from another."""
    count, seconds = max(10, sizes.fast_streams * 2 // 5), 4 * sizes.seconds
    with ExitStack() as stack:
        folder = make_folder(stack)
        runs, key = start_ticking(stack, folder)
        reads, _ = start_ticking(stack, folder)
        body = {
            "username": "bench",
            "message": f"TICKS={20 * 600} EVERY=50",
            "response_mode": "background",
        }
        ids = [
            runs.request("POST", "/api/v1/chat", key, json=body).json()["data"]["run_id"]
            for _ in range(count)
        ]
        crowd = Crowd(reads.port)
        stack.callback(crowd.close)
        crowd.open([get(f"/api/v1/chat/runs/{one}/stream?username=bench", key) for one in ids])
        crowd.read_for(3)  # earlier events
        before = [read_usage(server) for server in (runs, reads)]
        transactions = _transactions(runs)
        crowd.timing = True
        crowd.read_for(seconds)
        after = [read_usage(server) for server in (runs, reads)]
        transactions = (_transactions(runs) - transactions) / seconds
    cores = [
        (late.cpu_s - early.cpu_s) / seconds for early, late in zip(before, after, strict=True)
    ]
    delay = {f"p{percent}": percentile(crowd.delays_ms, percent) for percent in (50, 99)}
    return Finding(
        f"{count} turns of 20 tokens per second on one worker; another worker has their streams.",
        {
            "tokens_per_second": len(crowd.delays_ms) / seconds,
            "delay_ms": delay,
            "transactions_per_second": transactions,
            "cores": {"running": cores[0], "reading": cores[1]},
        },
        [
            Aim("delay of a token, p99 ms", delay["p99"], at_most=50),
            Aim("transactions per second", transactions, at_most=60),
        ],
        [
            Panel(f"delay of a token, {count} streams of another worker", "ms", delay, 50),
            Panel("the workers", "cores", {"running": cores[0], "reading": cores[1]}),
        ],
    )


def _transactions(server: Server) -> float:
    return float(server.request("GET", "/bench/transactions").json()["count"])

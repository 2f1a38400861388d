"""(b) Pages of sessions of users with a thousand and a million sessions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.servers import Server, create_key, write_config

from .contestants import WORKERS, make_folder, start_bare
from .crowd import get, has_length
from .figures import Aim, Finding, Panel, Sizes, ratio, spread, take_turns
from .load import run_load

_FEW = 1000
_COMPARED = (
    "One connection requests pages of 20 sessions. The result is the median time of a request. "
    "Bare Flask and WSGI return such a page as a constant."
)


def measure_sessions(sizes: Sizes) -> Finding:
    """Measure milliseconds per page, for first and last pages."""
    many, last = sizes.sessions, min(1000, sizes.sessions // 20)
    with ExitStack() as stack:
        folder = make_folder(stack)
        write_config(folder, "http://127.0.0.1:9/v1")
        key = create_key(folder, "chat")
        _fill(folder / "astrbot.db", {"few": _FEW, "many": many})
        ours = stack.enter_context(Server(folder, workers=WORKERS))
        path = "/api/v1/chat/sessions?username="
        page = ours.request("GET", f"{path}few&page=1", key).data.decode()
        bare = start_bare(stack, BENCH_PAGE=page)

        def load(port: int, request: bytes) -> float:
            result = run_load(
                port, lambda number: request, has_length, connections=1,
                seconds=sizes.seconds / 2, is_good=lambda answer: b'"session_id"' in answer,
            )  # fmt: skip
            assert not result.failed
            return result.percentile_ms(50)

        pages = {
            f"page 1 of {_FEW:,}": get(f"{path}few&page=1", key),
            f"page 1 of {many:,}": get(f"{path}many&page=1", key),
            f"page {last:,} of {many:,}": get(f"{path}many&page={last}", key),
        }
        jobs: dict[str, Callable[[], float]] = {
            name: lambda request=request: load(ours.port, request)
            for name, request in pages.items()
        }
        for name, server in bare.items():
            jobs[name] = lambda server=server: load(server.port, get("/page"))
        found = take_turns(jobs, sizes.rounds)
    took = {name: spread(rounds) for name, rounds in found.items()}
    first, _, far = (took[name].values for name in pages)
    times = ratio(far, first)
    return Finding(
        _COMPARED,
        {"p50_ms": took, "ratio": times},
        [Aim(f"page {last:,} of {many:,}, ratio to page 1 of {_FEW:,}", times.median, at_most=2)],
        [Panel("GET /chat/sessions", "ms", took, 2 * spread(first).median)],
    )


def _fill(path: Path, counts: dict[str, int]) -> None:
    with sqlite3.connect(path) as db:
        for creator, count in counts.items():
            db.executemany(
                "INSERT INTO chat_session (session_id, platform_id, creator, is_group,"
                " context_after, created_at, updated_at) VALUES (?, 'webchat', ?, 0, 0, ?, ?)",
                ((f"{creator}-{n}", creator, n, n) for n in range(count)),
            )
            db.execute("INSERT INTO session_count VALUES (NULL, ?, 'webchat', ?)", (creator, count))
    db.close()

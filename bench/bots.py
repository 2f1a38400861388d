"""(a) An authenticated ``GET /api/v1/im/bots``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from tests.servers import Server, create_key, write_config

from .contestants import WORKERS, make_folder, read_usage, start_bare
from .crowd import get, has_length
from .figures import FLASK, OURS, Aim, Finding, Panel, Sizes, ratio, spread, take_turns
from .load import run_load

_COMPARED = (
    "32 keep-alive connections request the bots. This server checks the key, counts the request, "
    "writes a log line and responds from bots.toml. Bare Flask and WSGI only return the same "
    "object as a constant."
)


def measure_bots(sizes: Sizes) -> Finding:
    """Measure requests per second and CPU time per request."""
    with ExitStack() as stack:
        folder = make_folder(stack)
        write_config(folder, "http://127.0.0.1:9/v1")
        (folder / "bots.toml").write_text('[[bot]]\nid = "tg"\ntype = "telegram"\n')
        request = get("/api/v1/im/bots", create_key(folder, "im"))
        ours = stack.enter_context(Server(folder, workers=WORKERS))
        servers = {OURS: ours, **start_bare(stack)}

        def load(server: Server) -> tuple[float, float]:
            before = read_usage(server)
            result = run_load(
                server.port, lambda number: request, has_length, connections=32,
                seconds=sizes.seconds,
                is_good=lambda answer: b'"tg"' in answer and b" 200 " in answer[:16],
            )  # fmt: skip
            assert not result.failed, f"{result.failed} responses were wrong"
            spent_s = read_usage(server).cpu_s - before.cpu_s
            return result.per_second, 1e6 * spent_s / result.requests

        jobs: dict[str, Callable[[], tuple[float, float]]] = {
            name: lambda server=server: load(server) for name, server in servers.items()
        }
        found = take_turns(jobs, sizes.rounds)
    rate = {name: spread([one for one, _ in rounds]) for name, rounds in found.items()}
    cpu_us = {name: spread([one for _, one in rounds]) for name, rounds in found.items()}
    of_flask = ratio(rate[OURS].values, rate[FLASK].values)
    by_cpu = ratio(cpu_us[FLASK].values, cpu_us[OURS].values)
    return Finding(
        _COMPARED,
        {
            "requests_per_second": rate,
            "cpu_us_per_request": cpu_us,
            "ratio_to_flask": of_flask,
            "ratio_to_flask_by_cpu_time": by_cpu,
        },
        [Aim("requests per second, ratio to bare Flask", of_flask.median, at_least=0.85)],
        [
            Panel("GET /im/bots", "requests per second", rate, 0.85 * rate[FLASK].median),
            Panel("CPU time per request", "µs", cpu_us, cpu_us[FLASK].median / 0.85),
        ],
    )

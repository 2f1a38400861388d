"""This server, bare Flask and bare WSGI, each on the same gunicorn with one worker."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.servers import Server

from .figures import FLASK, WSGI

WORKERS = 1

#: Limits above the recommended ones, so that they do not stop the measures.
ROOM = {
    "ASTRBOT_MAX_RUNS_PER_WORKER": "20000",
    "ASTRBOT_MAX_STREAMS_PER_WORKER": "20000",
    "ASTRBOT_MAX_REPLY_CHARS": "1000000000",
    "ASTRBOT_MAX_GROWTH_BYTES_PER_KEY": "1000000000",
    "ASTRBOT_MAX_GROWTH_BYTES": "1000000000",
}

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") / 1024

_MOCK = """\
name = "default"
[provider]
id = "mock"
type = "mock"
[agent]
titles = false
system_prompt = ""
"""


class Usage(NamedTuple):
    """Resources used by the workers of a server.

    :param cpu_s: CPU time of all their threads so far.
    :param rss_kb: Current memory.
    """

    cpu_s: float
    rss_kb: float


def read_usage(server: Server) -> Usage:
    """Return the usage of a server's workers, as counted by the kernel."""
    cpu_s = rss_kb = 0.0
    for pid in server.list_workers():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        cpu_s += (int(fields[11]) + int(fields[12])) * _TICK_S
        rss_kb += int(fields[21]) * _PAGE_KB
    return Usage(cpu_s, rss_kb)


def make_folder(stack: ExitStack) -> Path:
    """Return a temporary folder that the stack removes."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory()))


def write_mock_config(folder: Path) -> None:
    """Write a config with the mock provider, which runs in the worker itself."""
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "configs" / "default.toml").write_text(_MOCK, encoding="utf-8")


def start_bare(stack: ExitStack, **environ: str) -> dict[str, Server]:
    """Start bare Flask and bare WSGI."""
    apps = {FLASK: "bench.bare_flask:application", WSGI: "bench.bare_wsgi:application"}
    return {
        name: stack.enter_context(Server(make_folder(stack), workers=WORKERS, app=app, **environ))
        for name, app in apps.items()
    }


def stop_at_once(stack: ExitStack, server: Server) -> None:
    """Kill a server at the end instead of waiting for its turns."""

    def kill() -> None:
        for pid in server.list_workers():
            os.kill(pid, 9)
        server.process.kill()

    stack.callback(kill)

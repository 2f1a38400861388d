"""gunicorn's configuration: settings and the order of patching.

Each case runs in a separate process, because patching cannot be undone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from astrbot_api.server.heads import _send_all

ROOT = Path(__file__).parents[2]
CONF = ROOT / "astrbot_api" / "server" / "gunicorn_conf.py"
DEPLOY = ROOT / "deploy" / "gunicorn.conf.py"


def run_python(program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, **environ},
        check=False,
    )


@pytest.mark.parametrize("conf", [CONF, DEPLOY], ids=["conf", "deploy"])
def test_each_greenlet_has_a_database_connection_of_its_own(conf: Path) -> None:
    done = run_python(f"""
import runpy, sys
settings = runpy.run_path({str(conf)!r})
assert settings["worker_class"] == "gevent"
assert settings["post_worker_init"] and settings["worker_exit"] and settings["post_request"]
# A reload would otherwise serve the code that the master has loaded.
assert "astrbot_api" not in sys.modules and "peewee" not in sys.modules
from gevent import local, monkey
assert monkey.is_module_patched("threading") and monkey.is_module_patched("socket")
import astrbot_api, peewee
assert issubclass(peewee._ConnectionLocal, local.local)
""")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_long_head_or_trailer_is_refused() -> None:
    done = run_python(f"""
import runpy, types
settings = runpy.run_path({str(CONF)!r})
settings["post_fork"](None, types.SimpleNamespace(load_wsgi=None))
from gunicorn.config import Config
from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.http.parser import RequestParser

def parse(count, trailers):
    field = b"A: " + b"b" * 7_995 + b"\\r\\n"
    pieces = [b"POST / HTTP/1.1\\r\\nTransfer-Encoding: chunked\\r\\n"]
    end = [b"\\r\\n", b"1\\r\\n \\r\\n0\\r\\n"]
    pieces += end + [field] * count if trailers else [field] * count + end
    request = next(RequestParser(Config(), iter([*pieces, b"\\r\\n"]), ("127.0.0.1", 1)))
    return request.body.read(9)

for trailers in (False, True):
    assert parse(8, trailers) == b" "
    try:
        parse(12, trailers)
    except LimitRequestHeaders:
        continue
    raise SystemExit("not refused")
""")
    assert (done.returncode, done.stderr) == (0, "")


def test_loading_it_after_peewee_is_refused() -> None:
    done = run_python("import peewee, astrbot_api.server.gunicorn_conf")
    assert done.returncode == 1
    assert "gunicorn_conf.py was loaded after peewee" in done.stderr
    assert "Traceback" not in done.stderr


def test_gunicorn_accepts_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "gunicorn",
            "--check-config",
            "-c",
            str(CONF),
            "wsgi:application",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        # It also loads the application.
        env={**os.environ, "ASTRBOT_DATA_DIR": str(tmp_path)},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("name", ["WEB_CONCURRENCY", "ASTRBOT_GRACEFUL_TIMEOUT_S"])
@pytest.mark.parametrize("value", ["many", "0", "-1", "1.5"])
def test_a_wrong_number_gives_one_line(name: str, value: str) -> None:
    done = run_python(f"import runpy; runpy.run_path({str(CONF)!r})", **{name: value})
    assert done.returncode == 1
    assert done.stderr == f"{name} must be a whole number of at least 1; got {value!r}\n"


def test_the_environment_sets_workers_and_the_time_to_drain() -> None:
    done = run_python(
        f"import runpy; c = runpy.run_path({str(CONF)!r}); "
        "print(c['workers'], c['graceful_timeout'])",
        WEB_CONCURRENCY="3",
        ASTRBOT_GRACEFUL_TIMEOUT_S="7",
    )
    assert done.stdout.split() == ["3", "7"]


def test_the_limit_of_open_files_is_lifted() -> None:
    done = run_python(f"""
import resource, runpy
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
runpy.run_path({str(CONF)!r})["on_starting"](None)
assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256
""")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_worker_that_cannot_start_waits_longer_each_time() -> None:
    program = f"""
import runpy, time, types
settings = runpy.run_path({str(CONF)!r})
now, pauses = [0.0], []
time.monotonic = lambda: now[0]
time.sleep = lambda s: now.__setitem__(0, now[0] + s)
settings["_has_served"][0] = 1
def fail(): raise ValueError("no database")
def start(alive):
    log = types.SimpleNamespace(error=lambda *_: None)
    worker = types.SimpleNamespace(load_wsgi=fail, log=log, alive=alive)
    settings["post_fork"](None, worker)
    began = now[0]
    try:
        worker.load_wsgi()
    except SystemExit:
        pauses.append(round(now[0] - began))
for _ in range(6):
    start(True)
start(False)
print(pauses)
"""
    assert run_python(program).stdout == "[1, 2, 4, 8, 15, 15, 0]\n"


def test_bytes_beyond_the_buffer_of_a_connection_are_sent() -> None:
    sent: list[bytes] = []

    class Narrow:
        """Takes four bytes at once."""

        def send(self, data: bytes) -> int:
            sent.append(data[:4])
            return len(sent[-1])

        def sendall(self, data: memoryview) -> None:
            sent.append(bytes(data))

    _send_all(Narrow(), b"abc")
    _send_all(Narrow(), b"abcdef")
    assert sent == [b"abc", b"abcd", b"ef"]

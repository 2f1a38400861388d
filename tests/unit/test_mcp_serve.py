"""``serve`` starts the sidecar on demand, on a short path."""

from __future__ import annotations

import os
import queue
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from astrbot_api.server import mcp as mcp_sidecar
from astrbot_api.server.mcp import SOCKET_VARIABLE, run_mcp_sidecar

from ..waiting import LIMIT_S

#: A fake sidecar that greets one worker and ends with its input.
STAND_IN = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
print("ready", flush=True)
connection, _ = listener.accept()
connection.sendall(b"here")
sys.stdin.read()
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stand_in.py"
    path.write_text(STAND_IN, encoding="utf-8")
    monkeypatch.setattr(mcp_sidecar.mcp_main, "__file__", str(path))


def test_the_first_connection_starts_it(stand_in: None) -> None:
    reports: queue.Queue[str] = queue.Queue()
    with run_mcp_sidecar(os.environ, reports.put) as variables:
        path = Path(variables[SOCKET_VARIABLE])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as worker:
            worker.settimeout(LIMIT_S)
            worker.connect(str(path))
            assert worker.recv(100) == b"here"
    assert not path.parent.exists()
    assert reports.empty()


def test_without_a_connection_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_sidecar.mcp_main, "__file__", "/no/such/file.py")
    reports: queue.Queue[str] = queue.Queue()
    with run_mcp_sidecar(os.environ, reports.put) as variables:
        assert SOCKET_VARIABLE in variables
    assert reports.empty()


def test_a_sidecar_of_somebody_elses_is_left_to_them() -> None:
    environ = {SOCKET_VARIABLE: "/run/other.sock"}
    with run_mcp_sidecar(environ, print) as variables:
        assert variables == {}


def test_the_path_is_short_enough_for_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with run_mcp_sidecar({}, print) as variables:
        assert len(variables[SOCKET_VARIABLE]) < 104


def test_what_a_killed_server_left_behind_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="t") as parent:
        monkeypatch.setattr(tempfile, "tempdir", parent)
        left, fresh = Path(parent) / "astrbot-mcp-left", Path(parent) / "astrbot-mcp-fresh"
        for folder in (left, fresh):
            folder.mkdir()
            (folder / "mcp.sock").touch()
        os.utime(left, (0, 0))
        with run_mcp_sidecar({}, print) as first:
            used = Path(first[SOCKET_VARIABLE])
            os.utime(used.parent, (0, 0))
            with run_mcp_sidecar({}, print):
                assert used.exists()
        assert not left.exists()
        assert fresh.exists()


def test_serve_and_the_workers_do_not_load_the_package_mcp() -> None:
    program = (
        "import sys, astrbot_api.server.serve, astrbot_api.mcp.client\n"
        "sys.exit('mcp' in sys.modules or 'pydantic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_sidecar_does_not_load_the_web_framework() -> None:
    program = (
        "import runpy, sys\n"
        "sys.argv = ['x', '--help']\n"
        "try:\n"
        f"    runpy.run_path({mcp_sidecar.mcp_main.__file__!r}, run_name='__main__')\n"
        "except SystemExit:\n"
        "    sys.exit('flask' in sys.modules or 'peewee' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr

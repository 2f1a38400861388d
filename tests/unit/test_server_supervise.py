"""The supervisor keeps one child process running."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from astrbot_api.runtime import supervise
from astrbot_api.runtime.supervise import Supervisor, describe_status

from ..waiting import LIMIT_S, is_alive, wait_for

#: Appends its id to a file, prints, and ends with its standard input.
CHILD = """
import os, sys
print("loading", flush=True)
with open(sys.argv[1], "a") as file:
    print(os.getpid(), file=file)
print("ready http://x", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(supervise, "_MAX_PAUSE_S", 0.04)


class Case:
    """A supervisor of :data:`CHILD`, its reports, and the processes that it started."""

    def __init__(self, folder: Path, program: str = CHILD) -> None:
        self._starts = folder / "starts"
        self._starts.touch()
        self.reports: queue.Queue[str] = queue.Queue()
        self.supervisor = Supervisor(
            "The child",
            [sys.executable, "-c", program, str(self._starts)],
            os.environ,
            self.reports.put,
        )

    def started(self) -> list[int]:
        return [int(line) for line in self._starts.read_text().split()]

    def wait_started(self, count: int = 1) -> int:
        """Wait until it was started this often, and return its newest id."""
        wait_for(lambda: len(self.started()) == count)
        return self.started()[-1]

    def report(self) -> str:
        return self.reports.get(timeout=LIMIT_S)


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    case = Case(tmp_path)
    case.supervisor.start()
    yield case
    case.supervisor.stop()


def test_a_killed_child_is_started_again(case: Case) -> None:
    first = case.wait_started()
    os.kill(first, signal.SIGKILL)
    assert case.report() == ("The child was killed by SIGKILL; restarting it in 0.01 s.")
    second = case.wait_started(2)
    assert second != first
    assert is_alive(second)
    assert not is_alive(first)


def test_stop_ends_the_child_by_its_standard_input(case: Case) -> None:
    pid = case.wait_started()
    case.supervisor.stop()
    assert not is_alive(pid)
    assert case.started() == [pid]
    assert case.reports.empty()


def test_a_child_that_does_not_listen_is_ended_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrbot_api.runtime.supervise._STOP_TIMEOUT_S", 0.1)
    deaf = CHILD.replace(
        "import os, sys",
        "import os, sys, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)",
    ).replace("sys.stdin.read()", "signal.pause()")
    case = Case(tmp_path, deaf)
    case.supervisor.start()
    pid = case.wait_started()
    case.supervisor.stop()
    assert wait_for(lambda: not is_alive(pid))


def test_the_pauses_grow_to_a_limit(tmp_path: Path) -> None:
    case = Case(tmp_path, "raise SystemExit(3)")
    case.supervisor.start()
    reports = [case.report() for _ in range(4)]
    case.supervisor.stop()
    assert [one.rpartition("in ")[2] for one in reports] == [
        "0.01 s.", "0.02 s.", "0.04 s.", "0.04 s.",
    ]  # fmt: skip
    assert reports[0].startswith("The child ended with exit code 3;")


def test_stop_does_not_wait_for_a_pause_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "_FIRST_PAUSE_S", 3600)
    case = Case(tmp_path, "pass")
    case.supervisor.start()
    assert "restarting it in 3600 s" in case.report()
    case.supervisor.stop()
    assert not case.supervisor._thread.is_alive()


def test_a_program_that_is_missing_is_reported() -> None:
    reports: queue.Queue[str] = queue.Queue()
    supervisor = Supervisor("The child", ["/no/such/program"], {}, reports.put)
    supervisor.start()
    assert "cannot be started" in reports.get(timeout=LIMIT_S)
    supervisor.stop()


def test_a_supervisor_that_was_never_started_can_be_stopped(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.supervisor.stop()
    case.supervisor.start()
    case.supervisor.stop()
    assert case.started() == []


def test_the_child_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, threading\n"
            "from astrbot_api.runtime.supervise import Supervisor\n"
            "Supervisor('x', [sys.executable, '-c', *sys.argv[1:]], os.environ, print).start()\n"
            "threading.Event().wait()",
            CHILD,
            str(tmp_path / "starts"),
        ]
    )
    starts = tmp_path / "starts"
    pid = int(wait_for(lambda: starts.exists() and starts.read_text()))
    assert is_alive(pid)
    parent.kill()
    parent.wait()
    wait_for(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    """Return whether a process runs. A zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return Path("/proc/self").exists() is False and is_alive(pid)
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "ended with exit code 0"),
        (-9, "was killed by SIGKILL"),
        (-200, "was killed by signal 200"),
    ],
)
def test_an_ending_is_described(status: int, text: str) -> None:
    assert describe_status(status) == text

"""Work on callers' data runs in separate processes with limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.errors import RunCancelled, Unreadable
from astrbot_api.runtime import aside as aside_module
from astrbot_api.runtime.aside import Aside, AsideError, Job, Limits

from ..waiting import is_alive, wait_for

ROOT = Path(__file__).parents[2]


def job(name: str, **limits: float) -> Job:
    return Job(f"tests.aside_jobs:{name}", Limits(**limits))  # type: ignore[arg-type]


@pytest.fixture
def aside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aside]:
    monkeypatch.setattr(aside_module, "_SEATS", 1)
    aside = Aside()
    yield aside
    aside.close()


def test_a_job_is_given_the_bytes_and_the_arguments(aside: Aside) -> None:
    meta, body = aside.run(job("reverse"), b"abc", {"word": "名"})
    assert (meta["word"], body) == ("名", b"cba")


def test_a_job_reads_an_open_file_from_its_beginning(aside: Aside, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 100_000)
    with path.open("rb") as file:
        assert aside.run(job("reverse"), file.fileno())[1] == b"cba" * 100_000


def test_bytes_are_read_for_a_job_that_has_a_seat(aside: Aside) -> None:
    hanging, held = Hanging(aside), threading.Event()
    hanging.wait_started()

    def read() -> bytes:
        held.set()
        return b"abc"

    waiting = threading.Thread(target=aside.run, args=(job("reverse"), read))
    waiting.start()
    wait_for(lambda: len(aside._seats._waiting) == 1)
    assert not held.is_set()
    hanging.cancel.cancel()
    hanging.wait_ended()
    waiting.join()
    assert held.is_set()


def test_each_job_has_a_process_of_its_own(aside: Aside) -> None:
    seen = [aside.run(job("reverse"), b"")[0] for _ in range(3)]
    assert len({one["pid"] for one in seen}) == 3
    assert len({one["parent"] for one in seen} | {os.getpid()}) == 2


@pytest.mark.parametrize(
    ("name", "limits", "cause"),
    [
        ("spin", {"cpu_s": 1, "wall_s": 600}, "cpu"),
        ("grow", {"memory_bytes": 32 * 2**20}, "memory"),
        ("fill", {"memory_bytes": 32 * 2**20}, "memory"),
        ("abort", {}, "memory"),
        ("flood", {"output_bytes": 1000}, "output"),
        ("crash", {}, "crash"),
        ("leave", {}, "crash"),
        ("damaged", {}, "damaged"),
        ("write", {}, "damaged"),
        ("no_such_job", {}, "damaged"),
    ],
)
def test_a_job_that_breaks_a_limit_fails_and_the_next_one_runs(
    aside: Aside, name: str, limits: dict[str, float], cause: str
) -> None:
    with pytest.raises(AsideError) as caught:
        aside.run(job(name, **limits), b"x")
    assert caught.value.cause == cause
    assert aside.run(job("reverse"), b"ab")[1] == b"ba"


class Hanging:
    """A job that hangs in a thread until it is killed."""

    def __init__(self, aside: Aside, wall_s: float = 600.0, owner: str = "") -> None:
        self.cancel = Cancellation()
        self.errors: list[Exception] = []
        read, self._write = os.pipe()
        self._read = os.fdopen(read)
        self._thread = threading.Thread(target=self._run, args=(aside, wall_s, owner))
        self._thread.start()

    def _run(self, aside: Aside, wall_s: float, owner: str) -> None:
        try:
            hang = job("hang", wall_s=wall_s)
            aside.run(hang, self._write, owner=owner, cancel=self.cancel)
        except Exception as error:
            self.errors.append(error)
        finally:
            os.close(self._write)

    def wait_started(self) -> int:
        return int(self._read.readline())

    def wait_ended(self) -> Exception:
        self._thread.join()
        self._read.close()
        return self.errors[0]


def test_a_job_that_takes_too_long_is_killed(aside: Aside) -> None:
    hanging = Hanging(aside, wall_s=2.0)
    pid = hanging.wait_started()
    error = hanging.wait_ended()
    assert isinstance(error, AsideError)
    assert error.cause == "time"
    wait_for(lambda: not is_alive(pid))


def test_cancellation_kills_the_job(aside: Aside) -> None:
    hanging = Hanging(aside)
    pid = hanging.wait_started()
    hanging.cancel.cancel("stopped")
    assert isinstance(hanging.wait_ended(), RunCancelled)
    wait_for(lambda: not is_alive(pid))


def test_cancellation_ends_the_wait_for_a_seat(aside: Aside) -> None:
    first, second = Hanging(aside), Cancellation()
    first.wait_started()
    threading.Timer(0.05, second.cancel).start()
    with pytest.raises(RunCancelled):
        aside.run(job("reverse"), b"", cancel=second)
    first.cancel.cancel()
    first.wait_ended()
    assert aside.run(job("reverse"), b"ab")[1] == b"ba"


def test_closing_kills_every_job_and_the_next_job_starts_again(aside: Aside) -> None:
    hanging = Hanging(aside)
    pid = hanging.wait_started()
    aside.close()
    wait_for(lambda: not is_alive(pid))
    error = hanging.wait_ended()
    assert isinstance(error, AsideError)
    assert error.cause == "unavailable"
    assert aside.run(job("reverse"), b"ab")[1] == b"ba"


def test_a_job_runs_after_the_fork_server_was_killed(aside: Aside) -> None:
    server = aside.run(job("reverse"), b"")[0]["parent"]
    os.kill(server, signal.SIGKILL)
    assert aside.run(job("reverse"), b"ab")[1] == b"ba"


def test_a_seat_that_becomes_free_goes_to_the_owner_with_the_fewest() -> None:
    aside = Aside()
    greedy = [Hanging(aside, owner="greedy") for _ in range(2)]
    for one in greedy:
        one.wait_started()
    third = Hanging(aside, owner="greedy")
    modest = Hanging(aside, owner="modest")
    wait_for(lambda: len(aside._seats._waiting) == 2)
    greedy[0].cancel.cancel()
    modest.wait_started()
    modest.cancel.cancel()
    third.wait_started()
    for one in (greedy[1], third):
        one.cancel.cancel()
    for one in (*greedy, third, modest):
        one.wait_ended()
    aside.close()


def test_a_content_that_failed_is_not_tried_again(aside: Aside) -> None:
    for _ in range(2):
        with pytest.raises(AsideError) as caught:
            aside.run(job("damaged"), b"x", key="its hash")
        assert caught.value.cause == "damaged"
    assert str(caught.value) == "damaged: as before"
    with pytest.raises(AsideError, match="KeyError"):
        aside.run(job("damaged"), b"x", key="another hash")


def test_words_of_a_refusal_reach_the_caller_each_time(aside: Aside) -> None:
    for _ in range(2):
        with pytest.raises(Unreadable, match="it is blank"):
            aside.run(job("refuse"), b"", key="its hash")


def test_a_module_that_cannot_be_imported_is_unavailable(aside: Aside) -> None:
    with pytest.raises(AsideError) as caught:
        aside.run(Job("tests.no_such_module:job"), b"", key="its hash")
    assert caught.value.cause == "unavailable"


def test_a_job_sees_no_secret_of_the_environment(
    aside: Aside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    seen, _ = aside.run(job("environ"), b"")
    assert "sk-secret" not in seen.values()
    assert seen["PATH"] == os.environ["PATH"]


#: A worker that prints the id of a hanging job, and continues only if the hub is free.
WORKER = """
import sys
if sys.argv[1] == "gevent":
    from gevent import monkey; monkey.patch_all()
import os, threading
from tests.unit.test_aside import Aside, Hanging
hanging = Hanging(Aside())
print(hanging.wait_started(), flush=True)
if sys.argv[2] == "cancel":
    hanging.cancel.cancel()
    print(repr(hanging.wait_ended()), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["gevent", "threads"])
def test_a_job_dies_with_its_worker(kind: str) -> None:
    worker = start_worker(kind, "die")
    assert worker.stdout is not None
    pid = int(worker.stdout.readline())
    assert is_alive(pid)
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    wait_for(lambda: not is_alive(pid))


def test_a_job_does_not_hold_the_hub() -> None:
    worker = start_worker("gevent", "cancel")
    out, _ = worker.communicate("")
    assert out.splitlines()[1] == "RunCancelled('stopped')"


def start_worker(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip

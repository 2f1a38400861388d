"""Group commit: jobs of several callers share a batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import pytest

from astrbot_api.db import group_commit
from astrbot_api.db.group_commit import BatchWriter, Job
from tests.waiting import wait_for


class GaveUpError(BaseException):
    """Raised in a caller from outside, as a time limit of gevent is."""


class Recorder:
    """A transaction that records its steps, each with ``here`` if it runs in a caller's thread."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        #: Whether another process has the lock.
        self.locked = False

    def note(self, step: str) -> None:
        here = not threading.current_thread().name.startswith("astrbot-writer_")
        self.steps.append(f"{step} here" if here else step)

    def begin(self, *, wait: bool) -> bool:
        if self.locked and not wait:
            return False
        self.note("begin")
        return True

    def run(self, jobs: Sequence[Job], until: float | None) -> list[Any]:
        self.note(f"run {len(jobs)}")
        done = []
        for job in jobs:
            done.append(job())
            if until is not None and time.monotonic() > until:
                break
        return done

    def commit(self) -> None:
        self.note("commit")


@pytest.fixture
def transaction() -> Recorder:
    return Recorder()


@pytest.fixture
def writer(transaction: Recorder) -> Iterator[BatchWriter]:
    writer = BatchWriter(transaction)
    yield writer
    writer.close()


def replace_wait(monkeypatch: pytest.MonkeyPatch, wait: Callable[[float], Any]) -> None:
    """Replace the wait for an idle event loop before each batch."""
    monkeypatch.setattr(group_commit, "wait_until_idle", wait)


def submit(
    writer: BatchWriter, job: Callable[[], int], results: list[int], *, quick: bool = False
) -> threading.Thread:
    """Submit a job in a thread of its own."""
    thread = threading.Thread(
        target=lambda: results.append(writer.submit(job, quick=quick)), daemon=True
    )
    thread.start()
    return thread


def test_jobs_that_are_submitted_while_a_batch_waits_share_a_transaction(
    writer: BatchWriter, transaction: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_wait(monkeypatch, lambda limit_s: wait_for(lambda: len(writer._waiting) == 3))
    results: list[int] = []
    callers = [submit(writer, lambda value=value: value, results) for value in range(3)]  # type: ignore[misc]
    for caller in callers:
        caller.join(10)
    assert sorted(results) == [0, 1, 2]
    assert transaction.steps == ["begin", "run 3", "commit"]


@pytest.mark.parametrize("refused", ["", "astrbot-writer"], ids=["threads", "no threads"])
def test_a_caller_that_gives_up_while_its_batch_waits_stops_no_other_job(
    writer: BatchWriter, monkeypatch: pytest.MonkeyPatch, without_threads: Any, refused: str
) -> None:
    calls = iter([GaveUpError])

    def wait(limit_s: float) -> None:
        for error in calls:
            raise error

    replace_wait(monkeypatch, wait)
    ran = threading.Event()
    with without_threads(refused) if refused else nullcontext(), pytest.raises(GaveUpError):
        writer.submit(ran.set)
    results: list[int] = []
    submit(writer, lambda: 1, results).join(10)
    assert results == [1]
    assert ran.is_set()


@pytest.mark.parametrize("quick", [False, True])
def test_a_caller_that_gives_up_during_a_commit_leaves_the_others_their_results(
    writer: BatchWriter, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    waited = iter([lambda: wait_for(lambda: len(writer._waiting) == 2)])
    replace_wait(monkeypatch, lambda limit_s: [wait() for wait in waited])
    finish = writer._thread.finish

    def interrupt(job: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        return finish(job)[0], GaveUpError()

    monkeypatch.setattr(writer._thread, "finish", interrupt)
    errors: list[BaseException] = []

    def give_up() -> None:
        try:
            writer.submit(lambda: 1, quick=quick)
        except BaseException as error:
            errors.append(error)

    leader = threading.Thread(target=give_up)
    leader.start()
    wait_for(lambda: writer._busy)
    results: list[int] = []
    submit(writer, lambda: 2, results, quick=quick).join(10)
    leader.join(10)
    assert results == [2]
    assert [type(error) for error in errors] == [GaveUpError]


def test_a_caller_runs_the_jobs_of_the_others_if_no_thread_can_be_started(
    writer: BatchWriter, monkeypatch: pytest.MonkeyPatch, without_threads: Any
) -> None:
    waited = iter([lambda: wait_for(lambda: len(writer._waiting) == 3)])
    replace_wait(monkeypatch, lambda limit_s: [wait() for wait in waited])
    monkeypatch.setattr(group_commit, "_QUICK_S", -1.0)
    results: list[int] = []
    with without_threads("astrbot-writer") as refused:
        callers = [submit(writer, lambda: 1, results, quick=True) for _ in range(3)]
        for caller in callers:
            caller.join(10)
    assert results == [1, 1, 1]
    assert refused.is_set()
    assert not writer._busy


def test_a_quick_job_runs_in_the_event_loop_and_commits_beside_it(
    writer: BatchWriter, transaction: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert writer.submit(lambda: 1, quick=True) == 1
    assert transaction.steps == ["begin here", "run 1 here", "commit"]


def test_the_lock_of_another_process_is_waited_for_beside_the_event_loop(
    writer: BatchWriter, transaction: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction.locked = True
    assert writer.submit(lambda: 1, quick=True) == 1
    assert transaction.steps == ["begin", "run 1 here", "commit"]


def test_many_quick_jobs_are_split_so_that_the_event_loop_runs_between(
    writer: BatchWriter, transaction: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = iter([lambda: wait_for(lambda: len(writer._waiting) == 3)])
    replace_wait(monkeypatch, lambda limit_s: [wait() for wait in waited])
    monkeypatch.setattr(group_commit, "_QUICK_S", -1.0)
    results: list[int] = []
    callers = [
        submit(writer, lambda value=value: value, results, quick=True)  # type: ignore[misc]
        for value in range(3)
    ]
    for caller in callers:
        caller.join(10)
    assert sorted(results) == [0, 1, 2]
    assert transaction.steps[1::3] == ["run 3 here", "run 2 here", "run 1 here"]


def test_a_failed_commit_fails_its_jobs_and_no_later_one(
    writer: BatchWriter, transaction: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(transaction, "commit", lambda: pytest.fail("disk full"))
        with pytest.raises(pytest.fail.Exception, match="disk full"):
            writer.submit(lambda: 1, quick=True)
    assert writer.submit(lambda: 2, quick=True) == 2

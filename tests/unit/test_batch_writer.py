"""Group commit: jobs of several callers share a batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from astrbot_api.runtime import threads
from astrbot_api.runtime.threads import BatchWriter
from tests.waiting import wait_for


class GaveUpError(BaseException):
    """Raised in a caller from outside, as a time limit of gevent is."""


@pytest.fixture
def batches() -> list[int]:
    """Sizes of the batches that ran."""
    return []


@pytest.fixture
def writer(batches: list[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchWriter]:
    """A writer that takes every moment for a loaded one, so that it pauses before a batch."""
    monkeypatch.setattr(threads, "_IDLE_LAG_S", -10.0)
    monkeypatch.setattr(threads, "_MAX_PAUSE_S", 10.0)

    def run_batch(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
        batches.append(len(jobs))
        return [job() for job in jobs]

    writer = BatchWriter(run_batch)
    yield writer
    writer.close()


def replace_sleep(monkeypatch: pytest.MonkeyPatch, sleep: Callable[[float], Any]) -> None:
    """Replace the sleep of the writer alone."""
    monkeypatch.setattr(threads, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))


def submit(writer: BatchWriter, value: int, results: list[int]) -> threading.Thread:
    """Submit a job in a thread of its own."""
    thread = threading.Thread(
        target=lambda: results.append(writer.submit(lambda: value)), daemon=True
    )
    thread.start()
    return thread


def test_jobs_that_are_submitted_during_a_pause_share_a_batch(
    writer: BatchWriter, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_sleep(monkeypatch, lambda seconds: wait_for(lambda: len(writer._waiting) == 3))
    results: list[int] = []
    callers = [submit(writer, value, results) for value in range(3)]
    for caller in callers:
        caller.join(10)
    assert sorted(results) == [0, 1, 2]
    assert batches == [3]


def test_a_caller_that_gives_up_during_a_pause_stops_no_other_job(
    writer: BatchWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([GaveUpError])

    def sleep(seconds: float) -> None:
        for error in calls:
            raise error

    replace_sleep(monkeypatch, sleep)
    ran = threading.Event()
    with pytest.raises(GaveUpError):
        writer.submit(ran.set)
    results: list[int] = []
    submit(writer, 1, results).join(10)
    assert results == [1]
    assert ran.is_set()


def test_without_load_a_job_does_not_wait_for_others(
    writer: BatchWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_IDLE_LAG_S", 10.0)
    replace_sleep(monkeypatch, lambda seconds: pytest.fail("the writer paused"))
    assert writer.submit(lambda: 1) == 1

"""A value that each process creates for itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from astrbot_api.runtime.per_process import PerProcess

from ..waiting import LIMIT_S

# Python 3.12 warns about a fork with threads, which is the tested case.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def in_child(job: Callable[[], object]) -> int:
    """Return the exit status of a forked child: 0 when the job returned a true value."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if job() else 3)
        finally:
            os._exit(4)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_value_is_made_when_it_is_first_needed_and_once() -> None:
    made: list[object] = []
    kept = PerProcess(lambda: made.append(object()) or made[-1])  # type: ignore[func-returns-value]
    assert kept.current is None
    assert made == []
    assert kept.get() is kept.get() is kept.current is made[0]
    assert len(made) == 1


def test_threads_that_ask_at_once_get_the_same_value() -> None:
    everybody = threading.Barrier(8)
    asked, made = threading.Event(), []

    def make() -> object:
        asked.wait(LIMIT_S)
        made.append(object())
        return made[-1]

    kept = PerProcess(make)

    def ask() -> object:
        everybody.wait(LIMIT_S)
        asked.set()
        return kept.get()

    with ThreadPoolExecutor(8) as pool:
        got = [future.result(LIMIT_S) for future in [pool.submit(ask) for _ in range(8)]]
    assert len(made) == 1
    assert set(got) == set(made)


def test_a_forked_child_makes_its_own_and_leaves_its_parents_alone() -> None:
    kept = PerProcess(lambda: [os.getpid()])
    parents = kept.get()

    def child() -> bool:
        before = kept.current
        own = kept.get()
        return (
            before is None
            and own == [os.getpid()]
            and own is not parents
            and kept.inherited == [parents]
            and kept.get() is own
        )

    assert in_child(child) == 0
    assert kept.current is parents
    assert kept.inherited == []


def test_a_child_does_not_wait_for_a_thread_that_only_its_parent_has() -> None:
    making, go_on = threading.Event(), threading.Event()

    def make() -> int:
        making.set()
        assert go_on.wait(LIMIT_S)
        return os.getpid()

    kept = PerProcess(make)
    asking = threading.Thread(target=kept.get)
    asking.start()
    assert making.wait(LIMIT_S)

    def child() -> bool:
        go_on.set()
        return kept.get() == os.getpid()

    assert in_child(child) == 0
    go_on.set()
    asking.join(LIMIT_S)
    assert kept.current == os.getpid()


def test_a_value_that_could_not_be_made_is_tried_again() -> None:
    answers = [1]

    def make() -> int:
        if len(answers) == 1:
            answers.append(2)
            raise OSError("not yet")
        return answers[-1]

    kept = PerProcess(make)
    with pytest.raises(OSError, match="not yet"):
        kept.get()
    assert kept.current is None
    assert kept.get() == 2


def test_a_value_that_was_taken_is_made_again() -> None:
    kept = PerProcess(object)
    assert kept.take() is None
    first = kept.get()
    assert kept.take() is first
    assert kept.current is None
    assert kept.get() is not first

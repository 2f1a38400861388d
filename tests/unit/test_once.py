"""A result that several callers need at the same time is computed once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.errors import RunCancelled
from astrbot_api.runtime import once
from astrbot_api.runtime.aside import AsideError
from astrbot_api.runtime.once import Once

from ..waiting import LIMIT_S, wait_for

CALLERS = 8


class _Maker:
    """Slowly computes a value and stores it."""

    def __init__(self) -> None:
        self.once = Once()
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.kept: str | None = None
        self.calls = 0
        self.fails = 0

    def make(self) -> str:
        self.calls += 1
        self.begun.set()
        assert self.go_on.wait(LIMIT_S)
        if self.calls <= self.fails:
            raise ValueError("broken")
        self.kept = "made"
        return "made"

    def count_waiting(self) -> int:
        return len(self.once._waiting.get("key", ()))

    def get(self, cancel: Cancellation | None = None) -> str:
        return self.once.make("key", lambda: self.kept, self.make, cancel)


def test_one_caller_makes_what_all_get() -> None:
    maker = _Maker()
    with ThreadPoolExecutor(CALLERS) as pool:
        asked = [pool.submit(maker.get) for _ in range(CALLERS)]
        wait_for(lambda: maker.count_waiting() == CALLERS - 1)
        maker.go_on.set()
        assert [one.result(LIMIT_S) for one in asked] == ["made"] * CALLERS
    assert maker.calls == 1
    assert maker.count_waiting() == 0


def test_the_next_one_tries_where_one_failed() -> None:
    maker = _Maker()
    maker.fails = 1
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(maker.get)
        assert maker.begun.wait(LIMIT_S)
        second = pool.submit(maker.get)
        wait_for(lambda: maker.count_waiting() == 1)
        maker.go_on.set()
        with pytest.raises(ValueError, match="broken"):
            first.result(LIMIT_S)
        assert second.result(LIMIT_S) == "made"


def test_a_wait_ends_when_it_is_cancelled_or_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maker, cancel = _Maker(), Cancellation()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(maker.get)
        assert maker.begun.wait(LIMIT_S)
        second = pool.submit(maker.get, cancel)
        wait_for(lambda: maker.count_waiting() == 1)
        cancel.cancel("stopped")
        with pytest.raises(RunCancelled):
            second.result(LIMIT_S)
        monkeypatch.setattr(once, "MAX_WAIT_S", 0.0)
        with pytest.raises(AsideError, match="busy"):
            maker.get()
        maker.go_on.set()
        assert first.result(LIMIT_S) == "made"

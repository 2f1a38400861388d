"""The end of a worker's turns, with a fake worker."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from astrbot_api.errors import StorageError
from astrbot_api.server.stopping import (
    close_app,
    find_state,
    start_watch,
    stop_at_once,
    time_to_drain_s,
)

from ..waiting import LIMIT_S


class Runs:
    """Records the calls.

    :param heir: Whether another worker takes over the turns.
    """

    def __init__(self, heir: bool = False) -> None:
        self.calls: list[str] = []
        self.drained = threading.Event()
        self.left = threading.Event()
        self.idle = threading.Event()
        self.waited = threading.Event()
        self.heir = heir

    def drain(self) -> None:
        self.calls.append("drain")
        self.drained.set()

    def release_all(self) -> bool:
        self.calls.append("release_all")
        return self.heir

    def end_streams(self) -> None:
        self.calls.append("end_streams")
        self.left.set()

    def wait_until_idle(self, timeout_s: float) -> bool:
        self.waited.set()
        return self.idle.wait(timeout_s)


class State:
    """The part of an application's state that is used here."""

    def __init__(self, heir: bool = False) -> None:
        self.chat = SimpleNamespace(runs=Runs(heir))
        self.closed_within_s: list[float] = []

    def close(self, timeout_s: float) -> None:
        self.closed_within_s.append(timeout_s)


def make_app(state: State) -> Flask:
    app = Flask("test")
    app.extensions["astrbot_api"] = state
    return app


def make_worker(application: Any, graceful_timeout: float = 30) -> SimpleNamespace:
    return SimpleNamespace(
        alive=True,
        app=SimpleNamespace(callable=application),
        cfg=SimpleNamespace(graceful_timeout=graceful_timeout, timeout=3600),
    )


@pytest.mark.parametrize("heir", [True, False])
def test_a_stopping_worker_gives_its_turns_up_and_then_ends_its_streams(heir: bool) -> None:
    state = State(heir)
    worker = make_worker(make_app(state), graceful_timeout=0.02)
    watch = start_watch(worker)
    assert watch is not None
    assert state.chat.runs.calls == []
    worker.alive = False
    watch.join(LIMIT_S)
    assert state.chat.runs.calls == ["drain", "release_all", "end_streams"]


def test_running_turns_get_the_time_until_shortly_before_the_kill() -> None:
    assert time_to_drain_s(30) == 26
    assert time_to_drain_s(6) == 3
    assert time_to_drain_s(1) == 0.5


def test_a_worker_that_stops_gives_turns_up_from_then_on() -> None:
    state = State()
    worker = make_worker(make_app(state), graceful_timeout=3600)
    assert start_watch(worker) is not None
    worker.alive = False
    assert state.chat.runs.drained.wait(LIMIT_S)
    assert state.chat.runs.calls == ["drain"]


def test_a_worker_without_clients_waits_for_its_turns_unless_it_is_to_stop_at_once() -> None:
    for end in (lambda runs, worker: runs.idle.set(), lambda runs, worker: stop_at_once(worker)):
        state = State()
        worker = make_worker(make_app(state), graceful_timeout=3600)
        start_watch(worker)
        worker.alive = False
        closer = threading.Thread(target=close_app, args=(worker,))
        closer.start()
        assert state.chat.runs.waited.wait(LIMIT_S)
        assert state.closed_within_s == []
        end(state.chat.runs, worker)
        closer.join(LIMIT_S)
        assert state.closed_within_s == [3.0]


def test_an_idle_worker_that_has_closed_hands_nothing_over_any_more() -> None:
    state = State()
    worker = make_worker(make_app(state))
    watch = start_watch(worker)
    assert watch is not None
    close_app(worker)
    worker.alive = False
    watch.join(LIMIT_S)
    assert state.closed_within_s == [3.0]
    assert state.chat.runs.calls == []


def test_an_application_inside_of_middleware_is_found() -> None:
    state = State()
    app = make_app(state)
    assert find_state(make_worker(ProxyFix(ProxyFix(app)))) is state
    assert find_state(make_worker(SimpleNamespace(wsgi_app=app))) is state


def test_an_application_mounted_below_another_one_is_found() -> None:
    state, root = State(), Flask("root")
    mounts = {"/empty": Flask("empty"), "/bot": ProxyFix(make_app(state))}
    root.wsgi_app = DispatcherMiddleware(root.wsgi_app, mounts)  # type: ignore[method-assign]
    assert find_state(make_worker(root)) is state


@pytest.mark.parametrize("application", [None, lambda environ, start: [], Flask("other")])
def test_other_applications_are_left_alone(application: Any) -> None:
    worker = make_worker(application)
    assert start_watch(worker) is None
    close_app(worker)


def test_a_ring_of_middleware_ends_the_search() -> None:
    ring = SimpleNamespace()
    ring.app = ring
    assert find_state(make_worker(ring)) is None


def test_a_worker_that_leaves_closes_the_application() -> None:
    state = State()
    close_app(make_worker(make_app(state)))
    assert state.closed_within_s == [3.0]


@pytest.mark.parametrize(
    ("error", "message", "traced"),
    [
        (RuntimeError("a fault"), "cannot close the application", True),
        (StorageError("disk full"), "at the end of the worker: disk full", False),
    ],
)
def test_a_failure_to_close_is_logged_and_goes_no_further(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    message: str,
    traced: bool,
) -> None:
    def fail(self: State, timeout_s: float) -> None:
        raise error

    monkeypatch.setattr(State, "close", fail)
    close_app(make_worker(make_app(State())))
    assert message in caplog.text
    assert ("Traceback" in caplog.text) == traced

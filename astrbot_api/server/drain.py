"""Ends a worker's turns in good order before gunicorn kills the worker.

A worker that is told to stop (TERM, a reload by HUP, ``max_requests``) sets
its ``alive`` to False and lets its open requests go on. At
``graceful_timeout`` the master kills it, and no ``finally`` of a stream runs.
So a watch in each worker refuses new turns as soon as it stops, and
interrupts the turns that are left shortly before the kill: their streams end
with an ``error`` event and ``end``, and what was said is stored.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

log = logging.getLogger(__name__)

#: Time between two looks at ``worker.alive``, in seconds.
_LOOK_S = 0.25

#: Time that interrupted turns get until the kill, in seconds: to write their
#: last events, and for the worker, which looks once a second, to leave.
_LAST_S = 4.0

#: Longest time that closing the application may take, in seconds.
_CLOSE_S = 3.0


class _Runs(Protocol):
    def drain(self) -> None: ...
    def interrupt_all(self) -> None: ...


class _Settings(Protocol):
    @property
    def log_format(self) -> str: ...


class _State(Protocol):
    access_log: Callable[[str], None]

    @property
    def settings(self) -> _Settings: ...
    @property
    def runs(self) -> _Runs: ...
    def start(self) -> None: ...
    def close(self, timeout_s: float) -> None: ...


def start_watch(worker: Any) -> threading.Thread | None:
    """Watch one worker until it stops, then drain its turns.

    :param worker: gunicorn's worker, its application loaded.
    :returns: The thread (a greenlet under gevent); None when the worker
        serves something else than an application of ours.
    """
    state = find_state(worker)
    if state is None:
        return None
    thread = threading.Thread(target=_watch, args=(worker, state), name="drain", daemon=True)
    thread.start()
    return thread


def close_app(worker: Any) -> None:
    """Flush and close the worker's application; never raises."""
    state = find_state(worker)
    if state is None:
        return
    try:
        state.close(timeout_s=_CLOSE_S)
    except Exception:
        log.exception("the application could not be closed")


def find_state(worker: Any) -> _State | None:
    """Return what our extension keeps in the worker's Flask application.

    WSGI middleware around it is looked through where it keeps what it wraps
    as ``wsgi_app``, ``app`` or ``application``.
    """
    candidate = getattr(worker.app, "callable", None)
    for _ in range(10):  # nobody wraps deeper; a ring must not hang the worker
        if candidate is None:
            return None
        extensions = getattr(candidate, "extensions", None)
        if isinstance(extensions, dict) and "astrbot_api" in extensions:
            state: _State = extensions["astrbot_api"]
            return state
        candidate = next(
            (
                inner
                for name in ("wsgi_app", "app", "application")
                if (inner := getattr(candidate, name, None)) is not None
            ),
            None,
        )
    return None


def time_to_drain_s(graceful_timeout_s: float) -> float:
    """Return how long turns may go on after the order to stop, in seconds."""
    return max(graceful_timeout_s - _LAST_S, graceful_timeout_s / 2)


def _watch(worker: Any, state: _State) -> None:
    while worker.alive:
        time.sleep(_LOOK_S)
    try:
        state.runs.drain()
        time.sleep(time_to_drain_s(worker.cfg.graceful_timeout))
        state.runs.interrupt_all()
    except Exception:
        log.exception("the turns of this worker could not be ended")

"""Ends a worker's turns and streams in good order before gunicorn kills the worker.

A worker that must stop (TERM, a reload by HUP, ``max_requests``) sets its
``alive`` to False and continues its open requests. At
``graceful_timeout`` the master kills it, and no ``finally`` of a stream runs.
So a watch in each worker gives the turns to other workers: at their next step
where another worker lives, and wherever they stand shortly before the kill.
Streams show their turns until then, also those that another worker has by now.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, cast

from flask import Flask

from ..http.state import EXTENSION
from ..state import AppState

log = logging.getLogger(__name__)

#: Time between two looks at ``worker.alive``, in seconds.
_LOOK_S = 0.25

#: Time from giving the last turns up until the kill, in seconds: their streams show what
#: another worker makes of them, then the worker, which looks once a second, leaves.
_LAST_S = 4.0

#: Time that the worker gets to leave once its streams must end, in seconds.
_LEAVE_S = 2.5

#: Longest time that closing the application may take, in seconds.
_CLOSE_S = 3.0


class StopWatch:
    """Watches one worker until it stops, then ends its turns and streams.

    :param worker: gunicorn's worker, its application loaded.
    """

    def __init__(self, worker: Any, state: AppState) -> None:
        self._worker = worker
        self._state = state
        self._hurried = False
        self._turns_given_up = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="drain", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own (a greenlet under gevent)."""
        self._thread.start()

    def hurry(self) -> None:
        """Give turns no more time: the worker must stop at once."""
        self._hurried = True

    def wait_for_turns(self) -> None:
        """Wait, at the end of the worker, for turns whose clients have left.

        They get the same time as all others, but not more than gunicorn waits for a worker
        without a sign of life: this one gives none any more.
        """
        runs, given_up = self._state.chat.runs, self._turns_given_up
        until = time.monotonic() + self._worker.cfg.timeout / 2
        while not (self._worker.alive or self._hurried or given_up.is_set()):
            if runs.wait_until_idle(_LOOK_S) or time.monotonic() > until:
                return

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the watch."""
        self._thread.join(timeout_s)

    def _watch(self) -> None:
        while self._worker.alive:
            time.sleep(_LOOK_S)
        try:
            self._stop()
        except Exception:
            log.exception("the turns of this worker could not be ended")
        finally:
            self._turns_given_up.set()

    def _stop(self) -> None:
        runs, graceful_s = self._state.chat.runs, self._worker.cfg.graceful_timeout
        runs.drain()
        time_s = time_to_drain_s(graceful_s)
        time.sleep(time_s)
        has_heir = runs.give_up_all()
        self._turns_given_up.set()
        if has_heir:
            time.sleep(max(0.0, graceful_s - _LEAVE_S - time_s))
        runs.leave()


def start_watch(worker: Any) -> StopWatch | None:
    """Watch one worker until it stops, then end its turns and streams.

    :param worker: gunicorn's worker, its application loaded.
    :returns: None when the worker serves something else than an application of ours.
    """
    state = find_state(worker)
    if state is None:
        return None
    watch = StopWatch(worker, state)
    worker.stop_watch = watch  # gunicorn's hooks share nothing else
    watch.start()
    return watch


def stop_at_once(worker: Any) -> None:
    """Give the worker's turns no more time."""
    watch = getattr(worker, "stop_watch", None)
    if watch is not None:
        watch.hurry()


def close_app(worker: Any) -> None:
    """Flush and close the worker's application; never raises."""
    state = find_state(worker)
    if state is None:
        return
    try:
        watch = getattr(worker, "stop_watch", None)
        if watch is not None:
            watch.wait_for_turns()
        state.close(timeout_s=_CLOSE_S)
    except Exception:
        log.exception("the application could not be closed")


def find_app(worker: Any) -> Flask | None:
    """Return the worker's Flask application; None when it is not one of ours.

    WSGI middleware around it is looked through where it keeps what it wraps
    as ``wsgi_app``, ``app`` or ``application``.
    """
    candidate = getattr(worker.app, "callable", None)
    for _ in range(10):  # a ring of middleware must not hang the worker
        extensions = getattr(candidate, "extensions", None)
        if isinstance(extensions, dict) and EXTENSION in extensions:
            return cast("Flask", candidate)
        inner = (getattr(candidate, name, None) for name in ("wsgi_app", "app", "application"))
        candidate = next((one for one in inner if one is not None), None)
    return None


def find_state(worker: Any) -> AppState | None:
    """Return the state of the worker's application; None when it is not one of ours."""
    app = find_app(worker)
    return None if app is None else cast("AppState", app.extensions[EXTENSION])


def time_to_drain_s(graceful_timeout_s: float) -> float:
    """Return how long turns may continue after the signal to stop, in seconds."""
    return max(graceful_timeout_s - _LAST_S, graceful_timeout_s / 2)

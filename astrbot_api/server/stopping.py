"""Hands over a worker's turns and ends its streams before gunicorn kills the worker.

A worker that must stop (TERM, a reload by HUP, ``max_requests``) sets its ``alive`` to False
and continues its open requests. At ``graceful_timeout`` the master kills it, and no
``finally`` of a stream runs. A thread in each worker therefore hands the turns over to other
workers. If another worker is alive, each turn moves at its next step. Shortly before the
kill, the remaining turns move wherever they are. Streams stay open until then and also show
turns that already moved.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, cast

from flask import Flask

from ..errors import AstrBotError
from ..http.state import EXTENSION
from ..state import AppState

log = logging.getLogger(__name__)

#: Interval between checks of ``worker.alive``, in seconds.
_CHECK_S = 0.25

#: Time between the handover of the last turns and the kill, in seconds. In that time, streams
#: show the turns' progress in the other worker, and the worker exits.
_LAST_S = 4.0

#: Time for the worker's exit after its streams have ended, in seconds.
_LEAVE_S = 2.5

#: Time limit for closing the application, in seconds.
_CLOSE_S = 3.0


class StopWatch:
    """Waits until a worker must stop, then ends its turns and streams.

    :param worker: gunicorn's worker, with its application loaded.
    """

    def __init__(self, worker: Any, state: AppState) -> None:
        self._worker = worker
        self._state = state
        self._skips_waiting = self._is_closed = False
        self._turns_released = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="drain", daemon=True)

    def start(self) -> None:
        """Start the background thread (a greenlet under gevent)."""
        self._thread.start()

    def skip_waiting(self) -> None:
        """Skip the waiting time for turns, because the worker must stop at once."""
        self._skips_waiting = True

    def wait_for_turns(self) -> None:
        """Wait at the worker's exit for turns whose clients have disconnected.

        They get the same time as other turns, but at most half of gunicorn's ``timeout``. The
        worker sends no more heartbeats, so gunicorn would kill it after ``timeout``.
        """
        runs, released = self._state.chat.runs, self._turns_released
        until = time.monotonic() + self._worker.cfg.timeout / 2
        while not (self._worker.alive or self._skips_waiting or released.is_set()):
            if runs.wait_until_idle(_CHECK_S) or time.monotonic() > until:
                return

    def note_closed(self) -> None:
        """Leave out what has not begun yet: an idle worker may exit before the next check."""
        self._is_closed = True

    def join(self, timeout_s: float) -> None:
        """Wait for the background thread to end."""
        self._thread.join(timeout_s)

    def _watch(self) -> None:
        while self._worker.alive:
            time.sleep(_CHECK_S)
        if self._is_closed:
            return
        try:
            self._stop()
        except Exception:
            log.exception("cannot end the turns of this worker")
        finally:
            self._turns_released.set()

    def _stop(self) -> None:
        runs, graceful_s = self._state.chat.runs, self._worker.cfg.graceful_timeout
        runs.drain()
        time_s = time_to_drain_s(graceful_s)
        time.sleep(time_s)
        has_successor = runs.release_all()
        self._turns_released.set()
        if has_successor:
            time.sleep(max(0.0, graceful_s - _LEAVE_S - time_s))
        runs.end_streams()


def start_watch(worker: Any) -> StopWatch | None:
    """Start a watch that ends a worker's turns and streams when it must stop.

    :param worker: gunicorn's worker, with its application loaded.
    :returns: None if the worker serves another application.
    """
    state = find_state(worker)
    if state is None:
        return None
    watch = StopWatch(worker, state)
    worker.stop_watch = watch  # gunicorn's hooks share only the worker
    watch.start()
    return watch


def stop_at_once(worker: Any) -> None:
    """Skip the waiting time for the worker's turns."""
    watch = getattr(worker, "stop_watch", None)
    if watch is not None:
        watch.skip_waiting()


def close_app(worker: Any) -> None:
    """Flush and close the worker's application. Never raises."""
    state = find_state(worker)
    if state is None:
        return
    try:
        watch = getattr(worker, "stop_watch", None)
        if watch is not None:
            watch.wait_for_turns()
            watch.note_closed()
        state.close(timeout_s=_CLOSE_S)
    except AstrBotError as error:  # for example, the disk is full
        log.error("not everything was stored at the end of the worker: %s", error)
    except Exception:
        log.exception("cannot close the application")


def find_app(worker: Any) -> Flask | None:
    """Return the worker's Flask application, or None if it is another application.

    WSGI middleware is unwrapped if it keeps the inner applications as ``wsgi_app``, ``app``,
    ``application`` or, like Werkzeug's ``DispatcherMiddleware``, in ``mounts``.
    """
    candidates = [getattr(worker.app, "callable", None)]
    for _ in range(50):  # cyclic middleware must not hang the worker
        candidate = candidates.pop(0)
        extensions = getattr(candidate, "extensions", None)
        if isinstance(extensions, dict) and EXTENSION in extensions:
            return cast("Flask", candidate)
        inner = [getattr(candidate, name, None) for name in ("wsgi_app", "app", "application")]
        mounts = getattr(candidate, "mounts", None)
        inner += mounts.values() if isinstance(mounts, dict) else ()
        candidates += [one for one in inner if one is not None]
        if not candidates:
            break
    return None


def find_state(worker: Any) -> AppState | None:
    """Return the state of the worker's application, or None if it is another application."""
    app = find_app(worker)
    return None if app is None else cast("AppState", app.extensions[EXTENSION])


def time_to_drain_s(graceful_timeout_s: float) -> float:
    """Return how long turns may continue after the stop signal, in seconds."""
    return max(graceful_timeout_s - _LAST_S, graceful_timeout_s / 2)

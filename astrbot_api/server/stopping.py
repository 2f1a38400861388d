"""Ends a worker's turns in good order before gunicorn kills the worker.

A worker that must stop (TERM, a reload by HUP, ``max_requests``) sets its
``alive`` to False and continues its open requests. At
``graceful_timeout`` the master kills it, and no ``finally`` of a stream runs.
So a watch in each worker refuses new turns as soon as it stops, and
interrupts the turns that are left shortly before the kill: their streams end
with an ``error`` event and ``end``, and what was said is stored.
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

#: Time that interrupted turns get until the kill, in seconds: to write their
#: last events, and for the worker, which looks once a second, to leave.
_LAST_S = 4.0

#: Longest time that closing the application may take, in seconds.
_CLOSE_S = 3.0


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


def _watch(worker: Any, state: AppState) -> None:
    while worker.alive:
        time.sleep(_LOOK_S)
    try:
        state.chat.runs.drain()
        time.sleep(time_to_drain_s(worker.cfg.graceful_timeout))
        state.chat.runs.interrupt_all()
    except Exception:
        log.exception("the turns of this worker could not be ended")

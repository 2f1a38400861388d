"""HTTP-only state of one application, and access to all application state from a request."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Request, current_app

from ..keys.caller import HostUser
from ..state import AppState
from .checks import ReadinessChecks
from .openapi.documents import OpenapiDocuments
from .websocket.sockets import WebSockets

#: Key of the :class:`AppState` in ``app.extensions``.
EXTENSION = "astrbot_api"

#: Key of the :class:`HttpState` in ``app.extensions``.
HTTP_EXTENSION = "astrbot_api.http"

#: The embedding application's authentication of requests without a key.
Authenticate = Callable[[Request], HostUser | None]


@dataclass(slots=True)
class HttpState:
    """State that only the HTTP layer uses.

    :param log_request: Called with the line of each request, without a line break. The server that
        runs the application may replace it.
    :param authenticate: The application's own authentication, or None if every caller
        needs a key.
    """

    openapi: OpenapiDocuments
    sockets: WebSockets
    readiness: ReadinessChecks
    log_request: Callable[[str], None]
    authenticate: Authenticate | None
    #: Unix time at which the server was started. gunicorn's workers share that of their master,
    #: because clients take another time for a restart.
    started_at: float = field(
        default_factory=lambda: float(os.environ.get("ASTRBOT_STARTED_AT") or time.time())
    )
    #: The site of each plugin's blueprint; see ``extensions/sites.py``.
    plugin_sites: dict[object, Any] = field(default_factory=dict)
    #: Warnings that were logged already.
    warned: set[str] = field(default_factory=set)


def get_state() -> AppState:
    """Return the state that :class:`~astrbot_api.AstrBotAPI` created for the current app."""
    state: AppState = current_app.extensions[EXTENSION]
    return state


def get_http_state(app: Flask | None = None) -> HttpState:
    """Return the HTTP state of an application; by default of the current one."""
    state: HttpState = (app or current_app).extensions[HTTP_EXTENSION]
    return state

"""What one application has for HTTP alone, and how a request reaches it and the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from flask import Flask, Request, current_app

from ..keys.caller import HostUser
from ..state import AppState
from .checks import ReadinessChecks
from .openapi.documents import OpenapiDocuments
from .websocket.sockets import WebSockets

#: Where the application's state is: ``app.extensions[EXTENSION]``.
EXTENSION = "astrbot_api"

#: Where what only HTTP needs is.
HTTP_EXTENSION = "astrbot_api.http"

#: The application's own check of a request that has no key.
Authenticate = Callable[[Request], HostUser | None]


class AccessLog:
    """Where the line of each request goes; the server that runs the application decides.

    :param write: Takes one line without its line end.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write

    def send_to(self, write: Callable[[str], None]) -> None:
        """Have the lines written elsewhere from now on."""
        self.write = write


@dataclass(frozen=True, slots=True)
class HttpState:
    """What only HTTP needs.

    :param authenticate: The application's own login; None: only a key opens the API.
    """

    openapi: OpenapiDocuments
    sockets: WebSockets
    readiness: ReadinessChecks
    access_log: AccessLog
    authenticate: Authenticate | None
    #: When the application was made, in seconds since 1970.
    started_at: float = field(default_factory=time.time)


def get_state() -> AppState:
    """Return what :class:`~astrbot_api.AstrBotAPI` set up for the current app."""
    return cast("AppState", current_app.extensions[EXTENSION])


def get_http_state(app: Flask | None = None) -> HttpState:
    """Return what only HTTP needs, of an application or of the current one."""
    return cast("HttpState", (app or current_app).extensions[HTTP_EXTENSION])

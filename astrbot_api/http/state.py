"""The state of the application that serves this request."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import current_app

if TYPE_CHECKING:
    from ..extension import AppState

#: Where the state lives: ``app.extensions[EXTENSION]``.
EXTENSION = "astrbot_api"


def get_state() -> AppState:
    """Return what :class:`~astrbot_api.AstrBotAPI` set up for the current app."""
    return cast("AppState", current_app.extensions[EXTENSION])

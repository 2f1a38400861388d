"""Registers the owner's routes on an application, and paths of AstrBot's dashboard API.

The paths below ``/api/`` that existing programs call are aliases of this API's routes, with the
same checks: the owner's login, or a key, in a header.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Flask, Response, request

from ..config.settings import Settings
from ..errors import ApiError
from ..http.auth import require_secret
from ..http.json_body import read_json_object
from ..http.request_hooks import add_request_hooks
from .approvals import blp as approvals
from .bots import blp as bots
from .configs import blp as configs
from .data import blp as data
from .keys import blp as keys
from .keys import newer_blp as newer_keys
from .login import blp as login
from .pages import blp as pages
from .sessions import blp as sessions

#: Method and path below ``/api`` -> endpoint.
_SAME = {
    ("POST", "/chat/send"): "chat.send_chat_message",
    ("GET", "/chat/sessions"): "sessions.list_sessions",
    ("GET", "/chat/new_session"): "sessions.create_session_by_get",
    ("POST", "/chat/batch_delete_sessions"): "sessions.delete_sessions",
    ("POST", "/chat/post_file"): "files.upload_file",
    ("GET", "/chat/get_attachment"): "files.download_file",
    ("GET", "/chat/get_file"): "files.download_stored_file",
    ("GET", "/stat/start-time"): "stats.get_start_time",
}

#: The same for routes with the session in their path, which these aliases pass elsewhere.
#: AstrBot's API deletes with GET. Pages of other sites cannot send it, because it needs a header.
_WITH_SESSION = {
    ("GET", "/chat/get_session"): "sessions.get_session",
    ("GET", "/chat/delete_session"): "sessions.delete_session",
    ("POST", "/chat/stop"): "runs.stop_session",
    ("POST", "/chat/update_session_display_name"): "sessions.rename",
}

#: The WebSocket of AstrBot's chat page until 4.25. Later pages use the path below ``/api/v1``.
_SOCKET = ("/unified_chat/ws", "websocket.open_unified_websocket_upgrade")

_PARENT = "astrbot_api"


def register_admin(app: Flask, settings: Settings) -> None:
    """Register the owner's routes that the setting ``owner_access`` enables."""
    if settings.owner_access == "off":
        return
    parent = Blueprint("astrbot_admin", __name__)
    add_request_hooks(parent)
    for blueprint in (login, keys):
        parent.register_blueprint(blueprint, url_prefix=f"/api{blueprint.url_prefix}")
    # The paths of newer AstrBot versions.
    parent.register_blueprint(login, url_prefix=f"/api/v1{login.url_prefix}", name="newer_auth")
    parent.register_blueprint(newer_keys, url_prefix=f"/api/v1{newer_keys.url_prefix}")
    if settings.owner_access == "pages":
        for blueprint in (pages, data, sessions, approvals, bots, configs):
            parent.register_blueprint(blueprint)
    app.register_blueprint(parent, url_prefix=settings.url_prefix or None)
    _add_dashboard_paths(app, settings)


def _add_dashboard_paths(app: Flask, settings: Settings) -> None:
    def add(
        method: str, path: str, endpoint: str, view: Callable[..., Any], *, websocket: bool = False
    ) -> None:
        app.add_url_rule(
            f"{settings.url_prefix}/api{path}", endpoint, view, methods=[method],
            provide_automatic_options=False, websocket=websocket,
        )  # fmt: skip

    for (method, path), name in _SAME.items():
        endpoint = f"{_PARENT}.{name}"
        add(method, path, endpoint, app.view_functions[endpoint])
    for (method, path), name in _WITH_SESSION.items():
        endpoint = f"{_PARENT}.{name}"
        # The endpoint belongs to the same blueprint, so its checks and error handlers apply.
        view = _name_session(app.view_functions[endpoint])
        add(method, path, f"{endpoint}_elsewhere", view)
    path, name = _SOCKET
    add("GET", path, f"{_PARENT}.{name}", app.view_functions[f"{_PARENT}.{name}"], websocket=True)


def _name_session(view: Callable[..., Any]) -> Callable[[], Response]:
    """Return a view that takes its session from the query, or from the body of a POST."""

    def call_with_session() -> Response:
        require_secret()
        session_id: Any = request.args.get("session_id", "")
        if request.method == "POST":
            session_id = read_json_object(request, keep=True).get("session_id") or session_id
        if not isinstance(session_id, str) or not session_id.strip():
            raise ApiError("missing_field", "Missing key: session_id")
        answer: Response = view(session_id=session_id.strip())
        return answer

    return call_with_session

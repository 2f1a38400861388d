"""Paths of AstrBot's dashboard API below ``/api/`` that existing programs call.

They are aliases of this API's routes, with the same checks: the owner's login, or a key, in a
header.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Response, request

from ..config.settings import Settings
from ..errors import ApiError
from ..http.auth import require_secret
from ..http.json_body import read_json_object

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


def add_dashboard_paths(app: Flask, settings: Settings) -> None:
    """Add the paths to an application whose API is registered."""

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

"""``/healthz``, ``/readyz`` and ``/metrics``. They are not part of the API and need no API key."""

from __future__ import annotations

import hmac
import ipaddress
import os
import socket
import struct
from typing import Any

import orjson
from flask import Blueprint, Response, request

from ...errors import StorageError
from ...runtime.metrics import CONTENT_TYPE
from ...state import AppState
from ..auth import read_bearer
from ..envelope import CHALLENGE
from ..state import get_http_state, get_state

_NO_STORE = {"Cache-Control": "no-store"}

#: Process, user and group of the other end of a Unix socket. Source: unix(7).
_PEER = struct.Struct("3i")


def build_operations() -> Blueprint:
    """Return a new blueprint of the three routes. Each application needs its own."""
    blueprint = Blueprint("astrbot_api_operations", __name__)
    blueprint.add_url_rule("/healthz", "healthz", show_health)
    blueprint.add_url_rule("/readyz", "readyz", show_readiness)
    blueprint.add_url_rule("/metrics", "metrics", show_metrics)
    return blueprint


def show_health() -> Response:
    """Report that this worker is alive, without any other check."""
    return _respond({"status": "ok"})


def show_readiness() -> Response:
    """Report whether this server can accept turns, with status 200 or 503.

    Callers that may see the metrics also get the result of each check.
    """
    state = get_state()
    if state.chat.runs.draining:
        return _respond({"status": "stopping"}, 503)
    checks = get_http_state().readiness.run()
    ready = all(check["ok"] for check in checks.values())
    body: dict[str, Any] = {"status": "ready" if ready else "unavailable"}
    if _may_see_metrics():
        body["checks"] = checks
    return _respond(body, 200 if ready else 503)


def show_metrics() -> Response:
    """Return the metrics of all workers of this server in Prometheus format."""
    settings = get_state().settings
    if not settings.metrics:
        return _respond({"status": "off"}, 404)
    if not _may_see_metrics():
        # Without abort(), because the host's error pages are not machine-readable.
        if settings.metrics_token:
            return _respond({"status": "refused"}, 401)
        remedy = "ask http://localhost from this machine, or set ASTRBOT_METRICS_TOKEN"
        return _respond({"status": "refused", "remedy": remedy}, 403)
    body = get_state().worker.metrics.render()
    return Response(body, headers=_NO_STORE, content_type=CONTENT_TYPE)


def list_checks(state: AppState) -> dict[str, Any]:
    """Return the readiness checks by name. Each function raises an exception on failure."""

    def check_database() -> None:
        if fault := state.db.describe_fault(state.worker.own_db):
            raise StorageError(fault)
        with state.worker.own_db.read() as db:
            # A table, because a database that was created again answers, but has none.
            db.execute_sql("SELECT 1 FROM api_key LIMIT 1").fetchone()

    def check_provider() -> None:
        default = state.agents.configs.get_default()
        if default.upstream is None:
            state.agents.providers.check(default.provider)

    return {
        "database": check_database,
        "journal": lambda: state.worker.journal.read_after(0, 0, 1),
        "storage": state.files.check_storage,
        "provider": check_provider,
    }


def _may_see_metrics() -> bool:
    """Return whether the caller has the metrics token, or is local if no token is set."""
    token = get_state().settings.metrics_token
    if token:
        return hmac.compare_digest(read_bearer(request).encode(), token.encode())
    environ = request.environ
    # A request through a local proxy comes from another machine.
    forwarded = any(name in environ for name in ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED"))
    original = environ.get("werkzeug.proxy_fix.orig", environ)
    address = original.get("REMOTE_ADDR") or ""
    is_local = address.startswith("127.") or address == "::1"
    if forwarded or not (is_local or _is_own_connection(environ.get("gunicorn.socket"))):
        return False
    return _is_local_host(environ.get("HTTP_HOST", ""))


def _is_own_connection(connection: socket.socket | None) -> bool:
    """Return whether root or the server's own user has connected over a Unix socket.

    A proxy is another user, such as ``www-data``. Without ``X-Forwarded-For``, nginx sends ``Host:
    localhost`` to a Unix socket, so only the user shows that a request may come from elsewhere.
    """
    if connection is None or connection.family != socket.AF_UNIX:
        return False
    if not hasattr(socket, "SO_PEERCRED"):  # not Linux
        return False
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return _PEER.unpack(peer)[1] in (0, os.geteuid())


def _is_local_host(host: str) -> bool:
    """Return whether a Host header is an IP address or localhost.

    Otherwise a web page could read the response through DNS rebinding.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _respond(body: dict[str, Any], status: int = 200) -> Response:
    headers = {**_NO_STORE, **(CHALLENGE if status == 401 else {})}
    return Response(orjson.dumps(body), status, headers, mimetype="application/json")

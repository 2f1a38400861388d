"""The access log: one line for each request, without the query, which may contain a key."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
from flask import Request, Response

from ..runtime.logs import format_time, hide_keys
from ..runtime.tracing import current_span
from ..state import AppState
from .auth import CALLER_KEY

#: Environ key of the time at which the request began.
STARTED_KEY = "astrbot_api.started"


def log_request(
    request: Request, response: Response, state: AppState, write: Callable[[str], None],
    request_id: str,
) -> None:  # fmt: skip
    """Log method, path, status, milliseconds to the response headers, key prefix and request id.

    A stream is logged when it begins. The run logs its end.
    """
    environ = request.environ
    took_s = time.perf_counter() - environ[STARTED_KEY]
    rule = request.url_rule
    state.worker.metrics.note_request(
        rule.rule if rule is not None else "", request.method, response.status_code, took_s
    )
    if not state.settings.access_log:
        return
    caller = environ.get(CALLER_KEY)
    path = hide_keys(request.path)
    if state.settings.log_format == "json":
        line: dict[str, Any] = {
            "time": format_time(time.time()), "level": "INFO", "message": "request",
            "method": request.method, "path": path, "status": response.status_code,
            "ms": round(took_s * 1000, 1), "request_id": request_id,
        }  # fmt: skip
        if caller is not None:
            line["key_prefix"] = caller.key_prefix
        if state.worker.tracing.on:
            line["trace_id"] = current_span().trace_id
        write(orjson.dumps(line, default=ascii).decode())
        return
    if not path.isascii() or not path.isprintable() or " " in path:
        # The caller chooses the path, so it must not be able to forge a field or a line.
        path = path.encode("unicode_escape").decode().replace(" ", "%20")
    write(
        f"request method={request.method} path={path} status={response.status_code}"
        f" ms={took_s * 1000:.1f}"
        f" key={caller.key_prefix if caller else '-'} id={request_id}"
    )

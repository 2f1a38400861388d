"""What happens before and after every request of a blueprint."""

from __future__ import annotations

import time

from flask import Blueprint, Flask, Request, Response, current_app, request

from ..keys.caller import Caller
from ..runtime.logs import set_log_fields
from ..runtime.tracing import NO_SPAN, Span, Tracing, set_current_span
from ..state import AppState
from .accesslog import STARTED_KEY, log_request
from .auth import CALLER_KEY, check_request
from .blueprint import ApiBlueprint
from .envelope import find_request_id
from .fallback import find_methods
from .request_body import drain_later, limit_silence
from .state import EXTENSION, get_http_state

_SPAN_KEY = "astrbot_api.span"

#: Set in the environ of a request whose answer names the methods itself.
KEEPS_ALLOW_KEY = "astrbot_api.keeps_allow"


def add_request_hooks(blueprint: Blueprint) -> None:
    """Have each request of a blueprint checked for its key, logged and numbered."""

    # One function a hook: Flask asks of each, on each request, whether it is async.
    @blueprint.before_request
    def begin() -> None:
        now, app = _look_up()
        environ, state = now.environ, app.extensions[EXTENSION]
        environ[STARTED_KEY] = time.perf_counter()
        traced = _begin_span(now, state.worker.tracing)
        request_id = find_request_id(environ)
        set_log_fields(request_id=request_id, **traced)
        limit_silence(now)
        resource = app.blueprints[str(now.endpoint).rpartition(".")[0]]
        if isinstance(resource, ApiBlueprint) and resource.checks_key:
            check_request(now, state, resource.scope)
            prefix = environ[CALLER_KEY].key_prefix
            set_log_fields(request_id=request_id, key_prefix=prefix, **traced)

    @blueprint.after_request
    def finish(response: Response) -> Response:
        now, app = _look_up()
        state, request_id = app.extensions[EXTENSION], find_request_id(now.environ)
        response.headers["X-Request-ID"] = request_id
        others = now.method == "OPTIONS" and KEEPS_ALLOW_KEY not in now.environ
        if others and "Allow" in response.headers:
            # Flask names those of the fallback, which takes any method, too.
            response.headers["Allow"] = ", ".join(find_methods())
        caller = now.environ.get(CALLER_KEY)
        if caller is not None:
            note_use(caller, response, state)
        log_request(now, response, state, get_http_state(app).access_log, request_id)
        _end_span(now, response, request_id, "" if caller is None else caller.key_prefix)
        drain_later(now, response)
        return response


def _look_up() -> tuple[Request, Flask]:
    """Return the request and its application themselves: each use of a proxy costs."""
    return request._get_current_object(), current_app._get_current_object()  # type: ignore[attr-defined]


def note_use(caller: Caller, response: Response, state: AppState) -> None:
    """Count a request to its key, and report where its limit stands."""
    counter, is_error = state.keys.usage, response.status_code >= 400
    counter.count_request(caller.key_id, is_error)
    if caller.root_id != caller.key_id:
        counter.count_request(caller.root_id, is_error)
    if caller.rate is not None:
        response.headers.update(caller.rate.to_headers())


def _begin_span(request: Request, tracing: Tracing) -> dict[str, str]:
    """Begin the span of a request, as a part of the client's trace if it sends one.

    It has the route and not the path, which may hold a session's name.

    :returns: Fields for lines of the log.
    """
    if not tracing.on:
        return {}
    route = request.url_rule.rule if request.url_rule is not None else ""
    headers = {
        name: request.headers[name]
        for name in ("traceparent", "tracestate")
        if name in request.headers
    }
    # What this thread worked on before is over.
    set_current_span(NO_SPAN)
    span = tracing.begin(
        f"{request.method} {route}",
        "SERVER",
        {"http.request.method": request.method, "http.route": route},
        headers=headers,
    )
    set_current_span(span)
    request.environ[_SPAN_KEY] = span
    return {"trace_id": span.trace_id}


def _end_span(request: Request, response: Response, request_id: str, key_prefix: str) -> None:
    """End the span of a request with its answer; of a stream, when the stream ends."""
    span: Span | None = request.environ.get(_SPAN_KEY)
    if span is None:
        return
    status = response.status_code
    span.note({"http.response.status_code": status, "astrbot.request.id": request_id})
    if key_prefix:
        span.note({"astrbot.key.prefix": key_prefix})
    if status >= 500:
        span.fail(str(status))
    set_current_span(NO_SPAN)
    if response.is_streamed and not response.direct_passthrough:
        response.call_on_close(span.end)
    else:
        span.end()

"""The before_request and after_request hooks of the API: authentication, logs and traces."""

from __future__ import annotations

import time
from functools import partial

from flask import Blueprint, Flask, Request, Response, current_app, request

from ..keys.caller import Caller
from ..runtime.logs import set_log_fields
from ..runtime.tracing import NO_SPAN, Span, Tracing, set_current_span
from ..state import AppState
from .accesslog import STARTED_KEY, log_request
from .auth import CALLER_KEY, check_request
from .blueprint import ApiBlueprint
from .cors import add_cors_headers, answer_preflight
from .draining import drain_later
from .envelope import find_request_id
from .errors import register_error_handlers
from .fallback import find_methods
from .request_body import limit_silence
from .state import EXTENSION, get_http_state

_SPAN_KEY = "astrbot_api.span"

#: Environ key of requests whose view sets the ``Allow`` header itself.
KEEPS_ALLOW_KEY = "astrbot_api.keeps_allow"


def add_request_hooks(blueprint: Blueprint, *, cors: bool = False) -> None:
    """Check the key of each request of a blueprint, log the request and set its id.

    Its errors, and those of nested blueprints, become envelopes.

    :param cors: Whether pages of the allowed origins may send requests and read responses.
    """
    register_error_handlers(blueprint)
    # Only one function for each hook: on every request Flask checks each one for being async.
    blueprint.before_request(partial(_begin, cors))
    blueprint.after_request(partial(_finish, cors))


def _begin(cors: bool) -> Response | None:
    now, app = _unwrap_proxies()
    environ, state = now.environ, app.extensions[EXTENSION]
    environ[STARTED_KEY] = time.perf_counter()
    traced = _begin_span(now, state.worker.tracing)
    request_id = find_request_id(environ)
    set_log_fields(request_id=request_id, **traced)
    limit_silence(now)
    if cors and now.method == "OPTIONS":
        preflight = answer_preflight(now, state)
        if preflight is not None:
            return preflight
    resource = app.blueprints[str(now.endpoint).rpartition(".")[0]]
    if isinstance(resource, ApiBlueprint) and resource.checks_key:
        check_request(now, state, resource.scope)
        prefix = environ[CALLER_KEY].key_prefix
        set_log_fields(request_id=request_id, key_prefix=prefix, **traced)
    return None


def _finish(cors: bool, response: Response) -> Response:
    now, app = _unwrap_proxies()
    state, request_id = app.extensions[EXTENSION], find_request_id(now.environ)
    response.headers["X-Request-ID"] = request_id
    if cors:
        add_cors_headers(now, response, state)
    if STARTED_KEY not in now.environ:
        return response  # an earlier hook of the embedding application has answered
    # Shared caches know that Authorization is a secret, but not X-API-Key and cookies.
    response.headers.setdefault("Cache-Control", "no-store")
    sets_allow = now.method == "OPTIONS" and KEEPS_ALLOW_KEY not in now.environ
    if sets_allow and response.status_code == 200:
        # Flask sets no methods, because the fallback accepts all of them.
        response.headers["Allow"] = ", ".join(find_methods())
    caller = now.environ.get(CALLER_KEY)
    if caller is not None:
        _count_use(caller, response, state)
    log_request(now, response, state, get_http_state(app).log_request, request_id)
    _end_span(now, response, request_id, "" if caller is None else caller.key_prefix)
    drain_later(now, response)
    return response


def _unwrap_proxies() -> tuple[Request, Flask]:
    """Return the request and application behind Flask's proxies, which are slow to access."""
    return request._get_current_object(), current_app._get_current_object()  # type: ignore[attr-defined]


def _count_use(caller: Caller, response: Response, state: AppState) -> None:
    """Count a request for its key and add the rate limit headers."""
    counter, is_error = state.keys.usage, response.status_code >= 400
    counter.count_request(caller.key_id, is_error)
    if caller.root_id != caller.key_id:
        counter.count_request(caller.root_id, is_error)
    if caller.rate is not None:
        response.headers.update(caller.rate.to_headers())


def _begin_span(request: Request, tracing: Tracing) -> dict[str, str]:
    """Begin the span of a request, within the client's trace if it sends one.

    The span has the route instead of the path, which may contain a session's name.

    :returns: Additional fields for log lines.
    """
    if not tracing.on:
        return {}
    route = request.url_rule.rule if request.url_rule is not None else ""
    headers = {
        name: request.headers[name]
        for name in ("traceparent", "tracestate")
        if name in request.headers
    }
    # Reset the span of the previous request on this thread.
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
    """End the span of a request with its response. For a stream, end it with the stream."""
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

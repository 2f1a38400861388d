"""The span of a request, from its headers to the end of its answer."""

from __future__ import annotations

from flask import Request, Response

from ..runtime.tracing import NO_SPAN, Span, Tracing, set_current_span

_KEY = "astrbot_api.span"


def begin_span(request: Request, tracing: Tracing) -> dict[str, str]:
    """Begin it, as a part of the client's trace if it sends one.

    The path is not told: a session's name may stand there. The route is.

    :returns: What lines of the log have of it.
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
    request.environ[_KEY] = span
    return {"trace_id": span.trace_id}


def end_span(request: Request, response: Response, request_id: str, key_prefix: str) -> None:
    """End it with the answer; of a stream, when the stream ends."""
    span: Span | None = request.environ.get(_KEY)
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

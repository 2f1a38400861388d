"""Tracing with OpenTelemetry.

If tracing is off, calls do nothing and OpenTelemetry is not imported. If it is
on, each request, turn, model call, tool call and delivery is a span. Parents
are passed explicitly: a turn runs in its own thread (greenlet), and a context
variable set inside a generator would leak to its caller.

Attributes contain names, ids, counts and times. They never contain message
texts, usernames, session names or keys.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Literal

from .per_process import PerProcess

log = logging.getLogger(__name__)

Kind = Literal["INTERNAL", "SERVER", "CLIENT"]
Attributes = Mapping[str, str | int | float | bool]

_NONE: Attributes = MappingProxyType({})

#: Maximum number of spans per export. Encoding runs in the worker and blocks its streams.
_MAX_BATCH = 128

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Span:
    """A span that does nothing, used when tracing is off."""

    __slots__ = ()

    #: 32 hexadecimal digits, or empty without a trace.
    trace_id = ""

    def begin(self, name: str, kind: Kind = "INTERNAL", attributes: Attributes = _NONE) -> Span:
        """Start a child span."""
        return self

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""

    def add_event(self, name: str) -> None:
        """Add an event with the current time."""

    def fail(self, what: str) -> None:
        """Mark the span as failed.

        :param what: A stable identifier for ``error.type``, not a message.
        """

    def end(self) -> None:
        """End the span, so that it can be exported."""

    def to_headers(self) -> dict[str, str]:
        """Return headers with which another server continues the trace."""
        return {}

    def to_traceparent(self) -> str | None:
        """Return the ``traceparent`` for a later child span, or None without a trace."""
        return self.to_headers().get("traceparent")


#: Span used when tracing is off.
NO_SPAN = Span()

_current: ContextVar[Span] = ContextVar("astrbot_span", default=NO_SPAN)


def current_span() -> Span:
    """Return the current span of this thread (a greenlet under gevent)."""
    return _current.get()


def set_current_span(span: Span) -> None:
    """Set the current span of this thread."""
    _current.set(span)


@contextmanager
def working_on(span: Span) -> Iterator[Span]:
    """Make a span current within a block, and end it after the block."""
    token = _current.set(span)
    try:
        yield span
    except Exception as error:
        span.fail(type(error).__name__)
        raise
    finally:
        _current.reset(token)
        span.end()


def hash_name(name: str) -> str:
    """Return a hash that identifies a session without its name."""
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:16]


class Tracing:
    """Starts the spans of an application. This base class does nothing."""

    on = False

    def begin(
        self,
        name: str,
        kind: Kind = "INTERNAL",
        attributes: Attributes = _NONE,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Span:
        """Start a span as a child of this thread's current span.

        :param headers: Headers of a remote parent, ``traceparent`` and optionally
            ``tracestate``. They take precedence over the current span.
        """
        return NO_SPAN

    def close(self, timeout_s: float) -> None:
        """Export the remaining spans, up to ``timeout_s`` seconds."""


NO_TRACING = Tracing()


def open_tracing(provider: Any = None) -> Tracing:
    """Return the tracing configured by the environment.

    An export endpoint or ``OTEL_TRACES_EXPORTER=otlp`` enables it.
    ``OTEL_SDK_DISABLED=true`` and ``OTEL_TRACES_EXPORTER=none`` disable it.
    Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/

    :param provider: The host's own OpenTelemetry ``TracerProvider``. It is used
        even if the environment disables tracing, and is never closed here.
    """
    if provider is None and not is_asked_for(os.environ):
        return NO_TRACING
    try:
        return _OpenTelemetry(provider)
    except ImportError as error:
        log.warning(
            "OTEL_… enables traces, but %s is not installed: pip install 'astrbot-api[otel]'",
            error.name,
        )
        return NO_TRACING


def is_asked_for(environ: Mapping[str, str]) -> bool:
    """Return whether the environment enables traces."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return False
    return exporter == "otlp" or any(environ.get(name, "").strip() for name in _ENDPOINTS)


class _OpenTelemetry(Tracing):
    """Tracing with OpenTelemetry's SDK.

    :param provider: The host's provider, or None to create our own with the first
        span of each process. Its export thread must belong to that process.
    """

    on = True

    def __init__(self, provider: Any) -> None:
        # Imported here, so that the first request does not wait for it.
        import opentelemetry.trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        if provider is None:
            import opentelemetry.exporter.otlp.proto.http.trace_exporter
            import opentelemetry.sdk.trace.export

        self._api = opentelemetry.trace
        self._propagator = TraceContextTextMapPropagator()
        self._given = provider
        self._own = PerProcess(_build_provider)
        self._tracer = PerProcess(self._make_tracer)

    def begin(
        self,
        name: str,
        kind: Kind = "INTERNAL",
        attributes: Attributes = _NONE,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Span:
        parent = current_span()
        is_hosts = self._given is not None and kind == "SERVER"
        if is_hosts and self._api.get_current_span().get_span_context().is_valid:
            # The host traces its requests itself, so our requests are children of its spans. In
            # a thread, its current span may be the request that started the thread.
            return self.start(name, kind, attributes, None)
        if headers and "traceparent" in headers:
            return self.start(name, kind, attributes, self._propagator.extract(headers))
        if isinstance(parent, _Span):
            return parent.begin(name, kind, attributes)
        # With the invalid span, OpenTelemetry does not read its context variable.
        no_parent = self._api.set_span_in_context(self._api.INVALID_SPAN)
        return self.start(name, kind, attributes, no_parent)

    def start(self, name: str, kind: Kind, attributes: Attributes, context: Any) -> Span:
        """Start a span within an OpenTelemetry context."""
        started = self._tracer.get().start_span(
            name, context, self._api.SpanKind[kind], dict(attributes)
        )
        return _Span(self, started)

    def to_headers(self, context: Any) -> dict[str, str]:
        """Return an OpenTelemetry context as headers."""
        headers: dict[str, str] = {}
        self._propagator.inject(headers, context)
        return headers

    def close(self, timeout_s: float) -> None:
        """Export the remaining spans, and stop waiting for the collector after ``timeout_s``."""
        own = self._own.take()
        if own is None:
            return
        # shutdown() has a fixed timeout of 30 seconds.
        closing = threading.Thread(target=own.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(timeout_s)

    def _make_tracer(self) -> Any:
        provider = self._own.get() if self._given is None else self._given
        return provider.get_tracer("astrbot_api")


class _Span(Span):
    """An OpenTelemetry span."""

    __slots__ = ("_context", "_span", "_tracing", "trace_id")

    def __init__(self, tracing: _OpenTelemetry, span: Any) -> None:
        self._tracing = tracing
        self._span = span
        self._context = tracing._api.set_span_in_context(span)
        self.trace_id = tracing._api.format_trace_id(span.get_span_context().trace_id)

    def begin(self, name: str, kind: Kind = "INTERNAL", attributes: Attributes = _NONE) -> Span:
        return self._tracing.start(name, kind, attributes, self._context)

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))

    def add_event(self, name: str) -> None:
        self._span.add_event(name)

    def fail(self, what: str) -> None:
        self._span.set_attribute("error.type", what)
        self._span.set_status(self._tracing._api.StatusCode.ERROR)

    def end(self) -> None:
        self._span.end()

    def to_headers(self) -> dict[str, str]:
        return self._tracing.to_headers(self._context)


def _build_provider() -> Any:
    """Return a provider that exports by OTLP over HTTP, from a bounded queue.

    If the queue is full, spans are dropped. Under gevent the export thread is a
    greenlet, so waiting for the collector does not block the worker. The
    environment configures the rest (``OTEL_BSP_…``, ``OTEL_TRACES_SAMPLER``, …).
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if str(resource.attributes.get("service.name", "unknown_service")).startswith(
        "unknown_service"
    ):
        resource = resource.merge(Resource({"service.name": "astrbot-api"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    batch = None if "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" in os.environ else _MAX_BATCH
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), max_export_batch_size=batch))
    return provider

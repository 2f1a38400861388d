"""Traces for OpenTelemetry: what took place within what, and how long it took.

Off, every call here does nothing and nothing of OpenTelemetry is imported.
On, a request, a turn, each model call, tool call and delivery is a span. A
parent is handed on explicitly: a turn runs in a thread (a greenlet) of its own,
and what a generator puts into a context variable would leak to its reader.

Attributes hold names, ids, counts and times: never a text, a username, a
session's name or a key.
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

#: Most spans that are encoded at once: it is done where the streams are served.
_MAX_BATCH = 128

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Span:
    """A span that does nothing, used when tracing is off."""

    __slots__ = ()

    #: 32 hexadecimal digits; empty where there is no trace.
    trace_id = ""

    def begin(self, name: str, kind: Kind = "INTERNAL", attributes: Attributes = _NONE) -> Span:
        """Begin a piece of this work."""
        return self

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""

    def add_event(self, name: str) -> None:
        """Note that something has happened now."""

    def fail(self, what: str) -> None:
        """Mark it as failed.

        :param what: A stable word (``error.type``); never a message.
        """

    def end(self) -> None:
        """End it; it is exported from now on."""

    def to_headers(self) -> dict[str, str]:
        """Return the headers by which another server continues the trace."""
        return {}

    def to_traceparent(self) -> str | None:
        """Return what a later piece of work needs to be a part of this one."""
        return self.to_headers().get("traceparent")


#: Where nothing is traced.
NO_SPAN = Span()

_current: ContextVar[Span] = ContextVar("astrbot_span", default=NO_SPAN)


def current_span() -> Span:
    """Return what this thread (a greenlet under gevent) works on."""
    return _current.get()


def set_current_span(span: Span) -> None:
    """Say what this thread works on from now on."""
    _current.set(span)


@contextmanager
def working_on(span: Span) -> Iterator[Span]:
    """Work on a span within a block, and end it there."""
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
    """Begins the traces of an application; this one is off and begins none."""

    on = False

    def begin(
        self,
        name: str,
        kind: Kind = "INTERNAL",
        attributes: Attributes = _NONE,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Span:
        """Begin a piece of work, as a part of what this thread works on.

        :param headers: Where the trace began elsewhere: ``traceparent`` and,
            perhaps, ``tracestate``. They win.
        """
        return NO_SPAN

    def close(self, timeout_s: float) -> None:
        """Export what is left, for as long as that may take."""


#: Tracing that is off.
NO_TRACING = Tracing()


def open_tracing(provider: Any = None, environ: Mapping[str, str] | None = None) -> Tracing:
    """Return the tracing that the environment asks for.

    Asked for is it by an address to export to, or by ``OTEL_TRACES_EXPORTER=otlp``;
    ``OTEL_SDK_DISABLED=true`` and ``OTEL_TRACES_EXPORTER=none`` switch it off.
    Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/

    :param provider: An OpenTelemetry ``TracerProvider`` of the host's own; it
        is used also where the environment has traces off, and never closed here.
    """
    environ = os.environ if environ is None else environ
    if provider is None and not is_asked_for(environ):
        return NO_TRACING
    try:
        return _OpenTelemetry(provider)
    except ImportError as error:
        log.warning(
            "OTEL_… asks for traces, but %s is not installed: pip install 'astrbot-api[otel]'",
            error.name,
        )
        return NO_TRACING


def is_asked_for(environ: Mapping[str, str]) -> bool:
    """Return whether the environment asks for traces."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return False
    return exporter == "otlp" or any(environ.get(name, "").strip() for name in _ENDPOINTS)


class _OpenTelemetry(Tracing):
    """Spans by OpenTelemetry's own SDK.

    :param provider: The host's; None: one of our own, which is made with the
        first span of each process, as its thread must be that process's.
    """

    on = True

    def __init__(self, provider: Any) -> None:
        # Imported now: the first request must not wait for it.
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
        if self._given is not None and self._api.get_current_span().get_span_context().is_valid:
            # The host traces its requests itself: ours are within them.
            return self.start(name, kind, attributes, None)
        if headers and "traceparent" in headers:
            return self.start(name, kind, attributes, self._propagator.extract(headers))
        if isinstance(parent, _Span):
            return parent.begin(name, kind, attributes)
        return self.start(name, kind, attributes, self._api.set_span_in_context(_no_parent(self)))

    def start(self, name: str, kind: Kind, attributes: Attributes, context: Any) -> Span:
        """Begin a span within a context of OpenTelemetry's."""
        started = self._tracer.get().start_span(
            name, context, self._api.SpanKind[kind], dict(attributes)
        )
        return _Span(self, started)

    def to_headers(self, context: Any) -> dict[str, str]:
        """Return a context as headers."""
        headers: dict[str, str] = {}
        self._propagator.inject(headers, context)
        return headers

    def close(self, timeout_s: float) -> None:
        """Export what is left; a collector that does not answer costs no more than this time."""
        own = self._own.take()
        if own is None:
            return
        # Its own limit is half a minute, and cannot be set.
        closing = threading.Thread(target=own.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(timeout_s)

    def _make_tracer(self) -> Any:
        provider = self._own.get() if self._given is None else self._given
        return provider.get_tracer("astrbot_api")


class _Span(Span):
    """A span of OpenTelemetry's."""

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


def _no_parent(tracing: _OpenTelemetry) -> Any:
    """Return a no-op span, so that OpenTelemetry does not read its context variable."""
    return tracing._api.INVALID_SPAN


def _build_provider() -> Any:
    """Return a provider that exports by OTLP over HTTP, from a bounded queue.

    What does not fit into the queue is dropped. Under gevent its thread is a
    greenlet, whose waits for the collector let the others run. The rest is as
    the environment says (``OTEL_BSP_…``, ``OTEL_TRACES_SAMPLER``, …).
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

"""An OpenTelemetry collector on a loopback port (OTLP over HTTP)."""

from __future__ import annotations

import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from .waiting import wait_for


class Collector:
    """Records spans.

    :param status: Its response status. With another status than 200, it records nothing. With 0, it
        never responds.
    """

    def __init__(self, status: int = 200) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.requests = 0
        self._ending = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests += 1
                if not status:
                    outer._ending.wait()
                    return
                if status == 200:
                    outer.take(body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def take(self, body: bytes) -> None:
        """Record the spans of one request."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for attribute in resource.resource.attributes:
                if attribute.key == "service.name":
                    self.services.add(attribute.value.string_value)
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)

    def wait_for_trace(self, trace_id: str, names: set[str]) -> dict[str, Any]:
        """Wait until a trace has spans of these names; return its spans by name."""

        def look() -> dict[str, Any]:
            found = {one.name: one for one in self.spans if one.trace_id.hex() == trace_id}
            return found if names <= set(found) else {}

        return wait_for(look)

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def read_attributes(span: Any) -> dict[str, Any]:
    """Return a span's attributes as Python values."""
    found: dict[str, Any] = defaultdict(lambda: None)
    for one in span.attributes:
        found[one.key] = getattr(one.value, one.value.WhichOneof("value"))
    return found

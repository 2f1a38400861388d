"""Prometheus metrics of the server.

Under gunicorn each worker writes its values to a shared folder
(``PROMETHEUS_MULTIPROC_DIR``, created by our gunicorn configuration). The
worker that serves a scrape adds them up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

#: The media type of :meth:`Metrics.render`.
CONTENT_TYPE = CONTENT_TYPE_LATEST

#: Upper bounds of the histogram buckets, in seconds.
_REQUEST_S = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
_WAIT_S = (0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0)
_FIRST_TOKEN_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

#: Kinds of stored data.
_KINDS = ("messages", "sessions", "deliveries", "requests", "notes", "files")

#: Maximum number of combinations of route, method and status. Callers cannot
#: create combinations, so this limit is only a safeguard.
_MAX_REQUEST_LABELS = 2000


class Metrics:
    """The metrics of one application.

    Applications in one process have separate values. Under gunicorn they are
    added up, because they share the files of the process.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._states: dict[str, str] = {}
        self._of_request: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        own: dict[str, Any] = {"namespace": "astrbot", "registry": self._registry}
        live: dict[str, Any] = {**own, "multiprocess_mode": "livesum"}
        self._requests = Counter(
            "requests", "Requests with a response.", ["route", "method", "status"], **own
        )
        self._request_s = Histogram(
            "request_seconds", "Time until the response headers.", ["route"],
            buckets=_REQUEST_S, **own,
        )  # fmt: skip
        self.streams = Gauge("streams_open", "Open streams.", **live)
        active = Gauge("runs_active", "Running or queued turns.", ["state"], **live)
        runs = Counter("runs", "Finished turns.", ["status"], **own)
        tokens = Counter("tokens", "Tokens, as counted by the models.", ["kind"], **own)
        # Cached, because looking up a label takes longer than counting.
        self._active: Callable[[str], Any] = cache(active.labels)
        self._runs: Callable[[str], Any] = cache(runs.labels)
        self._tokens: Callable[[str], Any] = cache(tokens.labels)
        self.checkpoints = Counter("run_checkpoints", "Stored steps of turns.", **own)
        self.handovers = Counter(
            "run_handovers", "Turns that a stopping worker handed over to another worker.", **own
        )
        self._pickups = Counter("run_pickups", "Turns resumed after their worker died.", **own)
        self.rewinds = Counter(
            "run_rewinds", "Resumed turns that withdrew the shown part of a step.", **own
        )
        self._lost_s = Histogram(
            "run_pickup_seconds", "Time from a dead worker's last heartbeat to the resumed turn.",
            buckets=_WAIT_S, **own,
        )  # fmt: skip
        self.queue_s = Histogram(
            "run_queue_seconds", "Time that a turn waited for earlier turns of its session.",
            buckets=_WAIT_S, **own,
        )  # fmt: skip
        self._first_token_s = Histogram(
            "first_token_seconds", "Time from the start of a turn to the model's first token.",
            buckets=_FIRST_TOKEN_S, **own,
        )  # fmt: skip
        self._deliveries = Counter(
            "deliveries", "Attempts to deliver a message to a bot.", ["bot", "outcome"], **own
        )
        newest: dict[str, Any] = {**own, "multiprocess_mode": "livemostrecent"}
        self._stored = Gauge("stored", "Number of stored records.", ["kind"], **newest)
        self._stored_bytes = Gauge("stored_bytes", "Bytes of stored records.", ["kind"], **newest)
        self._growth_bytes = Gauge(
            "growth_bytes", "Growth of the stored data in the last minute, in bytes.", **newest
        )
        self._free_bytes = Gauge(
            "disk_free_bytes", "Free space of the data directory's disk.", **newest
        )
        self._uploads = Counter("uploads", "Stored attachments.", **own)
        self._upload_bytes = Counter("upload_bytes", "Bytes of stored attachments.", **own)

    def note_request(self, route: str, method: str, status: int, took_s: float) -> None:
        """Count a response. A stream is counted at its headers."""
        key = (route, method, status)
        found = self._of_request.get(key)
        if found is None:
            if len(self._of_request) >= _MAX_REQUEST_LABELS:
                return
            found = (self._requests.labels(*key), self._request_s.labels(route))
            self._of_request[key] = found
        found[0].inc()
        found[1].observe(took_s)

    def note_run(self, run_id: str, state: str) -> None:
        """Set the state of a turn of this worker.

        :param state: ``queued``, ``running``, or empty if the worker no longer runs it.
        """
        before = self._states.pop(run_id, "")
        if before:
            self._active(before).dec()
        if state:
            self._states[run_id] = state
            self._active(state).inc()

    def note_end(self, status: str, stats: dict[str, Any] | None = None) -> None:
        """Count a finished turn.

        :param stats: Its ``agent_stats``, or None if no model was called.
        """
        self._runs(status).inc()
        if not stats:
            return
        for kind, count in stats["token_usage"].items():
            if count:
                self._tokens(kind).inc(count)
        if stats["time_to_first_token"] > 0:
            self._first_token_s.observe(stats["time_to_first_token"])

    def note_pickup(self, silent_s: float | None) -> None:
        """Count a turn that this worker resumes after another worker died.

        :param silent_s: Seconds since that worker's last heartbeat, or None if unknown.
        """
        self._pickups.inc()
        if silent_s is not None:
            self._lost_s.observe(silent_s)

    def note_delivery(self, bot: str, outcome: str) -> None:
        """Count an attempt to deliver a message.

        :param outcome: ``sent``, ``failed`` (permanently) or ``retried``.
        """
        self._deliveries.labels(bot, outcome).inc()

    def note_upload(self, size_bytes: int) -> None:
        """Count a stored attachment."""
        self._uploads.inc()
        self._upload_bytes.inc(size_bytes)

    def note_stored(self, stored: Any, growth_bytes: int, free_bytes: int | None) -> None:
        """Set the size of the stored data, its growth, and the free space of the disk.

        :param stored: See :class:`astrbot_api.db.stored.Stored`.
        """
        for kind in _KINDS:
            self._stored.labels(kind).set(getattr(stored, kind))
            self._stored_bytes.labels(kind).set(getattr(stored, f"{kind}_bytes"))
        self._growth_bytes.set(growth_bytes)
        if free_bytes is not None:
            self._free_bytes.set(free_bytes)

    def render(self) -> bytes:
        """Return the metrics of all workers, in Prometheus' text format."""
        if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            return bytes(generate_latest(self._registry))
        summed = CollectorRegistry()
        MultiProcessCollector(summed)  # type: ignore[no-untyped-call]
        return bytes(generate_latest(summed))

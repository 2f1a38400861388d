"""What the server counts of itself, for Prometheus.

Under gunicorn each worker writes its figures into a folder that all share
(``PROMETHEUS_MULTIPROC_DIR``, which our gunicorn configuration makes), and
whichever worker is asked adds them up.
"""

from __future__ import annotations

import os
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

#: Upper ends of the buckets, in seconds.
_REQUEST_S = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
_WAIT_S = (0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0)
_FIRST_TOKEN_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

#: Kinds of what is stored.
_KINDS = ("messages", "sessions", "deliveries", "requests", "notes", "files")

#: Most combinations of route, method and status. Callers cannot invent any, so
#: this is never reached.
_MAX_REQUEST_LABELS = 2000


class Metrics:
    """The figures of one application.

    Two applications of one process have figures of their own, but under
    gunicorn one sum: the files are of the process.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._states: dict[str, str] = {}
        self._of_request: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        own: dict[str, Any] = {"namespace": "astrbot", "registry": self._registry}
        live: dict[str, Any] = {**own, "multiprocess_mode": "livesum"}
        self._requests = Counter(
            "requests", "Answered requests.", ["route", "method", "status"], **own
        )
        self._request_s = Histogram(
            "request_seconds", "Time to the head of an answer.", ["route"],
            buckets=_REQUEST_S, **own,
        )  # fmt: skip
        self._streams = Gauge("streams_open", "Streams that are open.", **live)
        self._active = Gauge("runs_active", "Turns that run or wait.", ["state"], **live)
        self._runs = Counter("runs", "Turns that have ended.", ["status"], **own)
        self._checkpoints = Counter("run_checkpoints", "Steps of turns that were stored.", **own)
        self._handovers = Counter(
            "run_handovers", "Turns that a worker gave to another one as it stopped.", **own
        )
        self._pickups = Counter(
            "run_pickups", "Turns that went on after their worker had died.", **own
        )
        self._rewinds = Counter(
            "run_rewinds", "Pickups that took back what had been shown of a step.", **own
        )
        self._lost_s = Histogram(
            "run_pickup_seconds", "Time from a worker's last word until a turn of it went on.",
            buckets=_WAIT_S, **own,
        )  # fmt: skip
        self._queue_s = Histogram(
            "run_queue_seconds", "Time for which a turn waited for its session's earlier ones.",
            buckets=_WAIT_S, **own,
        )  # fmt: skip
        self._first_token_s = Histogram(
            "first_token_seconds", "Time from a turn's begin to its model's first word.",
            buckets=_FIRST_TOKEN_S, **own,
        )  # fmt: skip
        self._tokens = Counter("tokens", "Tokens, as the models count them.", ["kind"], **own)
        self._deliveries = Counter(
            "deliveries", "Attempts to hand a message to a bot.", ["bot", "outcome"], **own
        )
        newest: dict[str, Any] = {**own, "multiprocess_mode": "livemostrecent"}
        self._stored = Gauge("stored", "What is stored.", ["kind"], **newest)
        self._stored_bytes = Gauge("stored_bytes", "Bytes of what is stored.", ["kind"], **newest)
        self._growth_bytes = Gauge(
            "growth_bytes", "Bytes by which what is stored grew within a minute.", **newest
        )
        self._free_bytes = Gauge(
            "disk_free_bytes", "Free space of the data directory's disk.", **newest
        )
        self._uploads = Counter("uploads", "Attachments taken in.", **own)
        self._upload_bytes = Counter("upload_bytes", "Bytes of attachments taken in.", **own)

    def note_request(self, route: str, method: str, status: int, took_s: float) -> None:
        """Count an answer; of a stream, its head."""
        key = (route, method, status)
        found = self._of_request.get(key)
        if found is None:
            if len(self._of_request) >= _MAX_REQUEST_LABELS:
                return
            found = (self._requests.labels(*key), self._request_s.labels(route))
            self._of_request[key] = found
        found[0].inc()
        found[1].observe(took_s)

    def note_streams(self, change: int) -> None:
        """Count streams that were opened (1) or closed (-1)."""
        self._streams.inc(change)

    def note_run(self, run_id: str, state: str) -> None:
        """Note the state of a turn of this worker: ``queued``, ``running``, or ``""``: it left."""
        before = self._states.pop(run_id, "")
        if before:
            self._active.labels(before).dec()
        if state:
            self._states[run_id] = state
            self._active.labels(state).inc()

    def note_end(self, status: str, stats: dict[str, Any] | None = None) -> None:
        """Count a turn that has ended.

        :param stats: Its ``agent_stats``; None where no model was asked.
        """
        self._runs.labels(status).inc()
        if not stats:
            return
        for kind, count in stats["token_usage"].items():
            if count:
                self._tokens.labels(kind).inc(count)
        if stats["time_to_first_token"] > 0:
            self._first_token_s.observe(stats["time_to_first_token"])

    def note_checkpoint(self) -> None:
        """Count a step of a turn that was stored."""
        self._checkpoints.inc()

    def note_handover(self) -> None:
        """Count a turn that this worker, which stops, gave up."""
        self._handovers.inc()

    def note_pickup(self, silent_s: float | None, *, rewound: bool) -> None:
        """Count a turn that goes on here after its worker died.

        :param silent_s: Seconds since the worker's last word; None: they are not known.
        """
        self._pickups.inc()
        if rewound:
            self._rewinds.inc()
        if silent_s is not None:
            self._lost_s.observe(silent_s)

    def note_queue_wait(self, waited_s: float) -> None:
        """Note how long a turn waited for its session's earlier ones."""
        self._queue_s.observe(waited_s)

    def note_delivery(self, bot: str, outcome: str) -> None:
        """Count an attempt to hand over a message.

        :param bot: The id of the bot.
        :param outcome: ``sent``, ``failed`` (for good) or ``retried``.
        """
        self._deliveries.labels(bot, outcome).inc()

    def note_upload(self, size_bytes: int) -> None:
        """Count an attachment that was taken in."""
        self._uploads.inc()
        self._upload_bytes.inc(size_bytes)

    def note_stored(self, stored: Any, growth_bytes: int, free_bytes: int | None) -> None:
        """Note what is stored now, by kind, its growth, and the free space of the disk.

        :param stored: See :class:`astrbot_api.db.stored.Stored`.
        """
        for kind in _KINDS:
            self._stored.labels(kind).set(getattr(stored, kind))
            self._stored_bytes.labels(kind).set(getattr(stored, f"{kind}_bytes"))
        self._growth_bytes.set(growth_bytes)
        if free_bytes is not None:
            self._free_bytes.set(free_bytes)

    def render(self) -> bytes:
        """Return the figures of all workers, in Prometheus' text format."""
        if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            return bytes(generate_latest(self._registry))
        summed = CollectorRegistry()
        MultiProcessCollector(summed)  # type: ignore[no-untyped-call]
        return bytes(generate_latest(summed))

"""Run this worker's turns in the order of their sessions, and stop any turn."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from ...config.settings import Settings
from ...db import run_stops, runs
from ...db.runs import RunRow
from ...db.store import Store
from ...errors import ApiError, RunCancelled, StorageError
from ...events import Event
from ...runlog.log import RunLog
from ...runlog.signals.signals import STOP_RUNS, Signals
from ...runtime.logs import set_log_fields
from ...runtime.memory import Reservation
from ...runtime.threads import let_others_run, start_beside
from ...runtime.tracing import NO_TRACING, Span, Tracing, hash_name, set_current_span
from .answering import Answer, AnswerServices
from .fold import make_rewind
from .opening import TurnOpener
from .order import wait_for_earlier_turns
from .outcome import LOST, Outcome, RunLost
from .turn import OpenTurn, TurnRequest

log = logging.getLogger(__name__)


class Runs:
    """Starts each turn in a thread of its own (a greenlet under gevent).

    Turns of one session run one after another, across workers, in the order of their rows.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        signals: Signals,
        *,
        opener: TurnOpener,
        services: AnswerServices,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._settings = settings
        self._tracing = tracing
        self._metrics = services.metrics
        self._store = store
        self._signals = signals
        signals.subscribe(STOP_RUNS, lambda payload: self._cancel(payload.split()))
        self._opener = opener
        self._services = services
        self._handover = services.handover
        self._outcomes = services.outcomes
        self._lock = threading.Lock()
        self._active: dict[str, OpenTurn] = {}
        self._memory = services.memory
        self._reservations: dict[str, Reservation] = {}
        self._closing = False
        #: Whether this worker is about to stop.
        self.draining = False
        #: Whether the streams of this worker must end because its time to stop is over.
        self.leaving = False
        self._idle = threading.Event()
        self._idle.set()

    @property
    def active_count(self) -> int:
        """Number of running and waiting turns of this worker."""
        return len(self._active)

    def find_log(self, run_id: str) -> RunLog | None:
        """Return the log of a running or waiting turn of this worker, or None."""
        turn = self._active.get(run_id)
        return turn.log if turn and not turn.log.lost else None

    def start(self, request: TurnRequest) -> OpenTurn:
        """Open a turn and run it. Streams read its log.

        :raises ApiError: ``server_busy`` or ``shutting_down`` if this worker accepts no more turns,
            and the refusals of :meth:`TurnOpener.open`.
        """
        if self._closing:
            message = "The server is shutting down; try again."
            raise ApiError("shutting_down", message, retry_after_s=1)
        if len(self._active) >= self._settings.max_runs_per_worker:
            raise _busy(f"{len(self._active)} turns are running on this worker; try again later.")
        reservation = Reservation(self._memory, request.payer or "")
        reservation.resize(request.measure())
        try:
            turn = self._opener.open(request)
        except BaseException:
            reservation.resize(0)
            raise
        self._reservations[turn.run_id] = reservation
        if self._tracing.on:
            turn = replace(turn, span=self._begin_span(turn))
        if turn.ahead and self._services.abilities.stops_earlier(turn.config, turn.text):
            turn = replace(turn, stopped=self._stop_ahead_of(turn))
        _write(turn, turn.list_first_events())
        self._begin(turn)
        # Send the model's request first. The HTTP response is built while the model works.
        let_others_run()
        return turn

    @property
    def has_room(self) -> bool:
        """Whether this worker accepts one more turn."""
        return not self.draining and len(self._active) < self._settings.max_runs_per_worker

    def resume(self, turn: OpenTurn, traceparent: str | None) -> None:
        """Resume a turn of another worker.

        :param traceparent: The trace to continue.
        """
        if self._tracing.on:
            turn = replace(turn, span=self._begin_span(turn, traceparent))
        _write(turn, turn.list_first_events()[turn.log.count_events() :])
        self._begin(turn)

    def _begin(self, turn: OpenTurn) -> None:
        # Not the turn itself: that cycle would keep its texts until a full garbage collection.
        turn.log.on_lost = partial(turn.cancel.cancel, "interrupted")
        turn.log.make_rewind = partial(make_rewind, turn.run_id)
        with self._lock:
            self._active[turn.run_id] = turn
            self._idle.clear()
        self._metrics.note_run(turn.run_id, "queued" if turn.ahead else "running")
        try:
            start_beside(self._run, turn, name="run")
        except RuntimeError as error:  # out of threads; greenlets always start
            _write(turn, Answer(self._services, turn).end_unbegun("interrupted"))
            self._close(turn)
            raise _busy("This worker has no thread left for the turn; try again later.") from error
        self._signals.start()

    def stop(self, stopped: Sequence[str]) -> int:
        """Stop running or waiting turns of any worker.

        Their workers are notified, and also poll for stop requests.

        :returns: How many of the runs had not ended.
        :raises StorageError: if the request cannot be stored.
        """
        noted = self._store.write(
            lambda db: [run_id for run_id in stopped if run_stops.request_stop(db, run_id)]
        )
        self._cancel(noted)
        if noted:
            self._signals.publish(STOP_RUNS, " ".join(noted))
        return len(noted)

    def stop_session(self, session: int, key_id: str | None = None) -> int:
        """Stop a session's running and waiting turns; return their number.

        :param key_id: Stop only the turns of this key, or all if None.
        """
        with self._store.read() as db:
            wanted = runs.list_active_ids(db, session, key_id)
        return self.stop(wanted) if wanted else 0

    def _stop_ahead_of(self, turn: OpenTurn) -> int:
        """Stop the other turns of a turn's session, so that it can begin."""
        try:
            with self._store.read() as db:
                wanted = runs.list_active_ids(db, turn.session.id)
            return self.stop([run_id for run_id in wanted if run_id != turn.run_id])
        except StorageError:
            log.exception("the turns ahead of run %s were not stopped", turn.run_id)
            return 0

    def poll_stop_requests(self) -> None:
        """Stop this worker's turns that another worker was asked to stop. Runs periodically."""
        if not self._active:
            return
        worker_id = self._opener.get_worker_id()
        with self._store.read() as db:
            found = run_stops.list_stop_requests(db, worker_id)
        self._cancel(found)

    def drain(self) -> None:
        """Hand turns over to other workers after their next step, and take over none.

        New turns are still accepted, since clients send them over existing connections.
        """
        self.draining = True
        self._handover.begin()

    def release_all(self) -> bool:
        """Refuse new turns, and leave the current ones to other workers or the next start.

        Turns that nobody can resume end, and their partial reply is stored.

        :returns: Whether another worker resumes the turns now.
        """
        self.draining = self._closing = True
        self._handover.release(list(self._active.values()))
        return self._handover.has_successor()

    def end_streams(self) -> None:
        """End all streams. Their clients resume on another worker."""
        self.leaving = True

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until this worker has no turns; return whether that happened in time."""
        return self._idle.wait(timeout_s)

    def _run(self, turn: OpenTurn) -> None:
        traced = {"trace_id": turn.span.trace_id} if self._tracing.on else {}
        set_log_fields(session=turn.session.session_id, run=turn.run_id, **traced)
        set_current_span(turn.span)
        try:
            if turn.ahead:
                began = time.monotonic()
                if not wait_for_earlier_turns(self._store, self._handover, turn):
                    return
                self._metrics.note_run(turn.run_id, "running")
                self._metrics.queue_s.observe(time.monotonic() - began)
                turn.span.add_event("astrbot.run.started")
            answer = Answer(self._services, turn)
            _write(turn, answer, answer.observe)
        except RunCancelled as error:
            if not turn.log.lost:
                _write(turn, Answer(self._services, turn).end_unbegun(error.reason))
        except RunLost:
            if not turn.log.lost:
                self._drop(turn, Outcome("interrupted", "run_interrupted", LOST))
        except BaseException:  # SystemExit too: a run without an end blocks its session
            log.exception("run %s failed unexpectedly", turn.run_id)
            message = f"The server failed; its log has the details under run {turn.run_id}."
            self._drop(turn, Outcome("failed", "internal_error", message))
        finally:
            self._close(turn)

    def _drop(self, turn: OpenTurn, outcome: Outcome) -> None:
        """End a turn without a reply."""
        _write(turn, self._outcomes.finish(turn, outcome))

    def _close(self, turn: OpenTurn) -> None:
        turn.log.close()
        turn.span.end()
        with self._lock:
            if self._active.get(turn.run_id) is turn:  # it may have been resumed here
                del self._active[turn.run_id]
                self._metrics.note_run(turn.run_id, "")
                if reservation := self._reservations.pop(turn.run_id, None):
                    reservation.resize(0)
            if not self._active:
                self._idle.set()

    def _begin_span(self, turn: OpenTurn, traceparent: str | None = None) -> Span:
        return self._tracing.begin(
            f"invoke_agent {turn.config.id}",
            "INTERNAL",
            {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": turn.config.id,
                # A session's name may be a person's name.
                "gen_ai.conversation.id": hash_name(turn.session.session_id),
                "astrbot.run.id": turn.run_id,
                "astrbot.config.id": turn.config.id,
                "astrbot.platform": turn.request.platform,
            },
            headers={"traceparent": traceparent} if traceparent else None,
        )

    def knows(self, run: RunRow) -> bool:
        """Return whether this worker has a running or waiting run."""
        return run.run_id in self._active

    def _cancel(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            turn = self._active.get(run_id)
            if turn is not None:
                turn.cancel.cancel("stopped")


def _write(
    turn: OpenTurn, said: Iterable[Event], observe: Callable[[Event], None] | None = None
) -> None:
    """Append events to a turn's log. This is the only writer of logs.

    :param observe: Called with each appended event.
    """
    for event in said:
        turn.log.append(event)
        if observe is not None:
            observe(event)


def _busy(message: str) -> ApiError:
    return ApiError("server_busy", message, retry_after_s=5)

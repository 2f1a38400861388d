"""The turns that this worker runs, each in its session's order; and stopping any turn."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import peewee

from ...config.settings import Settings
from ...db import runs
from ...db.runs import RunRow
from ...db.store import Store
from ...errors import ApiError, RunCancelled, StorageError, StoreClosed
from ...events import Event
from ...runlog.log import RunLog
from ...runlog.signals.signals import STOP_RUNS, Signals
from ...runtime.logs import set_log_fields
from ...runtime.metrics import Metrics
from ...runtime.threads import let_others_run, start_beside
from ...runtime.tracing import NO_TRACING, Span, Tracing, hash_name, set_current_span
from .answering import Answer, Means
from .commands import asks_to_stop
from .handover import Handover
from .opening import TurnOpener
from .outcome import LOST, Outcome, RunLost
from .turn import OpenTurn, TurnRequest

log = logging.getLogger(__name__)

#: How often a turn that waits for another worker's looks, in seconds.
_POLL_S = 0.1


class Runs:
    """Starts turns in threads of their own (greenlets under gevent).

    Turns of one session run one after another, across workers: their order
    is that of their rows. A turn that waits for one of this worker is woken
    by it; for another worker's it looks at the database now and then.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        signals: Signals,
        *,
        opener: TurnOpener,
        means: Means,
        handover: Handover,
        metrics: Metrics,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._settings = settings
        self._tracing = tracing
        self._metrics = metrics
        self._store = store
        self._signals = signals
        signals.subscribe(STOP_RUNS, lambda payload: self._cancel(payload.split()))
        self._opener = opener
        self._means = means
        self._handover = handover
        self._outcomes = means.outcomes
        self._lock = threading.Lock()
        self._active: dict[str, OpenTurn] = {}
        self._waiting: dict[int, set[threading.Event]] = defaultdict(set)
        self._draining = self._closing = self._leaving = False
        self._idle = threading.Event()
        self._idle.set()

    @property
    def active_count(self) -> int:
        """How many turns of this worker run or wait."""
        return len(self._active)

    @property
    def draining(self) -> bool:
        """Whether this worker is about to stop."""
        return self._draining

    @property
    def leaving(self) -> bool:
        """Whether the streams of this worker must end: its time to stop is over."""
        return self._leaving

    def find_log(self, run_id: str) -> RunLog | None:
        """Return the log of a turn that runs or waits in this worker."""
        turn = self._active.get(run_id)
        return turn.log if turn and not turn.log.lost else None

    def start(self, request: TurnRequest) -> OpenTurn:
        """Open a turn and have it run; its log is what its stream shows.

        :raises ApiError: ``server_busy`` or ``shutting_down`` when this worker
            takes no more, and whatever :meth:`TurnOpener.open` refuses.
        """
        if self._closing:
            raise ApiError(
                "shutting_down", "The server is going down; try again.",
                headers={"Retry-After": "1"},
            )  # fmt: skip
        if len(self._active) >= self._settings.max_runs_per_worker:
            raise _busy(f"{len(self._active)} turns are running on this worker; try again later.")
        turn = self._opener.open(request)
        if self._tracing.on:
            turn = replace(turn, span=self._begin_span(turn))
        if turn.ahead and asks_to_stop(turn.text):
            turn = replace(turn, stopped=self._stop_ahead_of(turn))
        _write(turn, turn.list_first_events())
        self._begin(turn)
        # The model is asked first: what is left of the request is done while it thinks.
        let_others_run()
        return turn

    @property
    def has_room(self) -> bool:
        """Whether this worker may take one more turn."""
        return not self._draining and len(self._active) < self._settings.max_runs_per_worker

    def go_on(self, turn: OpenTurn, traceparent: str | None) -> None:
        """Run a turn that another worker had.

        :param traceparent: What it is a part of, in a trace.
        """
        if self._tracing.on:
            turn = replace(turn, span=self._begin_span(turn, traceparent))
        _write(turn, turn.list_first_events()[turn.log.count_events() :])
        self._begin(turn)

    def _begin(self, turn: OpenTurn) -> None:
        turn.log.on_lost = lambda: turn.cancel.cancel("interrupted")
        with self._lock:
            self._active[turn.run_id] = turn
            self._idle.clear()
        self._metrics.note_run(turn.run_id, "queued" if turn.ahead else "running")
        try:
            start_beside(self._run, turn, name="run")
        except RuntimeError as error:  # no thread to be had; a greenlet always is
            _write(turn, Answer(self._means, turn).end_unbegun("interrupted"))
            self._close(turn)
            raise _busy("This worker has no thread left for the turn; try again later.") from error
        self._signals.start()

    def stop(self, stopped: Sequence[str]) -> int:
        """Stop turns, wherever they run or wait.

        Their worker is notified at once, and looks for itself now and then.

        :param stopped: The ids of the runs.
        :returns: How many of them had not ended.
        :raises StorageError: when the wish cannot be stored.
        """

        def note(db: peewee.Database) -> list[str]:
            return [run_id for run_id in stopped if runs.request_stop(db, run_id)]

        noted = self._store.write(note)
        self._cancel(noted)
        if noted:
            self._signals.publish(STOP_RUNS, " ".join(noted))
        return len(noted)

    def stop_session(self, session: int, key_id: str | None = None) -> int:
        """Stop the turns of a session that run or wait; return how many.

        :param session: The session's number.
        :param key_id: Only those of this key; None: all.
        """
        with self._store.read() as db:
            wanted = runs.list_active_ids(db, session, key_id)
        return self.stop(wanted) if wanted else 0

    def _stop_ahead_of(self, turn: OpenTurn) -> int:
        """Stop the other turns of a turn's session, which would keep it waiting."""
        try:
            with self._store.read() as db:
                wanted = runs.list_active_ids(db, turn.session.id)
            return self.stop([run_id for run_id in wanted if run_id != turn.run_id])
        except StorageError:
            log.exception("the turns ahead of run %s were not stopped", turn.run_id)
            return 0

    def look_for_stops(self) -> None:
        """Stop the turns of this worker that another was asked to stop. A chore."""
        if not self._active:
            return
        worker_id = self._opener.get_worker_id()
        with self._store.read() as db:
            found = runs.list_stop_requests(db, worker_id)
        self._cancel(found)

    def drain(self) -> None:
        """Give turns to other workers at their next step, and take none of others.

        New ones are still taken: they come over connections that were open before.
        """
        self._draining = True
        self._handover.begin()

    def give_up_all(self) -> bool:
        """Take no new turns, and let other workers, or the next start, go on with those here.

        Turns that nobody could go on with end: what they said is stored.

        :returns: Whether another worker takes them now.
        """
        self._draining = self._closing = True
        self._handover.give_up(list(self._active.values()))
        return self._handover.has_heir()

    def leave(self) -> None:
        """Have all streams end: their clients resume elsewhere."""
        self._leaving = True

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until no turn is left. Returns whether that is so."""
        return self._idle.wait(timeout_s)

    def _run(self, turn: OpenTurn) -> None:
        traced = {"trace_id": turn.span.trace_id} if self._tracing.on else {}
        set_log_fields(session=turn.session.session_id, run=turn.run_id, **traced)
        set_current_span(turn.span)
        try:
            if turn.ahead:
                began = time.monotonic()
                if not self._wait_for_place(turn):
                    return
                self._metrics.note_run(turn.run_id, "running")
                self._metrics.note_queue_wait(time.monotonic() - began)
                turn.span.add_event("astrbot.run.started")
            answer = Answer(self._means, turn)
            _write(turn, answer, answer.observe)
        except RunCancelled as error:
            if not turn.log.lost:
                _write(turn, Answer(self._means, turn).end_unbegun(error.reason))
        except RunLost:
            if not turn.log.lost:
                self._drop(turn, Outcome("interrupted", "run_interrupted", LOST))
        except Exception:
            log.exception("run %s ended unforeseen", turn.run_id)
            message = f"The server failed; its log has the details under run {turn.run_id}."
            self._drop(turn, Outcome("failed", "internal_error", message))
        finally:
            self._close(turn)

    def _drop(self, turn: OpenTurn, outcome: Outcome) -> None:
        """End a turn that has no reply."""
        _write(turn, self._outcomes.finish(turn, outcome))

    def _close(self, turn: OpenTurn) -> None:
        turn.log.close()
        turn.span.end()
        self._forget(turn)

    def _begin_span(self, turn: OpenTurn, traceparent: str | None = None) -> Span:
        return self._tracing.begin(
            f"invoke_agent {turn.config.id}",
            "INTERNAL",
            {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": turn.config.id,
                # Its name may be a person's.
                "gen_ai.conversation.id": hash_name(turn.session.session_id),
                "astrbot.run.id": turn.run_id,
                "astrbot.config.id": turn.config.id,
                "astrbot.platform": turn.request.platform,
            },
            headers={"traceparent": traceparent} if traceparent else None,
        )

    def _wait_for_place(self, turn: OpenTurn) -> bool:
        """Wait until no earlier turn of the session is left.

        :returns: False: the turn was given up, as this worker stops.
        :raises RunCancelled: when the turn is cancelled while it waits.
        """
        session, woken = turn.session.id, threading.Event()
        with self._lock:
            self._waiting[session].add(woken)
        try:
            with turn.cancel.on_cancel(woken.set):
                while not self._may_begin(turn, woken):
                    if self._handover.try_at_rest(turn):
                        return False
                    woken.wait(_POLL_S)
                return True
        except StoreClosed:
            turn.log.lose()  # it has no end here: the next start goes on with it
            return False
        finally:
            with self._lock:
                self._waiting[session].discard(woken)
                if not self._waiting[session]:
                    del self._waiting[session]

    def _may_begin(self, turn: OpenTurn, woken: threading.Event) -> bool:
        """Look whether a turn's place has come, and take it.

        While the database is away a turn waits on.

        :raises RunCancelled: when the turn is cancelled.
        :raises RunLost: when another worker has ended it.
        """
        woken.clear()
        turn.cancel.raise_if_cancelled()
        try:
            with self._store.read() as db:
                if runs.has_earlier_run(db, turn.session.id, turn.number):
                    return False
            number, worker_id = turn.number, turn.worker_id
            if not self._store.write(lambda db: runs.start_run(db, number, worker_id)):
                raise RunLost
        except StoreClosed:
            raise
        except StorageError as error:
            log.warning("run %s waits for the database: %s", turn.run_id, error)
            return False
        return True

    def knows(self, run: RunRow) -> bool:
        """Return whether a run is running, or waiting, in this worker."""
        return run.run_id in self._active

    def _cancel(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            turn = self._active.get(run_id)
            if turn is not None:
                turn.cancel.cancel("stopped")

    def _forget(self, turn: OpenTurn) -> None:
        with self._lock:
            if self._active.get(turn.run_id) is turn:  # not one that was picked up meanwhile
                del self._active[turn.run_id]
                self._metrics.note_run(turn.run_id, "")
            for woken in self._waiting.get(turn.session.id, ()):
                woken.set()
            if not self._active:
                self._idle.set()


def _write(
    turn: OpenTurn, said: Iterable[Event], observe: Callable[[Event], None] | None = None
) -> None:
    """Put events into a turn's log. Nothing else of this package does.

    :param observe: Called with each event that was put there.
    """
    for event in said:
        turn.log.append(event)
        if observe is not None:
            observe(event)


def _busy(message: str) -> ApiError:
    return ApiError("server_busy", message, headers={"Retry-After": "5"})

"""Recover the runs of dead workers: resume them, or end them with their partial reply."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from ...db import leases, messages, run_workers, runs
from ...db.runs import RunRow
from ...db.store import Store
from ...errors import EVENT_CODES, AstrBotError
from ...events import CLOSING, Event, decode_event
from ...runlog.journal import Journal, iter_slices
from ...runlog.reading import Followers
from ...runtime.clock import now_us
from ...runtime.metrics import Metrics
from ...worker.lease import WorkerLease
from ..turns.ending import EndingRun, Outcomes, list_last_events
from ..turns.fold import fold_events
from ..turns.outcome import Outcome, RunLost
from .replay import list_closing_events, list_opening_events, list_part_events

log = logging.getLogger(__name__)

CODE = "run_interrupted"

#: Maximum number of runs in one call, which repeats every few seconds.
_AT_ONCE = 500

#: Seconds that a run may belong to this worker in the database while the worker does not know it.
_UNKNOWN_S = 8.0

#: Age limit in seconds of a dead worker's finished runs that are checked. Their last events may not
#: have reached the journal.
_LOOK_BACK_S = 120.0


class Recovery:
    """Recovers runs. All workers do this concurrently.

    :param pick_up: Resumes a run, or returns its current row if the run must be ended.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        followers: Followers,
        outcomes: Outcomes,
        lease: WorkerLease,
        metrics: Metrics,
        pick_up: Callable[[RunRow], RunRow | None],
    ) -> None:
        self._pick_up = pick_up
        self._lease = lease
        # Monotonic time at which each unknown run of this worker was first seen.
        self._unknown_since: dict[int, float] = {}
        self._metrics = metrics
        self._outcomes = outcomes
        self._store = store
        self._journal = journal
        self._followers = followers

    def end_forgotten(self, is_known: Callable[[RunRow], bool]) -> None:
        """Resume or end runs that belong to this worker in the database, but are unknown to it.

        This happens if a run's opening was committed but the database's response was lost, or if
        this worker left the run while it could not reach the database. The run would block its
        session as long as this worker lives. A run must be unknown twice, some seconds apart, since
        it is stored a moment before the worker knows it.

        :param is_known: Returns whether this worker runs it, or still has to store its end.
        """
        worker_id, now = self._lease.current_id, time.monotonic()
        if not worker_id:
            return
        with self._store.read() as db:
            active = run_workers.list_active_of(db, worker_id, _AT_ONCE)
        unknown = {run.id: run for run in active if not is_known(run)}
        self._unknown_since = {number: self._unknown_since.get(number, now) for number in unknown}
        for number, run in unknown.items():
            if now - self._unknown_since[number] >= _UNKNOWN_S:
                log.warning("run %s is this worker's, but does not run here", run.run_id)
                self._try(self._recover if self._has_begun(run) else self._interrupt, run)

    def _has_begun(self, run: RunRow) -> bool:
        """Return whether a run has events. Otherwise its client got an error and asks again."""
        return bool(run.epoch or self._journal.read_after(run.id, 0, 1).events)

    def recover(self) -> None:
        """Resume or end a bounded number of dead workers' runs."""
        if not self._lease.can_declare_dead():
            return
        with self._store.read() as db:
            found = run_workers.list_orphans(db, _AT_ONCE)
            dead = [] if len(found) == _AT_ONCE else leases.list_dead_workers(db)
        orphans = [run for run in found if not self._lease.holds(run.worker_id)]
        dead = [worker_id for worker_id in dead if not self._lease.holds(worker_id)]
        for run in orphans:
            self._try(self._recover, run)
        for worker_id in dead:
            self._close_logs_of(worker_id)

    def close_log(self, run: RunRow) -> None:
        """Close the log of an ended run if it is still open.

        :raises StorageError: if the journal cannot store it.
        """
        with self._store.read() as db:
            reply = messages.find_message(db, run.session, run.bot_message or 0)
        events = [decode_event(line) for line in self._read_all(run.id)]
        seen = {event["type"] for event in events}
        last = [event for event in list_closing_events(run, reply) if event["type"] not in seen]
        late = [] if events else self._list_opening(run)
        if reply is not None and seen.isdisjoint(CLOSING):
            said = fold_events(events).to_parts()
            late += list_part_events(run.run_id, reply.content["message"], said)
            if not self._journal.take_over(run.id, run.epoch + 1, len(events), late):
                return  # its worker is alive and writes the last events
            late = []
        if self._journal.end_run(run.id, late + last):
            self._followers.notify(str(run.id))

    def recover_run(self, run_id: str) -> None:
        """Resume a suspended run. After a failure the periodic job tries again."""
        with self._store.read() as db:
            run = runs.find_run(db, run_id)
        if run is not None and run.status == "running" and not run.worker_id:
            self._try(self._recover, run)

    def _try(self, end: Callable[[RunRow], None], run: RunRow) -> bool:
        try:
            end(run)
        except AstrBotError as error:
            log.error("run %s could not be ended yet: %s", run.run_id, error)
            return False
        except Exception:
            # One unreadable run must not block the recovery of others.
            log.exception("run %s could not be ended", run.run_id)
            return False
        return True

    def _recover(self, run: RunRow) -> None:
        left = self._pick_up(run)
        if left is not None:
            self._interrupt(left)

    def _interrupt(self, run: RunRow) -> None:
        """End a run with the reply in its log, then close the log."""
        lines = self._read_all(run.id)
        opening = [] if lines else self._list_opening(run)
        ending, content = EndingRun.of_row(run), fold_events(map(decode_event, lines)).to_content()
        outcome = Outcome("interrupted", CODE, EVENT_CODES[CODE], content)
        if run.stop_requested_at is not None:
            outcome = Outcome("stopped", content=content)
        log.warning("run %s of worker %s is ended: %s", run.run_id, run.worker_id, outcome.status)
        try:
            saved = self._outcomes.store(ending, outcome, patient=False)
        except RunLost:
            log.info("run %s was ended by another worker", run.run_id)
            return
        self._metrics.note_end(outcome.status)
        self._journal.end_run(run.id, opening + list_last_events(ending, outcome, saved))
        # The lost worker may be alive and have written events until the log was closed.
        late = fold_events(map(decode_event, self._read_all(run.id))).to_content()
        if saved is not None and late != content:
            self._outcomes.replace_reply(saved[0], replace(outcome, content=late))
        self._followers.notify(str(run.id))

    def _list_opening(self, run: RunRow) -> list[Event]:
        """Return the opening events of a run without any events in the journal."""
        with self._store.read() as db:
            user = messages.find_message(db, run.session, run.user_message or 0)
        return list_opening_events(run, user)

    def _close_logs_of(self, worker_id: str) -> None:
        """Close the logs of runs that a dead worker finished without writing their last events."""
        after_us = now_us() - int(_LOOK_BACK_S * 1_000_000)
        with self._store.read() as db:
            finished = run_workers.list_finished_of(db, worker_id, after_us, 5000)
        done = [self._try(self._close_if_open, run) for run in finished]
        if all(done):
            self._store.write(lambda db: leases.forget_dead(db, worker_id))

    def _close_if_open(self, run: RunRow) -> None:
        if not self._journal.read_after(run.id, 2**31, 1).closed:
            self.close_log(run)

    def _read_all(self, run: int) -> list[bytes]:
        return [line for found in iter_slices(self._journal, run) for line in found.events]

"""Ends the runs of workers that died: what was said is stored, and the log closed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import peewee

from ... import events
from ...db import keyuse, messages, runs
from ...db.attachments import find_attachments, link_attachments
from ...db.runs import RunRow
from ...db.sessions import WEBCHAT
from ...db.store import Store
from ...deliveries.replies import queue_reply
from ...deliveries.webhooks import Announcer
from ...errors import EVENT_CODES, AstrBotError, StorageError
from ...runlog.journal import Journal
from ...runlog.signals.signals import RUN_EVENTS, Signals
from ...runtime.clock import now_us
from ...runtime.metrics import Metrics
from ...worker.lease import WorkerLease
from .replay import RebuiltReply, list_last_events, parse_frames

log = logging.getLogger(__name__)

CODE = "run_interrupted"

#: Runs that one call ends, most of them; it is called every few seconds.
_AT_ONCE = 500

#: How long a run of this worker may be in the database without being known, in seconds.
_STRANGE_S = 8.0

#: How far back the finished runs of a dead worker are looked at, in seconds:
#: its last events may not have reached the journal.
_LOOK_BACK_S = 120.0


class Recovery:
    """Recovers runs; every worker does, and none gets in another's way."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        signals: Signals,
        announcer: Announcer,
        lease: WorkerLease,
        metrics: Metrics,
    ) -> None:
        self._lease = lease
        # Since when this worker's runs are seen that it does not know, by the monotonic clock.
        self._strange: dict[int, float] = {}
        self._metrics = metrics
        self._announcer = announcer
        self._store = store
        self._journal = journal
        self._signals = signals

    def end_forgotten(self, is_known: Callable[[RunRow], bool]) -> None:
        """End runs that are this worker's by the database, and that it knows nothing of.

        So is one whose opening was committed, but the answer to the commit was
        lost: its session would wait for it as long as this worker lives. A
        run is looked at twice, some seconds apart, since it is stored a moment
        before it is known.

        :param is_known: Tells whether this worker runs it, or has yet to store its end.
        """
        worker_id, now = self._lease.current_id, time.monotonic()
        if not worker_id:
            return
        with self._store.read() as db:
            active = runs.list_active_of(db, worker_id, _AT_ONCE)
        strange = {run.id: run for run in active if not is_known(run)}
        self._strange = {number: self._strange.get(number, now) for number in strange}
        for number, run in strange.items():
            if now - self._strange[number] >= _STRANGE_S:
                log.warning("run %s was opened, but never begun; it is ended", run.run_id)
                self._try(self._interrupt, run)

    def recover(self) -> None:
        """End the runs of workers that have fallen silent, a bounded number of them."""
        if not self._lease.can_judge():
            return
        with self._store.read() as db:
            found = runs.list_orphans(db, _AT_ONCE)
            dead = [] if len(found) == _AT_ONCE else runs.list_dead_workers(db)
        orphans = [run for run in found if not self._lease.holds(run.worker_id)]
        dead = [worker_id for worker_id in dead if not self._lease.holds(worker_id)]
        recovered = [run for run in orphans if self._try(self._interrupt, run)]
        if recovered:
            log.warning("ended %d runs of workers that died", len(recovered))
        for worker_id in dead:
            self._close_logs_of(worker_id)

    def close_log(self, run: RunRow) -> None:
        """Close the log of a run that has ended but whose log does not say so.

        :raises StorageError: when that cannot be kept.
        """
        with self._store.read() as db:
            reply = messages.find_message(db, run.session, run.bot_message or 0)
        seen = {event["type"] for event in parse_frames(self._read_all(run.id))}
        last = [event for event in list_last_events(run, reply) if event["type"] not in seen]
        if self._journal.end_run(run.id, last):
            self._signals.publish(RUN_EVENTS, str(run.id))

    def _try(self, end: Callable[[RunRow], None], run: RunRow) -> bool:
        try:
            end(run)
        except AstrBotError as error:
            log.error("run %s could not be ended yet: %s", run.run_id, error)
            return False
        except Exception:
            # One run that cannot be read must not keep the others from their end.
            log.exception("run %s could not be ended", run.run_id)
            return False
        return True

    def _interrupt(self, run: RunRow) -> None:
        """Close the log first: from then on the lost worker can add nothing to it."""
        message = EVENT_CODES[CODE]
        last = [events.error(run.run_id, CODE, message), events.end(run.run_id)]
        self._journal.end_run(run.id, last)
        reply = RebuiltReply(parse_frames(self._read_all(run.id)))
        content = reply.to_content() | {"error": {"code": CODE, "message": message}}

        def store(db: peewee.Database) -> None:
            bot_message, saved = None, None
            if reply.parts or run.started_at is not None:
                saved = messages.add_message(
                    db,
                    run.session,
                    run.platform_id or WEBCHAT,
                    messages.BOT,
                    content,
                    run.llm_checkpoint_id,
                )
                bot_message = saved[0]
                files = find_attachments(db, reply.attachment_ids)
                link_attachments(db, bot_message, [file.id for file in files.values()])
            if not runs.finish_run(
                db, run.id, "interrupted", error_code=CODE, bot_message=bot_message
            ):
                raise _EndedElsewhere
            queue_reply(db, run.run_id, content)
            self._announce(db, run, content, saved)
            keyuse.add_lost_turn(db, run.key_id)

        try:
            self._store.write(store)
            self._metrics.note_end("interrupted")
        except _EndedElsewhere:
            log.info("run %s was ended by another worker", run.run_id)
        self._signals.publish(RUN_EVENTS, str(run.id))

    def _announce(
        self,
        db: peewee.Database,
        run: RunRow,
        content: Mapping[str, Any],
        saved: tuple[int, int] | None,
    ) -> None:
        if saved is not None:
            self._announcer.message_stored(
                db, session_id=run.session_id, platform_id=run.platform_id or WEBCHAT,
                sender=messages.BOT, saved=saved, content=content,
            )  # fmt: skip
        self._announcer.run_ended(
            db, run_id=run.run_id, session_id=run.session_id, status="interrupted",
            error_code=CODE, message_id=saved[0] if saved else None,
        )  # fmt: skip

    def _close_logs_of(self, worker_id: str) -> None:
        """Close what a dead worker finished but could not say."""
        after_us = now_us() - int(_LOOK_BACK_S * 1_000_000)
        with self._store.read() as db:
            finished = runs.list_finished_of(db, worker_id, after_us, 5000)
        done = [self._try(self._close_if_open, run) for run in finished]
        if all(done):
            self._store.write(lambda db: runs.drop_lease(db, worker_id))

    def _close_if_open(self, run: RunRow) -> None:
        if not self._journal.read_after(run.id, 2**31, 1).closed:
            self.close_log(run)

    def _read_all(self, run: int) -> list[str]:
        frames: list[str] = []
        while True:
            found = self._journal.read_after(run, len(frames))
            frames += found.frames
            if found.closed or not found.frames:
                return frames
            time.sleep(0)  # a long run must not hold up the others


def prune_journal(journal: Journal, keep_s: float) -> None:
    """Forget the events of runs that ended so many seconds ago. A chore."""
    while journal.prune(now_us() - int(keep_s * 1_000_000)):
        time.sleep(0)


class _EndedElsewhere(StorageError):
    """The run has an end already."""

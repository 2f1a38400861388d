"""Store the end of a run in one transaction, and yield its last events.

A worker ends its own runs here, whether they completed, stopped, failed or never began. Recovery
uses the same code for the runs of a dead worker.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import peewee

from ... import events
from ...db import key_usage, messages, runs
from ...db.attachment_uses import link_attachments
from ...db.attachments import find_attachments
from ...db.keys import find_root
from ...db.runs import RunRow
from ...db.sessions import WEBCHAT, name_session
from ...db.store import Store, is_cut_off
from ...deliveries.replies import queue_reply
from ...deliveries.webhooks import Announcer
from ...errors import StorageError
from ...events import Event
from ...messages import plain_text
from ...runtime.clock import to_iso
from ...runtime.metrics import Metrics
from .outcome import LOST, Outcome, RunLost, describe_lost_reply, read_outcome
from .turn import OpenTurn

log = logging.getLogger(__name__)

#: Maximum number of ends that are kept while the database is unavailable.
_MAX_UNSTORED = 1000


@dataclass(frozen=True, slots=True)
class EndingRun:
    """A run, as far as ending it requires.

    :param worker_id: The owning worker. No other worker can end the run.
    :param key_ids: Keys that count the turn. None looks up the run's key and its maker.
    :param counted: Tokens of input and output that they have counted.
    :param payer: The key whose quota counts the reply.
    :param kept: Whether the session is visible to users.
    :param answers_messenger: Whether a messenger may wait for the reply.
    :param replaces: Number of the answer to delete when the new answer is stored.
    """

    number: int
    run_id: str
    session: int
    session_id: str
    platform_id: str
    checkpoint: str | None
    key_id: str | None
    worker_id: str
    key_ids: frozenset[str] | None = None
    counted: tuple[int, int] = (0, 0)
    payer: str | None = None
    kept: bool = True
    answers_messenger: bool = True
    replaces: int | None = None
    traceparent: str | None = None

    @classmethod
    def of_turn(cls, turn: OpenTurn) -> EndingRun:
        """Create it from a turn of this worker."""
        request = turn.request
        return cls(
            number=turn.number,
            run_id=turn.run_id,
            session=turn.session.id,
            session_id=turn.session.session_id,
            platform_id=request.platform_id,
            checkpoint=turn.checkpoint,
            key_id=request.key_id,
            worker_id=turn.worker_id,
            key_ids=request.counting_keys,
            counted=turn.resumed.counted if turn.resumed else (0, 0),
            payer=request.payer,
            kept=request.kept,
            answers_messenger=request.origin is not None,
            replaces=turn.replaces,
            traceparent=turn.span.to_traceparent(),
        )

    @classmethod
    def of_row(cls, run: RunRow) -> EndingRun:
        """Create it from the row of a dead worker's run."""
        return cls(
            number=run.id,
            run_id=run.run_id,
            session=run.session,
            session_id=run.session_id,
            platform_id=run.platform_id or WEBCHAT,
            checkpoint=run.llm_checkpoint_id,
            key_id=run.key_id,
            worker_id=run.worker_id,
        )


class Outcomes:
    """Ends runs.

    An end that cannot be stored (full disk, locked database) is kept in memory, and
    :meth:`retry` stores it later. Without its end, a run would block its session forever.

    :param wake_outbox: Called after a reply to a messenger is stored, to wake its sender.
    """

    def __init__(
        self,
        store: Store,
        announcer: Announcer,
        metrics: Metrics,
        wake_outbox: Callable[[], None],
    ) -> None:
        self._store = store
        self._announcer = announcer
        self._metrics = metrics
        self._wake_outbox = wake_outbox
        self._lock = threading.Lock()
        self._unstored: dict[int, tuple[EndingRun, Outcome]] = {}

    def finish(self, turn: OpenTurn, outcome: Outcome) -> Generator[Event, None, Outcome]:
        """Store the end of a turn of this worker; yield its last events.

        :returns: The stored outcome, a failure if the reply could not be stored.
        """
        run, saved = EndingRun.of_turn(turn), None
        try:
            # A failed write has waited already.
            saved = self.store(run, outcome, patient=outcome.code != "storage_error")
        except StorageError as error:
            leaves = is_cut_off(self._store)
            if not outcome.code and not leaves:
                failure = outcome.fail("failed", "storage_error", describe_lost_reply(error))
                return (yield from self.finish(turn, failure))
            log.error("the end of run %s is not stored yet", turn.run_id)
            if len(self._unstored) < _MAX_UNSTORED:
                self._unstored[run.number] = run, outcome
            if leaves:  # streams resume where PostgreSQL can be reached, and show the stored end
                turn.log.mark_lost()
                return outcome.fail("interrupted", "run_interrupted", LOST)
        except RunLost:
            return (yield from self._leave(turn, outcome))
        self._metrics.note_end(outcome.status, (outcome.content or {}).get("agent_stats"))
        turn.span.note({"astrbot.run.status": outcome.status})
        if outcome.code:
            turn.span.fail(outcome.code)
        yield from list_last_events(run, outcome, saved, streaming=turn.request.streaming)
        return outcome

    def store(
        self, run: EndingRun, outcome: Outcome, *, patient: bool = True
    ) -> tuple[int, int] | None:
        """Store the end of a run in one transaction.

        :param patient: Wait for a locked or unreachable database.
        :returns: Number and time of the bot's message, or None without a message.
        :raises StorageError: if the database cannot store it.
        :raises RunLost: if the run has already ended. Nothing is stored.
        """
        saved = self._store.write(
            lambda db: self._store_end(db, run, outcome), patient=patient, quick=True
        )
        if run.answers_messenger:
            self._wake_outbox()
        return saved

    def replace_reply(self, message_id: int, outcome: Outcome) -> None:
        """Replace the stored message of an ended run.

        :raises StorageError: if the database cannot store it.
        """

        def write(db: peewee.Database) -> None:
            content = outcome.to_content() or {}
            messages.replace_content(db, message_id, content)
            link_attachments(db, message_id, _find_files(db, content))

        self._store.write(write)

    def keeps(self, run: int) -> bool:
        """Return whether the end of the run with this number still waits to be stored."""
        return run in self._unstored

    def retry(self) -> None:
        """Store ends that could not be stored before. Runs periodically."""
        with self._lock:  # one at a time, so that no end is stored twice
            for number, ended in list(self._unstored.items()):
                try:
                    self.store(*ended, patient=False)
                except StorageError:
                    return
                except RunLost:
                    log.info("another worker has stored the reply")
                del self._unstored[number]

    def _leave(self, turn: OpenTurn, outcome: Outcome) -> Generator[Event, None, Outcome]:
        """Leave a run whose end another worker has stored or will store."""
        lost = outcome if outcome.code else outcome.fail("interrupted", "run_interrupted", LOST)
        run = reply = None
        try:
            with self._store.read() as db:
                run = runs.find_run(db, turn.run_id)
                if run is not None and run.bot_message is not None:
                    reply = messages.find_message(db, run.session, run.bot_message)
        except StorageError as error:
            log.warning("the end of run %s cannot be read: %s", turn.run_id, error)
        if run is not None and run.active:
            log.warning("run %s was taken over by worker %s", turn.run_id, run.worker_id)
            turn.log.mark_lost()
            return lost
        log.warning("the end of run %s was stored already", turn.run_id)
        ended = (lost, None) if run is None else read_outcome(run, reply)
        last = list_last_events(EndingRun.of_turn(turn), *ended, streaming=turn.request.streaming)
        yield from last
        return lost

    def _store_end(
        self, db: peewee.Database, run: EndingRun, outcome: Outcome
    ) -> tuple[int, int] | None:
        content, code = outcome.to_content(), outcome.code or None
        saved, payer = None, run.payer or find_root(db, run.key_id)
        if content is not None:
            saved = messages.add_message(
                db, run.session, run.platform_id, messages.BOT, content, run.checkpoint,
                steps=outcome.steps, payer=payer, attachments=_find_files(db, content),
            )  # fmt: skip
            if run.replaces is not None and code is None:
                # A failed attempt keeps the earlier answer.
                messages.replace_answer(db, run.replaces, saved[0])
        if outcome.title:
            name_session(db, run.session, outcome.title)
        message_id = saved[0] if saved else None
        has_asked = runs.finish_run(
            db, run.number, outcome.status, worker_id=run.worker_id, error_code=code,
            bot_message=message_id,
        )  # fmt: skip
        if has_asked is None:
            raise RunLost  # rolls the message back, since another worker stored the reply
        if run.answers_messenger and content:
            queue_reply(db, run.run_id, content, run.traceparent)
        if saved is not None and content is not None and run.kept:
            self._announcer.message_stored(
                db, session_id=run.session_id, platform_id=run.platform_id, saved=saved,
                sender=messages.BOT, content=content, payer=payer, traceparent=run.traceparent,
            )  # fmt: skip
        self._announcer.queue(
            db, "run_ended", payer=payer, run_id=run.run_id, session_id=run.session_id,
            status=outcome.status, error_code=code, message_id=message_id,
            traceparent=run.traceparent,
        )  # fmt: skip
        turns = 0 if has_asked else 1  # counted when it began to wait
        if run.key_ids is None:
            key_usage.add_lost_turn(db, run.key_id, turns=turns)
        else:
            stats = (content or {}).get("agent_stats")  # commands have none
            key_usage.add_turn(
                db, run.key_ids, stats, turns=turns, counted=run.counted, failed=code is not None
            )
        return saved


def list_last_events(
    run: EndingRun, outcome: Outcome, saved: tuple[int, int] | None, *, streaming: bool = True
) -> list[Event]:
    """Return the events that close a run.

    :param saved: Number and time of the bot's message.
    """
    content, last = outcome.content, list[Event]()
    if outcome.code:
        last.append(
            events.error(
                run.run_id, outcome.code, outcome.message,
                reason=outcome.reason, retry_after_s=outcome.retry_after_s,
            )
        )  # fmt: skip
    elif content is None or saved is None:
        return [events.end(run.run_id)]
    text = plain_text((content or {}).get("message", []))
    reasoning = (content or {}).get("reasoning", "")
    if outcome.direct and not outcome.code:
        last += events.plain_pieces(run.run_id, text, streaming=False)
    else:
        if content and "agent_stats" in content and not outcome.code:
            last.append(events.agent_stats(content["agent_stats"]))
        # Many clients ignore `error` events and show only this text.
        shown = text or outcome.message
        if outcome.code and not text and not streaming:
            # Without streaming, AstrBot says everything in `plain` and sends no `complete`.
            last += events.plain_pieces(run.run_id, shown, streaming=False)
        finish_reason = ((content or {}).get("agent_stats") or {}).get("finish_reason", "")
        last.append(
            events.complete(
                run.run_id, shown, reasoning, streaming=streaming, finish_reason=finish_reason
            )
        )
    if saved is not None:
        last.append(events.message_saved(saved[0], to_iso(saved[1]), run.checkpoint or ""))
    return [*last, events.end(run.run_id)]


def _find_files(db: peewee.Database, content: Mapping[str, Any]) -> list[int]:
    """Return the numbers of a message's attachments."""
    ids = [part["attachment_id"] for part in content["message"] if "attachment_id" in part]
    return [file.id for file in find_attachments(db, ids).values()] if ids else []

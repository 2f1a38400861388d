"""How a turn ends: its reply is stored, then its stream told so and closed."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import peewee

from ... import events
from ...agent.provider import Provider
from ...db import keyuse, messages, runs
from ...db.attachments import link_attachments
from ...db.store import Store
from ...deliveries.replies import queue_reply
from ...deliveries.webhooks import Announcer
from ...errors import EVENT_CODES, AstrBotError, OutcomeUnknown, StorageError
from ...runtime.clock import to_iso
from ...runtime.metrics import Metrics
from .reply import Reply
from .titles import TitleRequest, TitleWriter
from .turn import OpenTurn

log = logging.getLogger(__name__)

LOST = "This worker was silent for too long; another has ended the turn."
_INTERRUPTED = "The server stopped before the turn had ended. What was said is kept."

#: Replies that wait for a database that takes none, most of them.
_MAX_UNSTORED = 1000

_Job = Callable[[peewee.Database], Any]


class RunLost(AstrBotError):
    """Another worker has ended the run: this one was silent for too long."""


def describe_lost_reply(error: StorageError) -> str:
    """Return what the caller of a turn is told whose reply could not be stored.

    The database's own words, that nothing was stored, are not true of a turn:
    the user's message was.
    """
    return str(error) if isinstance(error, OutcomeUnknown) else EVENT_CODES["storage_error"]


class TurnEnder:
    """Stores replies and closes turns.

    A reply that cannot be stored (a full disk, a locked database) is kept and
    tried again with :meth:`retry`; otherwise its session would never go on.

    :param wake_outbox: Called when a reply to a messenger is stored and is to be sent.
    """

    def __init__(
        self,
        store: Store,
        announcer: Announcer,
        metrics: Metrics,
        wake_outbox: Callable[[], None],
    ) -> None:
        self._announcer = announcer
        self._wake_outbox = wake_outbox
        self._store = store
        self._metrics = metrics
        self._titles = TitleWriter(store)
        self._lock = threading.Lock()
        # Each with the number of its run.
        self._unstored: deque[tuple[int, _Job]] = deque(maxlen=_MAX_UNSTORED)

    def complete(self, turn: OpenTurn, reply: Reply, status: str) -> None:
        """Store the whole reply and say so.

        :param status: ``completed`` or ``stopped``.
        :raises StorageError: when it could not be stored; nothing was said.
        :raises RunLost: when another worker has ended the run.
        """
        content = reply.to_content()
        saved = self._store.write(self._store_reply(turn, content, status, None, reply.attachments))
        self._tell_of_reply(turn)
        self._note_end(turn, status, content["agent_stats"])
        turn.say(events.agent_stats(content["agent_stats"]))
        streaming = turn.request.streaming
        turn.say(events.complete(turn.run_id, reply.text, reply.reasoning, streaming=streaming))
        self._say_saved(turn, saved)
        turn.say(events.end(turn.run_id))

    def answer_directly(self, turn: OpenTurn, text: str) -> None:
        """Answer with a text that is not the model's, and never shown to it.

        :raises StorageError: when it could not be stored; nothing was said.
        """
        content = {"type": "bot", "message": [{"type": "plain", "text": text}]}
        saved = self._store.write(self._store_reply(turn, content, "completed"))
        self._tell_of_reply(turn)
        self._note_end(turn, "completed")
        for event in events.plain_pieces(turn.run_id, text, streaming=False):
            turn.say(event)
        self._say_saved(turn, saved)
        turn.say(events.end(turn.run_id))

    def end_cancelled(self, turn: OpenTurn, reply: Reply, reason: str) -> None:
        """End a turn that was stopped (its text stands) or cut off by the server's end."""
        if reason == "interrupted":
            self.fail(turn, reply, "interrupted", "run_interrupted", _INTERRUPTED)
            return
        for event in reply.finish():
            turn.say(event)
        try:
            self.complete(turn, reply, "stopped")
        except StorageError as error:
            self.fail(turn, reply, "failed", "storage_error", describe_lost_reply(error))
        except RunLost:
            self.fail(turn, reply, "interrupted", "run_interrupted", LOST)

    def fail(self, turn: OpenTurn, reply: Reply, status: str, code: str, message: str) -> None:
        """Store what was said, marked, and end the stream with the reason.

        :param status: ``failed`` or ``interrupted``.
        """
        for event in reply.finish():
            turn.say(event)
        content = reply.to_content() | {"error": {"code": code, "message": message}}
        job = self._store_reply(turn, content, status, code, reply.attachments)
        self._store_or_keep(turn, job)
        self._note_end(turn, status, content["agent_stats"], code)
        turn.say(events.error(turn.run_id, code, message))
        turn.say(events.end(turn.run_id))
        if turn.session.display_name is None:
            self._titles.request(TitleRequest(turn.session.id, turn.subject, None))

    def drop(self, turn: OpenTurn, status: str, code: str, message: str) -> None:
        """End a turn that has no reply: one that never ran, or failed past all care."""

        def job(db: peewee.Database) -> None:
            if not runs.finish_run(db, turn.number, status, error_code=code or None):
                raise RunLost
            _count_turn(db, turn, None, failed=bool(code))
            if code and turn.request.origin is not None:
                queue_reply(
                    db, turn.run_id, {"error": {"message": message}}, turn.span.to_traceparent()
                )
            self._announcer.run_ended(
                db, run_id=turn.run_id, session_id=turn.session.session_id, status=status,
                error_code=code or None, message_id=None,
                traceparent=turn.span.to_traceparent(),
            )  # fmt: skip

        self._store_or_keep(turn, job)
        self._note_end(turn, status, code=code)
        if code:
            turn.say(events.error(turn.run_id, code, message))
        turn.say(events.end(turn.run_id))

    def name_session(self, turn: OpenTurn, provider: Provider | None) -> None:
        """Have a session that has no name get one.

        :param provider: The model that may be asked; None: the first words do.
        """
        if turn.session.display_name is not None:
            return
        asked = provider if turn.config.agent.titles else None
        wanted = TitleRequest(turn.session.id, turn.subject, asked, turn.request.model)
        self._titles.request(wanted)

    def keeps(self, run: int) -> bool:
        """Tell whether the end of a run is still to be stored."""
        return any(number == run for number, _ in tuple(self._unstored))

    def retry(self) -> None:
        """Store what could not be stored before; what still cannot be stays."""
        with self._lock:  # one at a time: a job must not be stored twice
            while self._unstored:
                try:
                    self._store.write(self._unstored[0][1])
                except StorageError:
                    return
                except RunLost:
                    log.info("a reply was stored by another worker meanwhile")
                self._unstored.popleft()

    def _store_or_keep(self, turn: OpenTurn, job: _Job) -> None:
        try:
            self._store.write(job)
            self._tell_of_reply(turn)
        except RunLost:
            log.warning("run %s was ended by another worker", turn.run_id)
        except StorageError:
            log.error("the end of run %s is not stored yet", turn.run_id)
            self._unstored.append((turn.number, job))

    def _note_end(
        self, turn: OpenTurn, status: str, stats: dict[str, Any] | None = None, code: str = ""
    ) -> None:
        self._metrics.note_end(status, stats)
        turn.span.note({"astrbot.run.status": status})
        if code:
            turn.span.fail(code)

    def _tell_of_reply(self, turn: OpenTurn) -> None:
        if turn.request.origin is not None:
            self._wake_outbox()

    def _say_saved(self, turn: OpenTurn, saved: tuple[int, int]) -> None:
        number, time_us = saved
        turn.say(events.message_saved(number, to_iso(time_us), turn.checkpoint))

    def _store_reply(
        self,
        turn: OpenTurn,
        content: dict[str, Any],
        status: str,
        code: str | None = None,
        attachments: Sequence[int] = (),
    ) -> Callable[[peewee.Database], tuple[int, int]]:
        """Return the job that stores a reply and closes its run; it returns id and time."""

        def job(db: peewee.Database) -> tuple[int, int]:
            saved = messages.add_message(
                db,
                turn.session.id,
                turn.request.platform_id,
                messages.BOT,
                content,
                turn.checkpoint,
            )
            link_attachments(db, saved[0], attachments)
            if turn.replaces is not None and code is None:
                # An attempt that failed leaves the earlier answer where it is.
                messages.delete_message(db, turn.replaces)
            if not runs.finish_run(db, turn.number, status, error_code=code, bot_message=saved[0]):
                raise RunLost  # undoes the message: another worker has stored what was said
            if turn.request.origin is not None:
                queue_reply(db, turn.run_id, content, turn.span.to_traceparent())
            self._announce(db, turn, content, status, code, saved)
            _count_turn(db, turn, content.get("agent_stats"), failed=code is not None)
            return saved

        return job

    def _announce(
        self,
        db: peewee.Database,
        turn: OpenTurn,
        content: dict[str, Any],
        status: str,
        code: str | None,
        saved: tuple[int, int],
    ) -> None:
        session_id, traceparent = turn.session.session_id, turn.span.to_traceparent()
        if turn.request.kept:
            self._announcer.message_stored(
                db, session_id=session_id, platform_id=turn.request.platform_id,
                sender=messages.BOT, saved=saved, content=content, traceparent=traceparent,
            )  # fmt: skip
        self._announcer.run_ended(
            db, run_id=turn.run_id, session_id=session_id, status=status,
            error_code=code, message_id=saved[0], traceparent=traceparent,
        )  # fmt: skip


def _count_turn(
    db: peewee.Database, turn: OpenTurn, stats: dict[str, Any] | None, *, failed: bool
) -> None:
    """Add a turn to what its key did; a command has no stats."""
    usage = stats["token_usage"] if stats else {}
    guard = turn.request.guard
    for key_id in {turn.request.key_id or "", *([guard.root_id] if guard else [])}:
        keyuse.add_turn(
            db,
            key_id,
            failed=failed,
            input_tokens=usage.get("input_other", 0) + usage.get("input_cached", 0),
            output_tokens=usage.get("output", 0),
            turn_ms=int((stats["end_time"] - stats["start_time"]) * 1000) if stats else 0,
        )

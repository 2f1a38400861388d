"""Store a new turn in one short transaction, or refuse it and store nothing."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import peewee

from ...config.agents import AgentConfig, ProviderConfig
from ...config.files import DEFAULT_CONFIG_ID, ConfigFiles
from ...config.settings import Settings
from ...db import inbound, key_usage, messages, responses, runs, sessions
from ...db.attachments import AttachmentRow
from ...db.locks import lock_name
from ...db.removal import remove_session
from ...db.sessions import NOBODY, SessionRow
from ...db.store import Store
from ...deliveries.webhooks import Announcer
from ...errors import ApiError, AstrBotError
from ...idempotency import claim_turn
from ...keys.limits import check_turn
from ...keys.quotas import Quotas
from ...plugins.commands import asks_to_decide, asks_to_stop
from ...runlog.log import LogWriter, RunLog
from ...runtime.tracing import current_span
from ...worker.lease import WorkerLease
from ..context.thread import ThreadEntry
from .approvals import reject_waiting
from .choosing import choose_provider, refuse_model_fields
from .editing import LastTurn, find_earlier_media, find_last_turn, find_media
from .packing import pack_request
from .turn import OpenTurn, TurnRequest


class DuplicateEvent(AstrBotError):
    """Raised for a redelivered message that already has a turn."""


class LeftTurns(ApiError):
    """Raised for a turn that may begin after others have been stopped.

    :ivar run_ids: Those turns.
    """

    def __init__(self, run_ids: Sequence[str]) -> None:
        message = "a turn of this session is being stopped; try again later"
        super().__init__("session_busy", message, retry_after_s=2)
        self.run_ids = run_ids


class _Found(NamedTuple):
    """Session, config and message of a turn before anything is stored.

    :ivar name: Name of the session. ``session`` is None if the session is new.
    :ivar again: The turn to answer again.
    :ivar sent: Files of the message.
    """

    request: TurnRequest
    name: str
    session: SessionRow | None
    again: LastTurn | None
    sent: Sequence[AttachmentRow]
    config: AgentConfig
    provider: ProviderConfig
    checkpoint: str


class TurnOpener:
    """Opens turns. Every refusal of a turn happens here or earlier.

    :param own_agent: Whether an agent of the application answers instead of a model.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        configs: ConfigFiles,
        lease: WorkerLease,
        writer: LogWriter,
        announcer: Announcer,
        quotas: Quotas,
        *,
        own_agent: bool,
    ) -> None:
        self._quotas = quotas
        self._own_agent = own_agent
        self._settings = settings
        self._store = store
        self._configs = configs
        self._lease = lease
        self._writer = writer
        self._announcer = announcer

    def get_worker_id(self) -> str:
        """Return the id of this worker, which owns the runs."""
        return self._lease.get_worker_id()

    def open(self, request: TurnRequest) -> OpenTurn:
        """Store a turn, or refuse it and store nothing.

        :raises ApiError: for an unknown config, provider or model, a session of another user, or a
            session with too many waiting turns.
        :raises TurnExists: if an earlier request with the same key began the turn.
        :raises StorageError: if the database cannot store the turn.
        :raises DuplicateEvent: if the message was delivered before.
        :raises LeftTurns: if nothing but these turns prevents it.
        """
        chosen = self._configs.choose_config(request.config_id, request.config_name)
        if chosen is not None:
            choose_provider(chosen, request)
        worker_id, parent = self._lease.get_worker_id(), current_span().to_traceparent()
        return self._store.write(
            lambda db: self._store_opening(db, request, chosen, worker_id, parent), quick=True
        )

    def _store_opening(
        self,
        db: peewee.Database,
        request: TurnRequest,
        chosen: AgentConfig | None,
        worker_id: str,
        traceparent: str | None,
    ) -> OpenTurn:
        """Insert session, user message and run, in the only transaction of opening."""
        run_id = str(uuid.uuid4())
        if request.client_key is not None:
            claim_turn(db, request.client_key, run_id, worker_id)
        left = _list_left(db, request)
        self._check_key_limit(db, request, len(left))
        _note_origin(db, request, run_id)
        found = self._look_up(db, request, chosen, left)
        session = _enter_session(db, found)
        if found.session is not None and not asks_to_decide(found.request.text):
            reject_waiting(db, session.id, "the user sent a new message instead of deciding")
        saved = None
        if found.again is None and not found.request.skip_user_history:
            saved = self._store_user_message(db, session, found)
        turn = self._store_run(db, found, session, saved, run_id, worker_id, traceparent)
        self._check_queue(turn.request, turn.ahead - len(left))
        if turn.request.entry is not None:
            _store_entry(db, turn.request.entry, session.id, run_id)
            stored = replace(turn.request.entry, input_json="", request_json="")
            turn = replace(turn, request=replace(turn.request, entry=stored))  # frees its text
        if turn.request.kept:
            self._quotas.check_at_end(db, turn.request.payer)
        if left:
            raise LeftTurns(left)  # after every check: a refused message stops nothing
        return turn

    def _store_run(
        self,
        db: peewee.Database,
        found: _Found,
        session: SessionRow,
        saved: tuple[int, int] | None,
        run_id: str,
        worker_id: str,
        traceparent: str | None,
    ) -> OpenTurn:
        """Insert the run and return its turn.

        :param saved: Number and time of the user message, or None if it is not stored now.
        """
        request, again = found.request, found.again
        user_message = again.user.id if again else saved[0] if saved else None
        replaces = again.bot.id if again and again.bot else None
        if request.entry is not None:
            request = _find_previous(db, request, request.entry, session.id)
        packed = pack_request(
            request, found.config, stored=user_message is not None, replaces=replaces,
            traceparent=traceparent,
        )  # fmt: skip
        number, ahead = runs.add_run(
            db, run_id, session.id, key_id=request.key_id, worker_id=worker_id,
            user_message=user_message, checkpoint=found.checkpoint, request=packed,
            first=found.session is None,
            # The key may have been revoked since the request was checked.
            checks_key=request.key_id is not None and (not request.guard or request.guard.is_key),
        )  # fmt: skip
        turn = OpenTurn(
            run_id=run_id,
            checkpoint=found.checkpoint,
            request=request,
            config=found.config,
            provider=found.provider,
            session=session,
            number=number,
            ahead=ahead,
            user_message=user_message,
            user_message_at=saved[1] if saved else None,
            worker_id=worker_id,
            log=RunLog(number, self._writer),
            sent=found.sent,
            first=found.session is None,
            replaces=replaces,
        )
        if packed is None:
            turn.pinned.set()
        return turn

    def _look_up(
        self,
        db: peewee.Database,
        request: TurnRequest,
        chosen: AgentConfig | None,
        left: Sequence[str],
    ) -> _Found:
        """Find the session, config and message of a turn, and check permissions.

        :param chosen: The config that the request names, or None.
        :param left: Ids of turns that are stopped first.
        """
        name = request.session_id or str(uuid.uuid4())
        session = _find_session(db, name, request.creator)
        again = _find_again(db, request, session, left)
        if again is not None:
            request = replace(request, segments=again.segments)
        segments, sent = find_media(db, request.segments, stored=again is not None)
        if segments is not request.segments:
            request = replace(request, segments=segments)
        config = chosen or self._config_of(session)
        provider = choose_provider(config, request)
        if self._own_agent or config.upstream is not None:
            refuse_model_fields(request)
        if request.guard is not None:
            said = request.context.list_messages() if request.context else ()
            earlier = find_earlier_media(db, said)
            check_turn(
                db, request.guard, name, config.id, [*sent, *earlier],
                stops_turn=asks_to_stop(request.text), left=len(left),
            )  # fmt: skip
        checkpoint = (again and again.user.llm_checkpoint_id) or str(uuid.uuid4())
        return _Found(request, name, session, again, sent, config, provider, checkpoint)

    def _store_user_message(
        self, db: peewee.Database, session: SessionRow, found: _Found
    ) -> tuple[int, int]:
        """Return the number and the time of the turn's user message."""
        request = found.request
        content = {"type": "user", "message": [one.to_wire() for one in request.segments]}
        saved = messages.add_message(
            db, session.id, request.platform_id, request.username, content, found.checkpoint,
            sender_name=request.sender_name, payer=request.payer,
            attachments=[row.id for row in found.sent],
        )  # fmt: skip
        if request.kept:
            self._announcer.message_stored(
                db, session_id=session.session_id, platform_id=request.platform_id, saved=saved,
                sender=request.username, sender_name=request.sender_name, content=content,
                payer=request.payer,
            )  # fmt: skip
        return saved

    def _check_queue(self, request: TurnRequest, ahead: int) -> None:
        # A full queue must still accept a stop command.
        limit = self._settings.max_turns_per_session * (2 if asks_to_stop(request.text) else 1)
        if ahead >= limit:
            raise _too_many(f"{ahead} turns of this session")

    def _check_key_limit(self, db: peewee.Database, request: TurnRequest, left: int) -> None:
        limit, payer = self._settings.max_runs_per_key, request.payer
        if not limit or not payer:
            return
        lock_name(db, "key_runs", payer)
        # One more stop command, for the last of the running turns.
        if key_usage.count_active_turns(db, payer) - left >= limit + asks_to_stop(request.text):
            raise _too_many(f"{limit} turns of this API key")

    def _config_of(self, session: SessionRow | None) -> AgentConfig:
        """Return the config that a session last used, or the default if it no longer exists."""
        if session is not None and session.config_id:
            found = self._configs.find_config(session.config_id)
            if found is not None:
                return found
        return self._configs.get_default()


def _find_session(db: peewee.Database, name: str, creator: str) -> SessionRow | None:
    """Return the creator's session with this name, or None if it is new."""
    # Lock before the first read, so that concurrent turns of a session are ordered.
    lock_name(db, "session", name)
    session = sessions.find_session(db, name)
    if session is not None and session.creator == NOBODY:
        session = sessions.claim_session(db, session, creator)
    if session is not None:
        sessions.check_owner(session, creator)
    return session


def _enter_session(db: peewee.Database, found: _Found) -> SessionRow:
    """Create a new session, or update the time and config of an existing one."""
    request, session = found.request, found.session
    config_id = None if found.config.id == DEFAULT_CONFIG_ID else found.config.id
    if session is None:
        session = sessions.create_session(
            db, found.name, request.creator, platform_id=request.platform_id,
            config_id=config_id, is_group=bool(request.origin and request.origin.is_group),
            key_id=request.payer,
        )  # fmt: skip
    else:
        sessions.touch_session(db, session, config_id)
    if request.kept:
        return session
    # Delete in the same transaction, so that a crash leaves no trace of the session.
    remove_session(db, session)
    return replace(session, display_name="")  # a hidden session needs no title


def _list_left(db: peewee.Database, request: TurnRequest) -> list[str]:
    """Return the turns to stop before another one begins.

    These are the active ones of its key if their client left them. A turn that waits for a person
    continues beside a new message, but is stopped if the message is answered again.
    """
    again = request.answers_again is not None
    if not request.stops_left and not again:
        return []
    session = sessions.find_session(db, request.session_id)
    if session is None or session.creator != request.creator:
        return []
    left = []
    if request.stops_left:
        left = runs.list_active_ids(db, session.id, request.key_id, waiting=False)
    if again:
        running = runs.list_active_ids(db, session.id, waiting=False)
        left += [one for one in runs.list_active_ids(db, session.id) if one not in running]
    return left


def _find_again(
    db: peewee.Database, request: TurnRequest, session: SessionRow | None, left: Sequence[str]
) -> LastTurn | None:
    """Return the turn to answer again, or None for a new message."""
    if request.answers_again is None:
        return None
    if session is None:
        raise ApiError("session_not_found", f"session not found: {request.session_id}")
    return find_last_turn(db, session, request.answers_again, left)


def _too_many(turns: str) -> ApiError:
    message = f"{turns} are running or waiting; wait for them first"
    return ApiError("too_many_turns", message, retry_after_s=5)


def _find_previous(
    db: peewee.Database, request: TurnRequest, entry: ThreadEntry, session: int
) -> TurnRequest:
    """Return the request of a response, completed with the turn that it follows."""
    previous = responses.find_newest(db, session) if entry.newest else entry.previous
    context = request.context and replace(request.context, previous=previous)
    return replace(request, context=context, entry=replace(entry, previous=previous))


def _store_entry(db: peewee.Database, entry: ThreadEntry, session: int, run_id: str) -> None:
    """Store the response of OpenAI's API that belongs to a turn."""
    responses.add_entry(
        db, entry_id=uuid.UUID(run_id).hex, session=session, key_id=entry.key_id, run_id=run_id,
        input_json=entry.input_json, request_json=entry.request_json, previous=entry.previous,
    )  # fmt: skip


def _note_origin(db: peewee.Database, request: TurnRequest, run_id: str) -> None:
    """Record which messenger message this turn answers.

    :raises DuplicateEvent: if the message already has a turn. Nothing is stored.
    """
    origin = request.origin
    if origin is not None and not inbound.add_event(
        db, origin.bot_id, origin.event_id,
        run_id=run_id, umo=origin.umo, reply_to=origin.reply_to,
    ):  # fmt: skip
        raise DuplicateEvent

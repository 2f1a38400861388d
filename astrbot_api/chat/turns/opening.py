"""How a turn begins: one short transaction, or a refusal that stores nothing."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import peewee

from ...config.agents import AgentConfig, ProviderConfig
from ...config.files import DEFAULT_CONFIG_ID, ConfigFiles
from ...config.settings import Settings
from ...db import inbound, keyuse, messages, responses, runs, sessions
from ...db.attachments import AttachmentRow, link_attachments
from ...db.locks import lock_name
from ...db.removal import remove_session
from ...db.sessions import NOBODY, SessionRow
from ...db.store import Store
from ...deliveries.webhooks import Announcer
from ...errors import ApiError, AstrBotError
from ...idempotency import claim_turn
from ...keys.limits import check_turn
from ...keys.quotas import Quotas
from ...runlog.log import RunLog, Sink
from ...runtime.tracing import current_span
from ...worker.lease import WorkerLease
from ..context.thread import ThreadEntry
from .commands import asks_to_decide, asks_to_stop
from .editing import LastTurn, find_earlier_media, find_last_turn, find_media
from .packing import pack_request
from .turn import OpenTurn, TurnRequest
from .waiting import reject_waiting


class DuplicateEvent(AstrBotError):
    """Raised for a redelivered message: its turn exists."""


class _Found(NamedTuple):
    """What a turn is about, before anything of it is stored.

    :ivar name: The session's; ``session`` is None when it is new.
    :ivar again: The turn that is answered once more.
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
    """Opens turns. Whatever can be refused is refused here or earlier.

    :param own_agent: Whether an agent of the application answers, not a model.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        configs: ConfigFiles,
        lease: WorkerLease,
        sink: Sink,
        announcer: Announcer,
        quotas: Quotas,
        *,
        own_agent: bool = False,
    ) -> None:
        self._quotas = quotas
        self._own_agent = own_agent
        self._settings = settings
        self._store = store
        self._configs = configs
        self._lease = lease
        self._sink = sink
        self._announcer = announcer

    def get_worker_id(self) -> str:
        """Return the id of this worker, whose runs the turns become."""
        return self._lease.get_worker_id()

    def open(self, request: TurnRequest) -> OpenTurn:
        """Store a turn, or refuse it and store nothing.

        :raises ApiError: for an unknown config, provider or model, a session
            of another user, or a session with too many turns waiting.
        :raises TurnExists: when it was begun before, under the same key.
        :raises StorageError: when nothing can be stored.
        :raises DuplicateEvent: when this message was delivered before.
        """
        chosen = self._configs.choose_config(request.config_id, request.config_name)
        if chosen is not None:
            choose_provider(chosen, request)
        worker_id, parent = self._lease.get_worker_id(), current_span().to_traceparent()
        return self._store.write(
            lambda db: self._store_opening(db, request, chosen, worker_id, parent)
        )

    def _store_opening(
        self,
        db: peewee.Database,
        request: TurnRequest,
        chosen: AgentConfig | None,
        worker_id: str,
        traceparent: str | None,
    ) -> OpenTurn:
        """Write session, user message and run; the one transaction of opening."""
        run_id = str(uuid.uuid4())
        if request.client_key is not None:
            claim_turn(db, request.client_key, run_id, worker_id)
        self._check_key_limit(db, request.payer)
        _note_origin(db, request, run_id)
        found = self._look_up(db, request, chosen)
        request, again = found.request, found.again
        session = _enter_session(db, found)
        if not asks_to_decide(request.text):
            reject_waiting(db, session.id, "the user went on without deciding")
        saved = None
        if again is None and not request.skip_user_history:
            saved = self._store_user_message(db, session, found)
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
        )  # fmt: skip
        self._check_queue(request, ahead)
        if request.entry is not None:
            _store_entry(db, request.entry, session.id, run_id)
        if request.kept:
            self._quotas.check_at_end(db, request.payer)
        pinned = threading.Event()
        if packed is None:
            pinned.set()
        return OpenTurn(
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
            log=RunLog(number, self._sink),
            sent=found.sent,
            replaces=replaces,
            pinned=pinned,
        )

    def _look_up(
        self, db: peewee.Database, request: TurnRequest, chosen: AgentConfig | None
    ) -> _Found:
        """Find what a turn is about, and refuse what may not be.

        :param chosen: The config that the request names; None: it names none.
        """
        name = request.session_id or str(uuid.uuid4())
        session = _find_session(db, name, request.creator)
        again = _find_again(db, request, session)
        if again is not None:
            request = replace(request, segments=again.segments)
        segments, sent = find_media(db, request.segments, stored=again is not None)
        if segments is not request.segments:
            request = replace(request, segments=segments)
        config = chosen or self._config_of(session)
        provider = choose_provider(config, request)
        if self._own_agent or config.upstream is not None:
            _refuse_model_fields(request)
        if request.guard is not None:
            earlier = find_earlier_media(db, request)
            check_turn(db, request.guard, name, config.id, [*sent, *earlier])
        checkpoint = (again and again.user.llm_checkpoint_id) or str(uuid.uuid4())
        return _Found(request, name, session, again, sent, config, provider, checkpoint)

    def _store_user_message(
        self, db: peewee.Database, session: SessionRow, found: _Found
    ) -> tuple[int, int]:
        """Return the number and the time of the message that begins the turn."""
        request = found.request
        content = {"type": "user", "message": [one.to_wire() for one in request.segments]}
        saved = messages.add_message(
            db, session.id, request.platform_id, request.username, content, found.checkpoint,
            sender_name=request.sender_name, payer=request.payer,
        )  # fmt: skip
        link_attachments(db, saved[0], [row.id for row in found.sent])
        if request.kept:
            self._announcer.message_stored(
                db, session_id=session.session_id, platform_id=request.platform_id, saved=saved,
                sender=request.username, sender_name=request.sender_name, content=content,
            )  # fmt: skip
        return saved

    def _check_queue(self, request: TurnRequest, ahead: int) -> None:
        # However full the queue is, it can be stopped.
        limit = self._settings.max_turns_per_session * (2 if asks_to_stop(request.text) else 1)
        if ahead >= limit:
            raise ApiError(
                "too_many_turns",
                f"{ahead} turns of this session are running or waiting; wait for them first",
                headers={"Retry-After": "5"},
            )

    def _check_key_limit(self, db: peewee.Database, payer: str | None) -> None:
        limit = self._settings.max_runs_per_key
        if limit and payer:
            lock_name(db, "key_runs", payer)
        if limit and payer and keyuse.count_active_turns(db, payer) >= limit:
            raise ApiError(
                "too_many_turns",
                f"{limit} turns of this API key are running or waiting; wait for them first",
                headers={"Retry-After": "5"},
            )

    def _config_of(self, session: SessionRow | None) -> AgentConfig:
        """Return the config a session was last used with; the default if it is gone."""
        if session is not None and session.config_id:
            found = self._configs.find_config(session.config_id)
            if found is not None:
                return found
        return self._configs.get_default()


def _find_session(db: peewee.Database, name: str, creator: str) -> SessionRow | None:
    """Return the session of a name, which is the creator's; None when it is new."""
    # Before the first look: of two turns of a session, one is the first.
    lock_name(db, "session", name)
    session = sessions.find_session(db, name)
    if session is not None and session.creator == NOBODY:
        session = sessions.claim_session(db, session, creator)
    if session is not None:
        sessions.check_owner(session, creator)
    return session


def _enter_session(db: peewee.Database, found: _Found) -> SessionRow:
    """Make the session when it is new, or note that it is used, and with which config."""
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
    # Gone before anybody saw it: a crash can leave nothing of it behind.
    remove_session(db, session)
    return replace(session, display_name="")  # it needs no title


def _find_again(
    db: peewee.Database, request: TurnRequest, session: SessionRow | None
) -> LastTurn | None:
    """Return the turn that is to be answered once more; None for a new one."""
    if request.answers_again is None:
        return None
    if session is None:
        raise ApiError("session_not_found", f"session not found: {request.session_id}")
    return find_last_turn(db, session, request.answers_again)


def choose_provider(config: AgentConfig, request: TurnRequest) -> ProviderConfig:
    """Return the provider of a turn: the one selected, else the config's own.

    :raises ApiError: ``provider_not_found``, or ``model_not_found`` when the
        provider lists its models and this is none of them. For a session key the provider's
        own model is the list where there is none.
    """
    provider = config.provider
    if config.upstream is not None:
        return provider  # AstrBot judges what it is asked for
    if request.provider_id:
        found = config.providers.get(request.provider_id)
        if found is None:
            raise ApiError(
                "provider_not_found", f"selected_provider not found: {request.provider_id}"
            )
        provider = found
    listed = provider.models
    if not listed and request.guard is not None and request.guard.key_id != request.guard.root_id:
        # A session key is for a program that nobody controls: what it costs is not its choice.
        listed = (provider.model,)
    if request.model and listed and request.model not in listed:
        raise ApiError("model_not_found", f"selected_model not found: {request.model}")
    return provider


def _refuse_model_fields(request: TurnRequest) -> None:
    """Refuse what only a model can do, where something else answers.

    :raises ApiError: ``invalid_request``.
    """
    if request.caller_tools:
        raise ApiError("invalid_request", "tools: this config answers without a model of its own")
    if "response_format" in request.model_fields:
        raise ApiError(
            "invalid_request", "response_format: this config answers without a model of its own"
        )


def _find_previous(
    db: peewee.Database, request: TurnRequest, entry: ThreadEntry, session: int
) -> TurnRequest:
    """Return the request of a response, which knows what it goes on from."""
    previous = responses.find_newest(db, session) if entry.newest else entry.previous
    context = request.context and replace(request.context, previous=previous)
    return replace(request, context=context, entry=replace(entry, previous=previous))


def _store_entry(db: peewee.Database, entry: ThreadEntry, session: int, run_id: str) -> None:
    """Store the response that a turn is."""
    responses.add_entry(
        db, entry_id=uuid.UUID(run_id).hex, session=session, key_id=entry.key_id, run_id=run_id,
        input_json=entry.input_json, request_json=entry.request_json, previous=entry.previous,
    )  # fmt: skip


def _note_origin(db: peewee.Database, request: TurnRequest, run_id: str) -> None:
    """Note which message of a messenger this turn answers.

    :raises DuplicateEvent: when it has a turn; nothing is stored.
    """
    origin = request.origin
    if origin is not None and not inbound.add_event(
        db, origin.bot_id, origin.event_id,
        run_id=run_id, umo=origin.umo, reply_to=origin.reply_to,
    ):  # fmt: skip
        raise DuplicateEvent

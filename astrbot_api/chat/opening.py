"""How a turn begins: one short transaction, or a refusal that stores nothing."""

from __future__ import annotations

import uuid
from dataclasses import replace

import peewee

from .. import events
from ..agentconfig import AgentConfig, ProviderConfig
from ..clock import to_iso
from ..config import Settings
from ..configfiles import DEFAULT_CONFIG_ID, ConfigFiles
from ..db import messages, runs, sessions
from ..db.attachments import AttachmentRow, find_attachments, link_attachments
from ..db.sessions import WEBCHAT, SessionRow
from ..db.store import Store
from ..errors import ApiError
from ..messages import Media, keep_found
from ..stream.log import RunLog
from .lease import WorkerLease
from .turn import OpenTurn, TurnRequest


class TurnOpener:
    """Opens turns. Whatever can be refused is refused here or earlier."""

    def __init__(
        self, settings: Settings, store: Store, configs: ConfigFiles, lease: WorkerLease
    ) -> None:
        self._settings = settings
        self._store = store
        self._configs = configs
        self._lease = lease

    def open(self, request: TurnRequest) -> OpenTurn:
        """Store a turn, or refuse it and store nothing.

        :raises ApiError: for an unknown config, provider or model, a session
            of another user, or a session with too many turns waiting.
        :raises StorageError: when nothing can be stored.
        """
        chosen = self._configs.choose_config(request.config_id, request.config_name)
        if chosen is not None:
            choose_provider(chosen, request)
        worker_id = self._lease.get_worker_id()
        return self._store.write(lambda db: self._store_opening(db, request, chosen, worker_id))

    def _store_opening(
        self,
        db: peewee.Database,
        request: TurnRequest,
        chosen: AgentConfig | None,
        worker_id: str,
    ) -> OpenTurn:
        """Write session, user message and run; the one transaction of opening."""
        checkpoint, run_id = str(uuid.uuid4()), str(uuid.uuid4())
        request, sent = _find_media(db, request)
        name = request.session_id or str(uuid.uuid4())
        session = sessions.find_session(db, name)
        if session is not None and session.creator != request.username:
            raise ApiError("session_of_another_user", "session_id belongs to another username")
        config = chosen or self._config_of(session)
        provider = choose_provider(config, request)
        config_id = None if config.id == DEFAULT_CONFIG_ID else config.id
        if session is None:
            session = sessions.create_session(db, name, request.username, config_id=config_id)
        else:
            sessions.touch_session(db, session, config_id)
        saved = None
        if not request.skip_user_history:
            content = {"type": "user", "message": [one.to_wire() for one in request.segments]}
            saved = messages.add_message(
                db, session.id, WEBCHAT, request.username, content, checkpoint
            )
            link_attachments(db, saved[0], [row.id for row in sent])
        number, ahead = runs.add_run(
            db,
            run_id,
            session.id,
            key_id=request.key_id,
            worker_id=worker_id,
            user_message=saved[0] if saved else None,
        )
        if ahead >= self._settings.max_turns_per_session:
            raise ApiError(
                "too_many_turns",
                f"{ahead} turns of this session are running or waiting; wait for them first",
                headers={"Retry-After": "5"},
            )
        log_ = RunLog(run_id)
        shown = request.shown_session_id if request.session_id else name
        log_.append(events.session_id(shown))
        if saved:
            log_.append(events.user_message_saved(saved[0], to_iso(saved[1]), checkpoint))
        log_.append(events.run_started(run_id))
        return OpenTurn(
            run_id=run_id,
            checkpoint=checkpoint,
            request=request,
            config=config,
            provider=provider,
            session=session,
            number=number,
            ahead=ahead,
            user_message=saved[0] if saved else None,
            log=log_,
            sent=sent,
        )

    def _config_of(self, session: SessionRow | None) -> AgentConfig:
        """Return the config a session was last used with; the default if it is gone."""
        if session is not None and session.config_id:
            found = self._configs.find_config(session.config_id)
            if found is not None:
                return found
        return self._configs.get_default()


def _find_media(
    db: peewee.Database, request: TurnRequest
) -> tuple[TurnRequest, list[AttachmentRow]]:
    """Find what a message sends along; what is not there is left out.

    :raises ApiError: ``message_empty`` when nothing is left to answer.
    """
    ids = [one.attachment_id for one in request.segments if isinstance(one, Media)]
    if not ids:
        return request, []
    rows = find_attachments(db, ids)
    found = {key: Media(key, row.type, row.name) for key, row in rows.items()}
    segments = keep_found(request.segments, found)
    return replace(request, segments=segments), list(rows.values())


def choose_provider(config: AgentConfig, request: TurnRequest) -> ProviderConfig:
    """Return the provider of a turn: the one selected, else the config's own.

    :raises ApiError: ``provider_not_found``, or ``model_not_found`` when the
        provider lists its models and this is none of them.
    """
    provider = config.provider
    if request.provider_id:
        found = config.providers.get(request.provider_id)
        if found is None:
            raise ApiError(
                "provider_not_found", f"selected_provider not found: {request.provider_id}"
            )
        provider = found
    if request.model and provider.models and request.model not in provider.models:
        raise ApiError("model_not_found", f"selected_model not found: {request.model}")
    return provider

"""One turn: open it, run it, finish it. The only service of chat.

Opening is one short transaction, and everything that can be refused is
refused there or earlier. Running happens in a thread of the server's own, so
a client that leaves changes nothing. Finishing stores the reply before the
client is told that it is complete.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import peewee

from .. import events
from ..agent.aside import CallTimedOut, TooManyAbandoned
from ..agent.cancel import Cancellation
from ..agent.loop import run_agent
from ..agent.provider import ModelOptions, Provider
from ..agent.tools import Tool, ToolContext
from ..attachments import Attachments
from ..clock import to_iso
from ..config import Settings
from ..configfiles import DEFAULT_CONFIG_ID, AgentConfig, ConfigFiles, ProviderConfig
from ..db import messages, runs, sessions
from ..db.attachments import AttachmentRow, find_attachments, link_attachments
from ..db.sessions import WEBCHAT, SessionRow
from ..db.store import Store
from ..errors import ApiError, ProviderError, RunCancelled, StorageError
from ..events import Event
from ..messages import Media, Plain, Segment, keep_found, plain_text
from ..plugins.context import Handled, TurnContext
from ..plugins.registry import Plugins
from ..providers.registry import Providers
from ..stream.log import RunLog
from .abilities import Abilities, ExtraTools, TurnAbilities, no_extra_tools
from .commands import Command, CommandContext, find_command
from .history import build_messages
from .lease import WorkerLease
from .media import MediaLimits, MediaReader
from .outbox import FileOutbox
from .persona import fill_prompt
from .reply import Reply
from .summary import Summariser
from .titles import TitleRequest, TitleWriter

log = logging.getLogger(__name__)

_INTERRUPTED = "The server stopped before the turn had ended. What was said is kept."


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """A chat request, checked field by field.

    :param session_id: Blank: a new session is made.
    :param shown_session_id: How the ``session_id`` event shows it: as sent.
    """

    username: str
    segments: Sequence[Segment]
    session_id: str = ""
    shown_session_id: str | int = ""
    streaming: bool = True
    config_id: str = ""
    config_name: str = ""
    provider_id: str = ""
    model: str = ""
    skip_user_history: bool = False
    key_id: str | None = None


@dataclass(slots=True)
class OpenTurn:
    """A turn that is stored and may run. ``number`` is its place in the queue."""

    run_id: str
    checkpoint: str
    request: TurnRequest
    config: AgentConfig
    provider: ProviderConfig
    session: SessionRow
    number: int
    ahead: int
    user_message: int | None
    log: RunLog
    sent: Sequence[AttachmentRow] = ()
    cancel: Cancellation = field(default_factory=Cancellation)
    observe: Callable[[Event], None] | None = None

    def say(self, event: Event) -> None:
        """Put an event into the stream, and show it to the plugins that look."""
        self.log.append(event)
        if self.observe is not None:
            self.observe(event)

    def to_context(self) -> TurnContext:
        """Return what the plugins may know of the turn."""
        return TurnContext(
            run_id=self.run_id,
            username=self.request.username,
            session_id=self.session.session_id,
            config_id=self.config.id,
            platform=WEBCHAT,
            cancel=self.cancel,
        )

    @property
    def text(self) -> str:
        """The text of the user's message."""
        return plain_text([segment.to_wire() for segment in self.request.segments])

    @property
    def subject(self) -> str:
        """What a title can be made of: the text, else the names of what was sent."""
        return self.text.strip() or ", ".join(row.name for row in self.sent)


class Turns:
    """Opens and runs turns with what an application gives it."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        configs: ConfigFiles,
        providers: Providers,
        lease: WorkerLease,
        tools: Sequence[Tool],
        commands: Mapping[str, Command],
        plugins: Plugins,
        attachments: Attachments,
        extra_tools: ExtraTools = no_extra_tools,
    ) -> None:
        self._settings = settings
        self._store = store
        self._configs = configs
        self._providers = providers
        self._lease = lease
        self._abilities = Abilities(
            tools=tools, commands=commands, plugins=plugins, extra_tools=extra_tools
        )
        self._attachments = attachments
        self._media = MediaReader(store, attachments)
        self._titles = TitleWriter(store)

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

    def run(self, turn: OpenTurn) -> None:
        """Answer a turn and store the answer. Never raises: failure is an event."""
        abilities = self._abilities.begin_turn(turn.config, turn.to_context())
        turn.observe = abilities.hooks.observer
        reply = Reply(
            turn.run_id,
            streaming=turn.request.streaming,
            show_reasoning=turn.config.agent.show_reasoning,
            max_chars=self._settings.max_reply_chars,
        )
        command, arguments = find_command(abilities.commands, turn.text)
        if command is not None:
            self._run_command(turn, reply, command, arguments, abilities)
            return
        try:
            text = abilities.hooks.rewrite_message(turn.text)
            if isinstance(text, Handled):
                self._answer_directly(turn, text.text)
                return
            provider = self._providers.get_provider(turn.provider)
            self._answer(turn, reply, provider, abilities, text)
        except RunCancelled as error:
            self._end_cancelled(turn, reply, error.reason)
        except ProviderError as error:
            self._fail(turn, reply, "failed", "provider_error", error.message)
        except StorageError as error:
            self._fail(turn, reply, "failed", "storage_error", str(error))
        except Exception:
            log.exception("run %s failed", turn.run_id)
            message = f"The server failed; its log has the details under run {turn.run_id}."
            self._fail(turn, reply, "failed", "internal_error", message)
        else:
            self._name_session(turn, provider)
            abilities.hooks.observe_reply(reply.text)

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

    def _answer(
        self,
        turn: OpenTurn,
        reply: Reply,
        provider: Provider,
        abilities: TurnAbilities,
        text: str,
    ) -> None:
        agent = turn.config.agent
        options = ModelOptions(cancel=turn.cancel, model=turn.request.model)
        summariser = None
        if agent.history == "summarise":
            summariser = Summariser(self._store, provider, options, agent.history_tokens)
        limits = MediaLimits(
            turn.provider.modalities, agent.file_tokens, self._settings.max_image_side_px
        )
        conversation = build_messages(
            self._store,
            session=turn.session.id,
            context_after=self._context_after(turn),
            own_message=turn.user_message,
            own_checkpoint=turn.checkpoint,
            segments=replace_text(turn.request.segments, text),
            render=lambda segments, quotes: self._media.render(segments, quotes, limits),
            system_prompt=fill_prompt(
                agent.system_prompt, username=turn.request.username, platform=WEBCHAT
            ),
            budget=agent.history_tokens,
            summariser=summariser,
        )
        outbox = FileOutbox(self._attachments, turn.request.key_id)
        context = ToolContext(
            turn.request.username,
            turn.session.session_id,
            turn.config.id,
            turn.cancel,
            attachments=tuple(map(self._media.to_tool_attachment, turn.sent)),
            send_file=outbox.send,
        )
        steps = run_agent(
            abilities.hook_provider(provider),
            conversation,
            abilities.make_toolbox(),
            context,
            options,
            max_steps=agent.max_steps,
        )
        for step in steps:
            self._show_files(turn, reply, outbox)
            for event in reply.take(step):
                turn.say(event)
        self._show_files(turn, reply, outbox)
        for event in reply.finish():
            turn.say(event)
        self._complete(turn, reply, "completed")

    def _show_files(self, turn: OpenTurn, reply: Reply, outbox: FileOutbox) -> None:
        for row in outbox.take_all():
            for event in reply.add_file(row):
                turn.say(event)

    def _context_after(self, turn: OpenTurn) -> int:
        """Return what ``/reset`` last left: an earlier turn may have run since opening."""
        if not turn.ahead:
            return turn.session.context_after
        with self._store.read() as db:
            session = sessions.find_session(db, turn.session.session_id)
        return session.context_after if session else turn.session.context_after

    def _complete(self, turn: OpenTurn, reply: Reply, status: str) -> None:
        content = reply.to_content()
        saved = self._store_reply(turn, content, status, attachments=reply.attachments)
        turn.say(events.agent_stats(content["agent_stats"]))
        streaming = turn.request.streaming
        turn.say(events.complete(turn.run_id, reply.text, reply.reasoning, streaming=streaming))
        self._say_saved(turn, saved)
        turn.say(events.end(turn.run_id))

    def _end_cancelled(self, turn: OpenTurn, reply: Reply, reason: str) -> None:
        """End a turn that was stopped (its text stands) or cut off by the server's end."""
        if reason == "interrupted":
            self._fail(turn, reply, "interrupted", "run_interrupted", _INTERRUPTED)
            return
        for event in reply.finish():
            turn.say(event)
        try:
            self._complete(turn, reply, "stopped")
        except StorageError as error:
            self._fail(turn, reply, "failed", "storage_error", str(error))

    def _fail(self, turn: OpenTurn, reply: Reply, status: str, code: str, message: str) -> None:
        """Store what was said, marked, and end the stream with the reason."""
        for event in reply.finish():
            turn.say(event)
        content = reply.to_content() | {"error": {"code": code, "message": message}}
        try:
            self._store_reply(turn, content, status, code, reply.attachments)
        except StorageError:
            log.error("the reply of run %s could not be stored", turn.run_id)
        turn.say(events.error(turn.run_id, code, message))
        turn.say(events.end(turn.run_id))
        if turn.session.display_name is None:
            self._titles.request(TitleRequest(turn.session.id, turn.subject, None))

    def _store_reply(
        self,
        turn: OpenTurn,
        content: dict[str, Any],
        status: str,
        code: str | None = None,
        attachments: Sequence[int] = (),
    ) -> tuple[int, int]:
        def job(db: peewee.Database) -> tuple[int, int]:
            saved = messages.add_message(
                db, turn.session.id, WEBCHAT, messages.BOT, content, turn.checkpoint
            )
            link_attachments(db, saved[0], attachments)
            runs.finish_run(db, turn.number, status, error_code=code, bot_message=saved[0])
            return saved

        return self._store.write(job)

    def _say_saved(self, turn: OpenTurn, saved: tuple[int, int]) -> None:
        number, time_us = saved
        turn.say(events.message_saved(number, to_iso(time_us), turn.checkpoint))

    def _run_command(
        self,
        turn: OpenTurn,
        reply: Reply,
        command: Command,
        arguments: str,
        abilities: TurnAbilities,
    ) -> None:
        context = CommandContext(
            store=self._store,
            session=turn.session,
            username=turn.request.username,
            message_number=turn.user_message,
            arguments=arguments,
            commands=abilities.commands,
            config_id=turn.config.id,
        )
        try:
            text = abilities.run_command(turn.to_context(), command, context)
            self._answer_directly(turn, text)
        except RunCancelled as error:
            self._end_cancelled(turn, reply, error.reason)
        except (CallTimedOut, TooManyAbandoned) as error:
            self._fail(turn, reply, "failed", "internal_error", str(error))
        except Exception:
            log.exception("command /%s failed in run %s", command.name, turn.run_id)
            message = f"The command /{command.name} failed; the server's log has the details."
            self._fail(turn, reply, "failed", "internal_error", message)

    def _answer_directly(self, turn: OpenTurn, text: str) -> None:
        """Answer with a text that is not the model's, and never shown to it."""
        content = {"type": "bot", "message": [{"type": "plain", "text": text}]}
        saved = self._store_reply(turn, content, "completed")
        for event in events.plain_pieces(turn.run_id, text, streaming=False):
            turn.say(event)
        self._say_saved(turn, saved)
        turn.say(events.end(turn.run_id))

    def _name_session(self, turn: OpenTurn, provider: Provider) -> None:
        if turn.session.display_name is not None:
            return
        asked = provider if turn.config.agent.titles else None
        wanted = TitleRequest(turn.session.id, turn.subject, asked, turn.request.model)
        self._titles.request(wanted)


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


def replace_text(segments: Sequence[Segment], text: str) -> Sequence[Segment]:
    """Return segments with another text; the same ones where it is the same."""
    if text == plain_text([one.to_wire() for one in segments]):
        return segments
    return [Plain(text), *(one for one in segments if not isinstance(one, Plain))]


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

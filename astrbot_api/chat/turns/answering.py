"""How a turn is answered: by a command, by a plugin, or by the model and its tools."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import peewee

from ...agent.aside import CallTimedOut, TooManyAbandoned
from ...agent.custom_agent import Agent, may_resume, run_own_agent
from ...agent.loop import (
    AgentEvent,
    ApprovalNeeded,
    Checkpoint,
    Resumption,
    ToolFinished,
    run_agent,
)
from ...agent.provider import MediaDelta, ModelMessage, ModelOptions, Provider
from ...agent.tools import ToolContext
from ...config.agents import ProviderConfig
from ...config.settings import Settings
from ...config.upstream import UpstreamConfig
from ...db import runs, sessions
from ...db.approvals import ApprovalRow
from ...db.attachments import AttachmentRow, find_attachments
from ...db.store import Store
from ...deliveries.webhooks import Announcer
from ...errors import ProviderError, RunCancelled, StorageError, ToolError
from ...events import Event
from ...files.attachments import Attachments
from ...keys.rules import NO_RULES
from ...messages import Plain, Segment, plain_text
from ...plugins.context import Handled
from ...providers.registry import Providers
from ...providers.traced import TracedProvider
from ...runtime.metrics import Metrics
from ...runtime.tracing import NO_SPAN
from ...upstream.asking import Question, Upstreams
from ..context.budget import cost
from ..context.history import build_messages, fill_prompt
from ..context.media import Content, MediaLimits, MediaReader
from ..context.summary import Summariser
from ..context.supplied import SuppliedContext, build_supplied, write_transcript
from ..context.thread import load_thread
from .abilities import Abilities, TurnAbilities
from .checkpoints import StepStore
from .commands import AskModel, Command, CommandContext, find_command
from .handover import Handover
from .outcome import Outcome, Outcomes, RunLost, describe_lost_reply
from .reply import Reply
from .sending import FileOutbox, Speaker
from .titles import TitleRequest, TitleWriter, first_words
from .turn import OpenTurn, Resumed
from .waiting import Waits, decide, describe_decision, split_run_id

log = logging.getLogger(__name__)

_INTERRUPTED = "The server stopped before the turn had ended. What was said is kept."

_NOT_BEGUN = "The server stopped before the turn had begun. Send it again."

#: Fields of a model's request that limit its answer.
_LENGTHS = ("max_tokens", "max_completion_tokens")


class _CommandFailed(Exception):
    """A command raised what it should not; its name is the message."""


@dataclass(frozen=True, slots=True)
class Means:
    """What an application answers its turns with.

    :param agent: Answers instead of a model.
    """

    settings: Settings
    store: Store
    providers: Providers
    abilities: Abilities
    attachments: Attachments
    media: MediaReader
    outcomes: Outcomes
    announcer: Announcer
    speaker: Speaker
    titles: TitleWriter
    upstreams: Upstreams
    handover: Handover
    metrics: Metrics
    agent: Agent | None = None


class Answer:
    """The answer to one turn. Iterate it: it yields every event, ``end`` last."""

    def __init__(self, means: Means, turn: OpenTurn) -> None:
        self._means = means
        self._turn = turn
        self._outbox = FileOutbox(
            means.attachments, turn.request.payer, turn.request.bound_username
        )
        self._provider: Provider | None = None
        self._steps = StepStore(means.store, turn)
        self._waits = Waits(means.settings, means.store, means.speaker, means.announcer, turn)
        #: Pictures that tools have sent and the model has not seen.
        self._pictures: list[AttachmentRow] = []
        #: Ids of those that it was shown since the last checkpoint, message by message.
        self._seen_pictures: list[list[str]] = []
        #: Ids of the calls of this step that have not answered.
        self._calls: set[str] = set()
        self._observer: Callable[[Event], None] | None = None
        self._observe_reply: Callable[[str], None] | None = None
        self._reply = Reply(
            turn.run_id,
            streaming=turn.request.streaming,
            show_reasoning=turn.config.agent.show_reasoning,
            max_chars=means.settings.max_reply_chars,
            count_events=turn.log.count_events,
        )

    def __iter__(self) -> Iterator[Event]:
        """Answer the turn. Failure is an event."""
        outcome: Outcome | None
        try:
            outcome = yield from self._run()
        except RunCancelled as error:
            outcome = self._end_cancelled(error.reason)
        except RunLost:
            outcome = self._end_cancelled("interrupted")
        except Exception as error:
            outcome = self._end_failed(error)
        if outcome is None or self._turn.log.lost:
            return  # it waits for a person, or goes on elsewhere
        yield from self._reply.finish()
        if not outcome.direct:
            outcome = replace(outcome, steps=self._reply.to_steps())
        outcome = self._give_title(outcome)
        outcome = yield from self._means.outcomes.finish(self._turn, outcome)
        self._ask_for_title(outcome)
        if self._observe_reply is not None and not outcome.code:
            self._observe_reply(self._reply.text)

    def observe(self, event: Event) -> None:
        """Show an event that is in the log to the plugins that observe the turn."""
        if self._observer is not None:
            self._observer(event)

    def end_unbegun(self, reason: str) -> Iterator[Event]:
        """End a turn that never came to run; yield its last events.

        :param reason: ``stopped`` or ``interrupted``.
        """
        outcome = self._end_cancelled(reason)
        if reason == "interrupted":
            outcome = Outcome(outcome.status, outcome.code, _NOT_BEGUN)
        return self._means.outcomes.finish(self._turn, outcome)

    def _end_cancelled(self, reason: str) -> Outcome:
        content = self._reply.to_content(stopped=True)
        if reason == "interrupted":
            return Outcome("interrupted", "run_interrupted", _INTERRUPTED, content)
        return Outcome("stopped", content=content)

    def _end_failed(self, error: Exception) -> Outcome:
        """Return the outcome of a failure; what was said until then is kept."""
        code, run_id = "internal_error", self._turn.run_id
        reason, retry_after_s = "", None
        if isinstance(error, ProviderError):
            code, message = error.code, error.message
            reason, retry_after_s = error.reason, error.retry_after_s
        elif isinstance(error, StorageError):
            code, message = "storage_error", describe_lost_reply(error)
        elif isinstance(error, (CallTimedOut, TooManyAbandoned)):
            message = str(error)
        elif isinstance(error, _CommandFailed):
            log.error("command /%s failed in run %s", error, run_id, exc_info=error)
            message = f"The command /{error} failed; the server's log has the details."
        else:
            log.error("run %s failed", run_id, exc_info=error)
            message = f"The server failed; its log has the details under run {run_id}."
        return Outcome(
            "failed", code, message, self._reply.to_content(),
            reason=reason, retry_after_s=retry_after_s,
        )  # fmt: skip

    def _run(self) -> Generator[Event, None, Outcome | None]:
        """Yield what is said; return the outcome; None: the run was put down, or given up."""
        turn = self._turn
        guard = turn.request.guard
        abilities = self._means.abilities.begin_turn(
            turn.config, turn.to_context(), guard.rules if guard else NO_RULES
        )
        self._observer = abilities.hooks.observer
        command, arguments = find_command(self._choose_commands(abilities), turn.text)
        resumed = turn.resumed
        if command is not None and resumed and resumed.begun and not command.resumable:
            return self._end_cancelled("interrupted")
        if not self._may_repeat(command):
            turn.pinned.set()
        said: str | AskModel | Handled
        if command is not None:
            said = self._run_command(command, arguments, abilities)
            if isinstance(said, str):
                return _answer_directly(said)
            text = said.text
            if not self._may_repeat(None):
                turn.pinned.set()
        else:
            said = abilities.hooks.rewrite_message(turn.text)
            if isinstance(said, Handled):
                return _answer_directly(said.text)
            text = said
        if self._means.agent is None and turn.config.upstream is None:
            self._provider = self._find_provider()
        if resumed is not None:
            self._restore(resumed)
        for step in self._iter_steps(abilities, text):
            if isinstance(step, Checkpoint):
                self._save(step)
                if not step.pending and self._give_up(before_calls=True):
                    return None
                continue
            if isinstance(step, ApprovalNeeded):
                yield from self._show_files()
                yield from self._waits.put_down(step)
                return None
            if isinstance(step, MediaDelta):
                self._send_media(step)
            if self._outbox.holds_files:
                yield from self._show_files()
            yield from self._reply.take(step)
            if self._ends_step(step) and self._give_up():
                return None
        yield from self._show_files()
        self._observe_reply = abilities.hooks.observe_reply
        return Outcome("completed", content=self._reply.to_content())

    def _may_repeat(self, command: Command | None) -> bool:
        """Return whether the turn may be answered once more from its beginning."""
        if command is not None:
            return command.resumable
        if self._means.agent is not None:
            return may_resume(self._means.agent)
        upstream = self._turn.config.upstream
        return upstream is None or upstream.resumable

    def _give_up(self, *, before_calls: bool = False) -> bool:
        """Let another worker go on from here, as this one stops. Returns whether one does."""
        return self._means.handover.try_at_rest(self._turn, before_calls=before_calls)

    def _ends_step(self, event: AgentEvent) -> bool:
        """Return whether an event is the last result of a step whose calls are stored."""
        if not isinstance(event, ToolFinished) or event.id not in self._calls:
            return False
        self._calls.discard(event.id)
        return not self._calls

    def _choose_commands(self, abilities: TurnAbilities) -> Mapping[str, Command]:
        """Return the commands that are answered here; an AstrBot has its own."""
        if self._turn.config.upstream is None:
            return abilities.commands
        return {name: one for name, one in abilities.commands.items() if name == "stop"}

    def _find_provider(self) -> Provider:
        turn = self._turn
        provider = self._means.providers.get_chain(turn.provider, turn.config.providers)
        if turn.span is NO_SPAN:
            return provider
        return TracedProvider(provider, turn.provider, turn.span)

    def _run_command(
        self, command: Command, arguments: str, abilities: TurnAbilities
    ) -> str | AskModel:
        turn = self._turn
        context = CommandContext(
            store=self._means.store,
            session=turn.session,
            username=turn.request.username,
            message_number=turn.user_message,
            arguments=arguments,
            commands=abilities.commands,
            config_id=turn.config.id,
            stopped=turn.stopped,
            decide=self._decide,
        )
        try:
            return abilities.run_command(turn.to_context(), command, context)
        except (RunCancelled, StorageError, CallTimedOut, TooManyAbandoned):
            raise
        except Exception as error:
            raise _CommandFailed(command.name) from error

    def _decide(self, approved: bool, comment: str) -> list[str]:
        """Decide what waits for the sender in this session; return the tools.

        :param comment: Begins with ``#`` and a run's id where a button below its question
            was pressed: it decides nothing that was asked later.
        """
        turn = self._turn
        run_id, comment = split_run_id(comment)

        def job(db: peewee.Database) -> list[ApprovalRow]:
            return [
                call
                for number in runs.list_waiting_of(
                    db, turn.session.id, turn.request.username, run_id
                )
                for call in decide(db, number, approved=approved, comment=comment or None).calls
            ]

        calls = self._means.store.write(job)
        for call in calls:
            entry = describe_decision(call, approved, actor=turn.request.username)
            self._means.store.write(entry.store)
            entry.log()
        return [call.tool for call in calls]

    def _save(self, checkpoint: Checkpoint) -> None:
        """Store where another worker can go on."""
        reply, self._seen_pictures, seen = self._reply, [], self._seen_pictures
        self._steps.save(checkpoint, reply.to_state(), reply.reasoning, seen)
        self._calls = {one["id"] for one in checkpoint.messages[-1]["tool_calls"]}
        self._means.metrics.note_checkpoint()

    def _restore(self, resumed: Resumed) -> None:
        """Go on with what another worker has said."""
        messages = resumed.at.messages if resumed.at else ()
        steps = [
            {"calls": len(one["tool_calls"]), "attached": one.get("attached", {})}
            for one in messages
            if "tool_calls" in one
        ]
        self._reply.restore(resumed.events, resumed.reply, steps)
        self._steps.skip(self._reply.reasoning)
        if messages and resumed.at is not None:
            calls = {one["id"] for one in messages[-1]["tool_calls"]}
            self._calls = calls.difference(resumed.at.results)
        self._pictures = self._find_pictures(resumed.pictures)
        if resumed.at is not None and resumed.at.decisions:
            self._waits.begin_approved()

    def _find_pictures(self, ids: Sequence[str]) -> list[AttachmentRow]:
        if not ids:
            return []
        with self._means.store.read() as db:
            return list(find_attachments(db, ids).values())

    def _unpack(self, at: Resumption | None) -> Resumption | None:
        """Return where the agent goes on, with the bytes of the pictures."""
        if at is None:
            return None
        messages: list[ModelMessage] = []
        for message in at.messages:
            if "pictures" not in message:
                messages.append(message)
            elif shown := self._render_pictures(self._find_pictures(message["pictures"])):
                messages.append({"role": "user", "content": shown})
        return replace(at, messages=messages)

    def _iter_steps(
        self, abilities: TurnAbilities, text: str
    ) -> Iterator[AgentEvent | Checkpoint | ApprovalNeeded]:
        """Ask the application's agent, an AstrBot, or else the model and its tools."""
        turn, agent = self._turn, self._means.agent
        if turn.config.upstream is not None and agent is None:
            return self._means.upstreams.ask(self._make_question(turn.config.upstream, text))
        options = ModelOptions(cancel=turn.cancel, model=turn.request.model)
        conversation = self._build_conversation(options, text)
        context = self._to_tool_context()
        if agent is not None:
            return run_own_agent(agent, conversation, context)
        assert self._provider is not None
        self._reply.note_prompt(conversation)
        options = replace(options, extra=_limit_fields(turn.request.model_fields, turn.provider))
        return run_agent(
            abilities.hook_provider(self._provider),
            conversation,
            abilities.make_toolbox(),
            context,
            options,
            max_steps=turn.config.agent.max_steps,
            show=self._show_pictures,
            caller_tools=turn.request.caller_tools,
            resume=self._unpack(turn.resumed.at) if turn.resumed else None,
            may_wait=turn.request.may_wait,
        )

    def _make_question(self, upstream: UpstreamConfig, text: str) -> Question:
        turn, request = self._turn, self._turn.request
        if request.context is not None:
            text = write_transcript(request.context, text)
        segments = replace_text(request.segments, text)
        return Question(
            upstream=upstream,
            username=request.username,
            session_id=turn.session.session_id,
            segments=[one.to_wire() for one in segments],
            sent=turn.sent,
            payer=request.payer or "",
            cancel=turn.cancel,
            receive_file=self._outbox.receive,
            provider_id=request.provider_id,
            model=request.model,
            skip_user_history=request.skip_user_history,
        )

    def _send_media(self, media: MediaDelta) -> None:
        """Send a picture or sound that the model made, as a tool does."""
        try:
            self._outbox.send(media.data, media.filename)
        except ToolError as error:
            log.warning("what the model made cannot be sent: %s", error)

    def _show_files(self) -> Iterator[Event]:
        """Show the files that tools have sent."""
        for row in self._outbox.take_all():
            if row.type == "image":
                self._pictures.append(row)
            yield from self._reply.add_file(row)

    def _show_pictures(self) -> list[dict[str, Any]]:
        """Return the pictures of the last calls as a message, for a model that sees."""
        sent, self._pictures = self._pictures, []
        shown = self._render_pictures(sent)
        if shown:
            self._seen_pictures.append([row.attachment_id for row in sent])
        return shown

    def _render_pictures(self, sent: Sequence[AttachmentRow]) -> list[dict[str, Any]]:
        if not sent or "image" not in self._turn.provider.modalities:
            return []
        segments = [
            {"type": "plain", "text": "[The tools have sent:]"},
            *({"type": "image", "attachment_id": row.attachment_id} for row in sent),
        ]
        content = self._means.media.render(segments, (), self._limits(), self._turn.cancel)
        return content if isinstance(content, list) else []

    def _limits(self) -> MediaLimits:
        turn = self._turn
        return MediaLimits(
            turn.provider.modalities,
            turn.config.agent.file_tokens,
            self._means.settings.max_image_side_px,
            turn.config.transcription,
            turn.config.agent.video_frames,
        )

    def _build_conversation(self, options: ModelOptions, text: str) -> list[ModelMessage]:
        turn, means = self._turn, self._means
        agent = turn.config.agent
        limits = self._limits()
        segments = replace_text(turn.request.segments, text)
        system_prompt = fill_prompt(
            agent.system_prompt,
            username=turn.request.sender_name,
            platform=turn.request.platform,
        )
        if turn.request.context is not None:
            wire = [one.to_wire() for one in segments]
            return self._build_supplied(turn.request.context, wire, system_prompt)
        summariser = None
        if agent.history == "summarise" and self._provider is not None:
            summariser = Summariser(means.store, self._provider, options, agent.history_tokens)
        return build_messages(
            means.store,
            session=turn.session.id,
            context_after=self._context_after(),
            own_message=turn.user_message,
            own_checkpoint=turn.checkpoint,
            segments=segments,
            render=lambda segments, quotes: means.media.render(
                segments, quotes, limits, turn.cancel
            ),
            system_prompt=system_prompt,
            budget=agent.history_tokens,
            sender_name=_group_name(turn),
            summariser=summariser,
        )

    def _build_supplied(
        self, context: SuppliedContext, wire: list[dict[str, Any]], system_prompt: str
    ) -> list[ModelMessage]:
        """Return the conversation that the caller sent, after the thread that it goes on from."""
        means, limits, cancel = self._means, self._limits(), self._turn.cancel
        budget = self._turn.config.agent.history_tokens

        def render(segments: Sequence[dict[str, Any]]) -> Content:
            return means.media.render(segments, (), limits, cancel)

        past: list[ModelMessage] = []
        if context.previous is not None:
            said, past = load_thread(means.store, context.previous, render, budget)
            instructions = "\n\n".join(filter(None, [*said, context.instructions]))
            context = replace(context, instructions=instructions)
        return build_supplied(
            context, render(wire),
            system_prompt=system_prompt, budget=budget - cost(past), past=past, render=render,
        )  # fmt: skip

    def _to_tool_context(self) -> ToolContext:
        turn, means = self._turn, self._means

        def send_message(message: Any) -> str:
            means.speaker.say(turn, message)
            return turn.umo

        return ToolContext(
            turn.request.username,
            turn.session.session_id,
            turn.config.id,
            turn.cancel,
            platform=turn.request.platform,
            attachments=tuple(map(means.media.to_tool_attachment, turn.sent)),
            send_file=self._outbox.send,
            send_message=send_message,
            payer=turn.request.payer,
            idempotency_key=turn.run_id,
            span=turn.span,
        )

    def _context_after(self) -> int:
        """Return what ``/reset`` last left: an earlier turn may have run since opening."""
        turn = self._turn
        if not turn.ahead:
            return turn.session.context_after
        with self._means.store.read() as db:
            session = sessions.find_session(db, turn.session.session_id)
        return session.context_after if session else turn.session.context_after

    def _wants_title(self, outcome: Outcome) -> bool:
        unnamed = self._turn.session.display_name is None
        return unnamed and not outcome.direct and outcome.status != "stopped"

    def _asks_model(self, outcome: Outcome) -> bool:
        """Return whether the model names the session: only a complete answer shows it to work.

        A response of OpenAI's API makes no other request to the model than its client's own.
        """
        agent, entry = self._turn.config.agent, self._turn.request.entry
        asks = agent.titles and self._provider is not None and entry is None
        return outcome.status == "completed" and asks

    def _give_title(self, outcome: Outcome) -> Outcome:
        """Name a session that has no name by its first words, unless the model does it later."""
        if not self._wants_title(outcome) or self._asks_model(outcome):
            return outcome
        return replace(outcome, title=first_words(self._turn.subject))

    def _ask_for_title(self, outcome: Outcome) -> None:
        """Have the model name a session that has no name, in the background."""
        turn = self._turn
        if self._wants_title(outcome) and self._asks_model(outcome):
            self._means.titles.request(
                TitleRequest(turn.session.id, turn.subject, self._provider, turn.request.model)
            )


def _limit_fields(fields: Mapping[str, Any], provider: ProviderConfig) -> dict[str, Any]:
    """Return a caller's fields; its answer is not longer than the config allows."""
    limits = [
        provider.extra[name] for name in _LENGTHS if isinstance(provider.extra.get(name), int)
    ]
    return {
        name: min(value, *limits) if name in _LENGTHS and limits else value
        for name, value in fields.items()
    }


def _answer_directly(text: str) -> Outcome:
    """Return the outcome of a turn whose text is not the model's, and never shown to it."""
    content = {"type": "bot", "message": [{"type": "plain", "text": text}]}
    return Outcome("completed", content=content, direct=True)


def _group_name(turn: OpenTurn) -> str | None:
    """Return who speaks, in a group, for the model; None between two."""
    origin = turn.request.origin
    return origin.sender_name if origin and origin.is_group else None


def replace_text(segments: Sequence[Segment], text: str) -> Sequence[Segment]:
    """Return segments with another text; the same ones where it is the same."""
    if text == plain_text([one.to_wire() for one in segments]):
        return segments
    return [Plain(text), *(one for one in segments if not isinstance(one, Plain))]

"""Answer a turn with a command, a plugin, or the model and its tools."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ...agent.custom_agent import Agent, may_resume, run_own_agent
from ...agent.loop import run_agent
from ...agent.provider import MediaDelta, ModelOptions, Provider, TextDelta
from ...agent.steps import AgentEvent, ApprovalNeeded, Checkpoint, ToolFinished
from ...agent.tools import ToolContext
from ...config.settings import Settings
from ...config.upstream import UpstreamConfig
from ...db import runs
from ...db.store import Store
from ...deliveries.webhooks import Announcer
from ...errors import RunCancelled, StorageError, ToolError
from ...event_lines import join_surrogates
from ...events import Event
from ...files.attachments import Attachments
from ...keys.rules import NO_RULES
from ...messages import plain_text
from ...plugins.commands import Command, find_command
from ...plugins.context import Handled
from ...providers.registry import Providers
from ...providers.traced import TracedProvider
from ...runtime.memory import MemoryBudget
from ...runtime.metrics import Metrics
from ...runtime.tracing import NO_SPAN
from ...upstream.exchange import UpstreamTurn
from ...upstream.turns import Upstreams
from ..context.history import quote_by_text
from ..context.media import MediaReader
from ..context.recent import RecentMessages
from ..context.supplied import write_transcript
from .abilities import Abilities, HookedProvider, TurnAbilities
from .checkpoints import StepStore
from .choosing import limit_fields
from .commands import choose_commands, run_command
from .conversation import TurnConversation, replace_text
from .ending import Outcomes
from .handover import Handover
from .outcome import Outcome, RunLost
from .reply import Reply
from .sending import FileOutbox, Speaker
from .titles import SessionNaming, TitleWriter
from .turn import OpenTurn, Resumed
from .waiting import Waits

log = logging.getLogger(__name__)

_INTERRUPTED = "The server stopped before the turn ended. The partial answer is stored."

_NOT_BEGUN = "The server stopped before the turn began. Send the message again."


@dataclass(frozen=True, slots=True)
class AnswerServices:
    """Services that answer an application's turns.

    :param memory: Limits the conversations and files that turns hold.
    :param agent: Answers instead of a model.
    """

    settings: Settings
    store: Store
    providers: Providers
    abilities: Abilities
    attachments: Attachments
    recent: RecentMessages
    media: MediaReader
    outcomes: Outcomes
    announcer: Announcer
    speaker: Speaker
    titles: TitleWriter
    upstreams: Upstreams
    handover: Handover
    metrics: Metrics
    memory: MemoryBudget
    agent: Agent | None = None


class Answer:
    """The answer to one turn. Iterating it yields every event, ``end`` last."""

    def __init__(self, services: AnswerServices, turn: OpenTurn) -> None:
        self._services = services
        self._turn = turn
        self._outbox = FileOutbox(services.attachments, turn.request.file_sender)
        self._provider: Provider | None = None
        self._may_wait = turn.request.may_wait
        self._steps = StepStore(services.store, turn)
        self._waits = Waits(
            services.settings, services.store, services.speaker, services.announcer, turn
        )
        self._conversation = TurnConversation(
            services.settings, services.store, services.recent, services.media, services.memory,
            turn,
        )  # fmt: skip
        #: Ids of this step's calls without a result.
        self._calls: set[str] = set()
        self._naming = SessionNaming(services.titles, turn)
        self._observer: Callable[[Event], None] | None = None
        self._observe_reply: Callable[[str], None] | None = None
        self._reply = Reply(
            turn.run_id,
            streaming=turn.request.streaming,
            show_reasoning=turn.config.agent.show_reasoning,
            max_chars=services.settings.max_reply_chars,
            count_events=turn.log.count_events,
        )

    def __iter__(self) -> Iterator[Event]:
        """Answer the turn. A failure becomes an event."""
        outcome: Outcome | None
        try:
            outcome = yield from self._run()
        except RunCancelled as error:
            outcome = self._end_cancelled(error.reason)
        except RunLost:
            outcome = self._end_cancelled("interrupted")
        except Exception as error:
            content = self._reply.to_content()
            outcome = Outcome.of_failure(error, self._turn.run_id, content)
        finally:
            self._conversation.release()
        if outcome is None or self._turn.log.lost:
            return  # the turn waits for an approval, or another worker resumes it
        yield from self._reply.finish()
        if not outcome.direct and (steps := self._reply.to_steps()):
            outcome = replace(outcome, steps=steps)
        outcome = self._naming.give(outcome, self._provider)
        outcome = yield from self._services.outcomes.finish(self._turn, outcome)
        self._naming.ask(outcome, self._provider)
        if self._observe_reply is not None and not outcome.code:
            self._observe_reply(self._reply.fold.text)

    def observe(self, event: Event) -> None:
        """Pass a logged event to the plugins that observe the turn."""
        if self._observer is not None:
            self._observer(event)

    def end_unbegun(self, reason: str) -> Iterator[Event]:
        """End a turn that never began to run; yield its last events.

        :param reason: ``stopped`` or ``interrupted``.
        """
        outcome = self._end_cancelled(reason)
        if reason == "interrupted":
            outcome = Outcome(outcome.status, outcome.code, _NOT_BEGUN)
        return self._services.outcomes.finish(self._turn, outcome)

    def _end_cancelled(self, reason: str) -> Outcome:
        content = self._reply.to_content(stopped=True)
        if reason == "interrupted":
            return Outcome("interrupted", "run_interrupted", _INTERRUPTED, content)
        return Outcome("stopped", content=content)

    def _run(self) -> Generator[Event, None, Outcome | None]:
        """Yield the reply's events; return the outcome, or None if the turn continues later."""
        turn = self._turn
        guard = turn.request.guard
        abilities = self._services.abilities.begin_turn(
            turn.config, turn.to_context(), guard.rules if guard else NO_RULES
        )
        self._observer = abilities.hooks.observer
        text = self._choose_text(abilities)
        if isinstance(text, Outcome):
            return text
        if self._services.agent is None and turn.config.upstream is None:
            self._provider = self._find_provider()
        if turn.resumed is not None:
            self._restore(turn.resumed)
        for step in self._iter_steps(abilities, text):
            if isinstance(step, TextDelta) and not self._outbox.holds_files:
                yield from self._reply.take(step)  # the common case
                continue
            if isinstance(step, Checkpoint):
                self._save(step)
                if not step.pending and self._release(before_calls=True):
                    return None
                continue
            if isinstance(step, ApprovalNeeded):
                yield from self._show_files()
                yield from self._waits.suspend(step, self._reply.to_stats())
                return None
            if isinstance(step, MediaDelta):
                self._send_media(step)
            if self._outbox.holds_files:
                yield from self._show_files()
            yield from self._reply.take(step)
            if self._ends_step(step) and self._release():
                return None
        yield from self._show_files()
        self._observe_reply = abilities.hooks.observe_reply
        return Outcome("completed", content=self._reply.to_content())

    def _choose_text(self, abilities: TurnAbilities) -> str | Outcome:
        """Return the text to ask, or the outcome if a command or plugin answers."""
        turn = self._turn
        command, arguments = find_command(choose_commands(turn, abilities), turn.text)
        resumed = turn.resumed
        if command is not None and resumed and resumed.begun and not command.resumable:
            return self._end_cancelled("interrupted")
        if not self._may_repeat(command):
            turn.pinned.set()
            self._may_wait = False  # the turn could not resume after the decision
        if command is None:
            rewritten = abilities.hooks.rewrite_message(turn.text)
            if isinstance(rewritten, Handled):
                return _answer_directly(rewritten.text)
            return rewritten
        said = run_command(self._services.store, turn, abilities, command, arguments)
        if isinstance(said, str):
            return _answer_directly(said)
        if not self._may_repeat(None):
            turn.pinned.set()
        return said.text

    def _may_repeat(self, command: Command | None) -> bool:
        """Return whether the turn may be repeated from its beginning."""
        if command is not None:
            return command.resumable
        if self._services.agent is not None:
            return may_resume(self._services.agent)
        upstream = self._turn.config.upstream
        return upstream is None or upstream.resumable

    def _release(self, *, before_calls: bool = False) -> bool:
        """Hand the turn over if this worker stops; return whether another worker resumes it."""
        return self._services.handover.release_between_steps(self._turn, before_calls=before_calls)

    def _ends_step(self, event: AgentEvent) -> bool:
        """Return whether an event is the last result of a step with stored calls."""
        if not isinstance(event, ToolFinished) or event.id not in self._calls:
            return False
        self._calls.discard(event.id)
        return not self._calls

    def _find_provider(self) -> Provider:
        turn = self._turn
        provider = self._services.providers.get_chain(turn.provider, turn.config.providers)
        if turn.span is NO_SPAN:
            return provider
        return TracedProvider(provider, turn.provider, turn.span)

    def _save(self, checkpoint: Checkpoint) -> None:
        """Store a checkpoint from which another worker can resume."""
        reply = self._reply
        seen = self._conversation.take_seen()
        self._steps.save(checkpoint, reply.to_state(), reply.fold.reasoning, seen)
        self._calls = {one["id"] for one in checkpoint.messages[-1]["tool_calls"]}
        self._services.metrics.checkpoints.inc()

    def _restore(self, resumed: Resumed) -> None:
        """Restore the progress of the worker that began the turn."""
        messages = resumed.at.messages if resumed.at else ()
        steps = [
            {"calls": len(one["tool_calls"]), "attached": one.get("attached", {})}
            for one in messages
            if "tool_calls" in one
        ]
        self._reply.restore(resumed.events, resumed.reply, steps)
        self._steps.skip(self._reply.fold.reasoning)
        if messages and resumed.at is not None:
            calls = {one["id"] for one in messages[-1]["tool_calls"]}
            self._calls = calls.difference(resumed.at.results)
        self._conversation.restore(resumed.pictures)
        if resumed.at is not None and resumed.at.decisions:
            self._waits.begin_approved()

    def _iter_steps(
        self, abilities: TurnAbilities, text: str
    ) -> Iterator[AgentEvent | Checkpoint | ApprovalNeeded]:
        """Ask the application's agent, an upstream AstrBot, or the model with its tools."""
        turn, agent = self._turn, self._services.agent
        if turn.config.upstream is not None and agent is None:
            forwarded = self._make_upstream_turn(turn.config.upstream, text)
            said = plain_text([dict(one) for one in forwarded.segments])
            self._reply.note_prompt([{"role": "user", "content": said}])
            return self._services.upstreams.answer(forwarded)
        options = ModelOptions(cancel=turn.cancel, model=turn.request.model)
        conversation = self._conversation.build(options, text, self._provider)
        context = self._to_tool_context()
        self._reply.note_prompt(conversation)
        if agent is not None:
            return run_own_agent(agent, conversation, context)
        assert self._provider is not None
        if turn.request.model_fields:
            extra = limit_fields(turn.request.model_fields, turn.provider)
            options = replace(options, extra=extra)
        return run_agent(
            HookedProvider(self._provider, abilities.hooks),
            conversation,
            abilities.make_toolbox(),
            context,
            options,
            max_steps=turn.config.agent.max_steps,
            show=self._conversation.show_pictures,
            caller_tools=turn.request.caller_tools,
            resume=self._conversation.unpack(turn.resumed.at) if turn.resumed else None,
            may_wait=self._may_wait,
        )

    def _make_upstream_turn(self, upstream: UpstreamConfig, text: str) -> UpstreamTurn:
        turn, request = self._turn, self._turn.request
        if request.context is not None:
            text = write_transcript(request.context, text)
        # AstrBot would quote its own message with the same number, even another user's.
        segments = quote_by_text(
            self._services.store, turn.session.id, replace_text(request.segments, text)
        )
        return UpstreamTurn(
            upstream=upstream,
            username=request.username,
            session_id=turn.session.session_id,
            segments=[one.to_wire() for one in segments],
            sent=turn.sent,
            payer=request.payer or "",
            cancel=turn.cancel,
            receive_file=self._outbox.receive,
            let_pass=self._let_pass,
            provider_id=request.provider_id,
            model=request.model,
            skip_user_history=request.skip_user_history,
        )

    def _let_pass(self) -> None:
        with suppress(StorageError):  # later turns then wait
            self._services.store.write(partial(runs.let_pass, number=self._turn.number))

    def _send_media(self, media: MediaDelta) -> None:
        """Send a picture or sound generated by the model, like a tool's file."""
        try:
            self._outbox.send(media.data, media.filename)
        except ToolError as error:
            log.warning("the model's file cannot be sent: %s", error)

    def _show_files(self) -> Iterator[Event]:
        """Yield events for files that tools have sent."""
        for row in self._outbox.take_all():
            if row.type == "image":
                self._conversation.note_picture(row)
            yield from self._reply.add_file(row)

    def _to_tool_context(self) -> ToolContext:
        turn, services = self._turn, self._services

        def send_message(message: Any) -> str:
            services.speaker.say(turn, message)
            return turn.umo

        return ToolContext(
            turn.request.username,
            turn.session.session_id,
            turn.config.id,
            turn.cancel,
            platform=turn.request.platform,
            attachments=tuple(map(services.media.to_tool_attachment, turn.sent)),
            send_file=self._outbox.send,
            send_message=send_message,
            payer=turn.request.payer,
            idempotency_key=turn.run_id,
            span=turn.span,
        )


def _answer_directly(text: str) -> Outcome:
    """Return the outcome of a direct reply, which the model never sees."""
    content = {"type": "bot", "message": [{"type": "plain", "text": join_surrogates(text)}]}
    return Outcome("completed", content=content, direct=True)

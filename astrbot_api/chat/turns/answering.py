"""How a turn is answered: by a command, by a plugin, or by the model and its tools."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from ...agent.aside import CallTimedOut, TooManyAbandoned
from ...agent.custom_agent import Agent, run_own_agent
from ...agent.loop import AgentEvent, run_agent
from ...agent.provider import ModelMessage, ModelOptions, Provider
from ...agent.tools import ToolContext
from ...config.settings import Settings
from ...db import sessions
from ...db.store import Store
from ...errors import ProviderError, RunCancelled, StorageError
from ...files.attachments import Attachments
from ...messages import Plain, Segment, plain_text
from ...plugins.context import Handled
from ...providers.registry import Providers
from ...providers.traced import TracedProvider
from ...runtime.tracing import NO_SPAN
from ..context.history import build_messages, fill_prompt
from ..context.media import MediaLimits, MediaReader
from ..context.summary import Summariser
from ..context.supplied import build_given
from .abilities import Abilities, TurnAbilities
from .commands import Command, CommandContext, find_command
from .ending import LOST, RunLost, TurnEnder, describe_lost_reply
from .reply import Reply
from .sending import FileOutbox, Speaker
from .turn import OpenTurn

log = logging.getLogger(__name__)


_NOT_BEGUN = "The server stopped before the turn had begun. Send it again."


class _CommandFailed(Exception):
    """A command raised what it should not; its name is the message."""


class TurnRunner:
    """Answers turns that are open, with what an application gives it."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        providers: Providers,
        abilities: Abilities,
        attachments: Attachments,
        ender: TurnEnder,
        speaker: Speaker,
        agent: Agent | None = None,
    ) -> None:
        self._agent = agent
        self._settings = settings
        self._store = store
        self._providers = providers
        self._abilities = abilities
        self._attachments = attachments
        self._media = MediaReader(store, attachments)
        self._ender = ender
        self._speaker = speaker

    def run(self, turn: OpenTurn) -> None:
        """Answer a turn and store the answer. Failure is an event."""
        reply = self._begin_reply(turn)
        try:
            self._run(turn, reply)
        except RunCancelled as error:
            self._ender.end_cancelled(turn, reply, error.reason)
        except ProviderError as error:
            self._ender.fail(turn, reply, "failed", "provider_error", error.message)
        except StorageError as error:
            message = describe_lost_reply(error)
            self._ender.fail(turn, reply, "failed", "storage_error", message)
        except RunLost:
            self._ender.fail(turn, reply, "interrupted", "run_interrupted", LOST)
        except (CallTimedOut, TooManyAbandoned) as error:
            self._ender.fail(turn, reply, "failed", "internal_error", str(error))
        except _CommandFailed as error:
            log.exception("command /%s failed in run %s", error, turn.run_id)
            message = f"The command /{error} failed; the server's log has the details."
            self._ender.fail(turn, reply, "failed", "internal_error", message)
        except Exception:
            log.exception("run %s failed", turn.run_id)
            message = f"The server failed; its log has the details under run {turn.run_id}."
            self._ender.fail(turn, reply, "failed", "internal_error", message)

    def end_waiting(self, turn: OpenTurn, reason: str) -> None:
        """End a turn that never came to run.

        :param reason: ``stopped`` or ``interrupted``.
        """
        if reason == "interrupted":
            self._ender.drop(turn, "interrupted", "run_interrupted", _NOT_BEGUN)
        else:
            self._ender.end_cancelled(turn, self._begin_reply(turn), reason)

    def _begin_reply(self, turn: OpenTurn) -> Reply:
        return Reply(
            turn.run_id,
            streaming=turn.request.streaming,
            show_reasoning=turn.config.agent.show_reasoning,
            max_chars=self._settings.max_reply_chars,
        )

    def _run(self, turn: OpenTurn, reply: Reply) -> None:
        abilities = self._abilities.begin_turn(turn.config, turn.to_context())
        turn.observe = abilities.hooks.observer
        command, arguments = find_command(abilities.commands, turn.text)
        if command is not None:
            self._run_command(turn, command, arguments, abilities)
            return
        text = abilities.hooks.rewrite_message(turn.text)
        if isinstance(text, Handled):
            self._ender.answer_directly(turn, text.text)
            return
        provider = None if self._agent else self._find_provider(turn)
        self._answer(turn, reply, provider, abilities, text)
        self._ender.name_session(turn, provider)
        abilities.hooks.observe_reply(reply.text)

    def _find_provider(self, turn: OpenTurn) -> Provider:
        provider = self._providers.get_provider(turn.provider)
        return (
            provider if turn.span is NO_SPAN else TracedProvider(provider, turn.provider, turn.span)
        )

    def _run_command(
        self, turn: OpenTurn, command: Command, arguments: str, abilities: TurnAbilities
    ) -> None:
        context = CommandContext(
            store=self._store,
            session=turn.session,
            username=turn.request.username,
            message_number=turn.user_message,
            arguments=arguments,
            commands=abilities.commands,
            config_id=turn.config.id,
            stopped=turn.stopped,
        )
        try:
            text = abilities.run_command(turn.to_context(), command, context)
        except (RunCancelled, StorageError, CallTimedOut, TooManyAbandoned):
            raise
        except Exception as error:
            raise _CommandFailed(command.name) from error
        self._ender.answer_directly(turn, text)

    def _answer(
        self,
        turn: OpenTurn,
        reply: Reply,
        provider: Provider | None,
        abilities: TurnAbilities,
        text: str,
    ) -> None:
        """Run the agent and show what it says and does."""
        options = ModelOptions(cancel=turn.cancel, model=turn.request.model)
        outbox = FileOutbox(self._attachments, turn.request.key_id)
        conversation = self._build_conversation(turn, provider, options, text)
        context = self._to_tool_context(turn, outbox)
        for step in self._iter_steps(turn, provider, abilities, conversation, context, options):
            self._show(turn, reply, outbox, step)
        self._show(turn, reply, outbox, None)
        for event in reply.finish():
            turn.say(event)
        self._ender.complete(turn, reply, "completed")

    def _iter_steps(
        self,
        turn: OpenTurn,
        provider: Provider | None,
        abilities: TurnAbilities,
        conversation: list[ModelMessage],
        context: ToolContext,
        options: ModelOptions,
    ) -> Iterator[AgentEvent]:
        """Ask the application's agent, or else the model and its tools."""
        if self._agent is not None:
            return run_own_agent(self._agent, conversation, context)
        assert provider is not None
        guard = turn.request.guard
        return run_agent(
            abilities.hook_provider(provider),
            conversation,
            abilities.make_toolbox(guard.rules.tools if guard else None),
            context,
            options,
            max_steps=turn.config.agent.max_steps,
        )

    def _show(
        self, turn: OpenTurn, reply: Reply, outbox: FileOutbox, step: AgentEvent | None
    ) -> None:
        """Show the files that tools have sent, then what the agent yielded."""
        shown = [event for row in outbox.take_all() for event in reply.add_file(row)]
        if step is not None:
            shown += reply.take(step)
        for event in shown:
            turn.say(event)

    def _build_conversation(
        self, turn: OpenTurn, provider: Provider | None, options: ModelOptions, text: str
    ) -> list[ModelMessage]:
        agent = turn.config.agent
        limits = MediaLimits(
            turn.provider.modalities, agent.file_tokens, self._settings.max_image_side_px
        )
        segments = replace_text(turn.request.segments, text)
        system_prompt = fill_prompt(
            agent.system_prompt,
            username=turn.request.sender_name,
            platform=turn.request.platform,
        )
        if turn.request.context is not None:
            content = self._media.render([one.to_wire() for one in segments], (), limits)
            return build_given(
                turn.request.context, content,
                system_prompt=system_prompt, budget=agent.history_tokens,
            )  # fmt: skip
        summariser = None
        if agent.history == "summarise" and provider is not None:
            summariser = Summariser(self._store, provider, options, agent.history_tokens)
        return build_messages(
            self._store,
            session=turn.session.id,
            context_after=self._context_after(turn),
            own_message=turn.user_message,
            own_checkpoint=turn.checkpoint,
            segments=segments,
            render=lambda segments, quotes: self._media.render(segments, quotes, limits),
            system_prompt=system_prompt,
            budget=agent.history_tokens,
            sender_name=_group_name(turn),
            summariser=summariser,
        )

    def _to_tool_context(self, turn: OpenTurn, outbox: FileOutbox) -> ToolContext:
        def send_message(message: Any) -> str:
            self._speaker.say(turn, message)
            return turn.umo

        return ToolContext(
            turn.request.username,
            turn.session.session_id,
            turn.config.id,
            turn.cancel,
            platform=turn.request.platform,
            attachments=tuple(map(self._media.to_tool_attachment, turn.sent)),
            send_file=outbox.send,
            send_message=send_message,
            span=turn.span,
        )

    def _context_after(self, turn: OpenTurn) -> int:
        """Return what ``/reset`` last left: an earlier turn may have run since opening."""
        if not turn.ahead:
            return turn.session.context_after
        with self._store.read() as db:
            session = sessions.find_session(db, turn.session.session_id)
        return session.context_after if session else turn.session.context_after


def _group_name(turn: OpenTurn) -> str | None:
    """Return who speaks, in a group, for the model; None between two."""
    origin = turn.request.origin
    return origin.sender_name if origin and origin.is_group else None


def replace_text(segments: Sequence[Segment], text: str) -> Sequence[Segment]:
    """Return segments with another text; the same ones where it is the same."""
    if text == plain_text([one.to_wire() for one in segments]):
        return segments
    return [Plain(text), *(one for one in segments if not isinstance(one, Plain))]

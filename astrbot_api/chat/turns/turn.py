"""What a turn is: as it was asked for, and as it stands once it is stored."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ... import events
from ...agent.cancel import Cancellation
from ...agent.provider import ToolSpec
from ...agent.steps import Resumption
from ...config.agents import AgentConfig, ProviderConfig
from ...db.attachments import AttachmentRow
from ...db.idempotency import ClientKey
from ...db.sessions import WEBCHAT, SessionRow
from ...events import Event
from ...keys.rules import KeyGuard
from ...messages import Segment, plain_text
from ...plugins.commands import make_umo
from ...plugins.context import TurnContext
from ...runlog.log import RunLog
from ...runtime.clock import to_iso
from ...runtime.tracing import NO_SPAN, Span
from ..context.supplied import SuppliedContext
from ..context.thread import ThreadEntry


@dataclass(frozen=True, slots=True)
class Origin:
    """The message of a messenger that a turn answers.

    :param platform: Type of the bot.
    :param sender_name: As people are shown to each other there.
    :param reply_to: The platform's id of the message.
    """

    bot_id: str
    platform: str
    event_id: str
    umo: str
    sender_name: str
    is_group: bool = False
    reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """A chat request, checked field by field.

    :param session_id: Blank: a new session is made.
    :param shown_session_id: How the ``session_id`` event shows it: as sent.
    :param origin: Where the message came from; None: over HTTP.
    :param answers_again: Number of a message of the session's last turn, which
        is answered once more; ``segments`` are that turn's own then.
    :param context: What was said before, in place of the session's history.
    :param caller_tools: Tools that the caller runs: a call of one ends the turn.
    :param model_fields: Further fields of the model's request, such as ``temperature``.
    :param may_wait: Whether the turn may wait for a person who approves a tool call.
    :param kept: False: the turn has a session that nobody can find, which
        goes with all it holds when the run has ended.
    :param entry: What is stored with it, where it is a response of OpenAI's API.
    :param client_key: What its client calls the request, if it may send it again.
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
    guard: KeyGuard | None = None
    answers_again: int | None = None
    context: SuppliedContext | None = None
    caller_tools: Sequence[ToolSpec] = ()
    model_fields: Mapping[str, Any] = field(default_factory=dict)
    kept: bool = True
    may_wait: bool = False
    entry: ThreadEntry | None = None
    client_key: ClientKey | None = None
    origin: Origin | None = None

    @property
    def payer(self) -> str | None:
        """The key that the turn counts to: of a session key, its maker; None: no key."""
        return self.guard.root_id if self.guard else self.key_id

    @property
    def bound_username(self) -> str | None:
        """The only username that the key may speak as, if there is one."""
        return self.guard.rules.username if self.guard else None

    @property
    def creator(self) -> str:
        """Whose the session must be: in a messenger, the conversation's own."""
        return self.origin.umo if self.origin else self.username

    @property
    def sender_name(self) -> str:
        """How the user is called."""
        return self.origin.sender_name if self.origin else self.username

    @property
    def platform_id(self) -> str:
        """Where sessions and messages are filed: ``webchat``, or a bot's id."""
        return self.origin.bot_id if self.origin else WEBCHAT

    @property
    def platform(self) -> str:
        """Where the user is: ``webchat``, or the type of the bot."""
        return self.origin.platform if self.origin else WEBCHAT

    @property
    def text(self) -> str:
        """The text of the message."""
        return plain_text([segment.to_wire() for segment in self.segments])


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a turn has from the worker that had it before.

    :param events: What clients were shown and still counts.
    :param at: Where its agent goes on; None: at its beginning.
    :param reply: What the reply counted until then, see :meth:`.reply.Reply.to_state`.
    :param pictures: Ids of those that the tools of the last step have sent.
    :param begun: Whether it had begun.
    """

    events: Sequence[Event]
    at: Resumption | None = None
    reply: Mapping[str, Any] = field(default_factory=dict)
    pictures: Sequence[str] = ()
    begun: bool = True


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """A turn that is stored and may run. ``number`` is its place in the queue.

    :param worker_id: This worker, which has it.
    :param replaces: Number of the answer that goes when this turn's is stored.
    :param stopped: How many turns ahead of it a ``/stop`` has stopped.
    :param resumed: What another worker has done of it; None: it begins here.
    :param pinned: Set once no other worker could go on with it.
    :param span: The turn, in a trace.
    """

    run_id: str
    checkpoint: str
    request: TurnRequest
    config: AgentConfig
    provider: ProviderConfig
    session: SessionRow
    number: int
    ahead: int
    user_message: int | None
    user_message_at: int | None
    worker_id: str
    log: RunLog
    sent: Sequence[AttachmentRow] = ()
    cancel: Cancellation = field(default_factory=Cancellation)
    replaces: int | None = None
    stopped: int = 0
    resumed: Resumed | None = None
    pinned: threading.Event = field(default_factory=threading.Event)
    span: Span = NO_SPAN

    def list_first_events(self) -> list[Event]:
        """Return the events that every stream of the turn begins with."""
        request = self.request
        shown = request.shown_session_id if request.session_id else self.session.session_id
        first = [events.session_id(shown)]
        if self.user_message is not None and self.user_message_at is not None:
            time = to_iso(self.user_message_at)
            first.append(events.user_message_saved(self.user_message, time, self.checkpoint))
        return [*first, events.run_started(self.run_id)]

    def to_context(self) -> TurnContext:
        """Return what the plugins may know of the turn."""
        return TurnContext(
            run_id=self.run_id,
            username=self.request.username,
            session_id=self.session.session_id,
            config_id=self.config.id,
            platform=self.request.platform,
            cancel=self.cancel,
        )

    @property
    def umo(self) -> str:
        """The conversation's unified message origin."""
        return make_umo(self.session, self.request.username)

    @property
    def text(self) -> str:
        """The text of the user's message."""
        return self.request.text

    @property
    def subject(self) -> str:
        """What a title can be made of: the text, else the names of what was sent."""
        return self.text.strip() or ", ".join(row.name for row in self.sent)

"""A turn as requested (``TurnRequest``) and as stored (``OpenTurn``)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ... import events
from ...agent.cancel import Cancellation
from ...agent.provider import ToolSpec
from ...agent.steps import Resumption
from ...config.agents import AgentConfig, ProviderConfig
from ...db.attachments import AttachmentRow
from ...db.idempotency import ClientKey
from ...db.sessions import WEBCHAT, SessionRow, make_umo
from ...events import Event
from ...files.incoming import Sender
from ...keys.rules import KeyGuard
from ...messages import Plain, Segment, plain_text
from ...plugins.context import TurnContext
from ...runlog.log import RunLog
from ...runtime.clock import to_iso
from ...runtime.tracing import NO_SPAN, Span
from ..context.supplied import SuppliedContext
from ..context.thread import ThreadEntry


@dataclass(frozen=True, slots=True)
class Origin:
    """The messenger message that a turn answers.

    :param platform: Type of the bot.
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
    """A validated chat request.

    :param session_id: Blank to create a session.
    :param shown_session_id: The ``session_id`` to show in events, as the client sent it.
    :param origin: The messenger message to answer, or None for an HTTP request.
    :param answers_again: Number of the message in the session's last turn to answer again.
        ``segments`` are then those of that turn.
    :param context: Conversation that replaces the session's history.
    :param caller_tools: Tools that the caller runs. A call of one of them ends the turn.
    :param model_fields: Further fields of the model's request, such as ``temperature``.
    :param may_wait: Whether the turn may wait for a person who approves a tool call.
    :param kept: False for a turn in a hidden session, which is removed when the run ends.
    :param entry: The response of OpenAI's API to store with the turn.
    :param client_key: The client's idempotency key, if it may repeat the request.
    :param stops_left: Whether the key's active turns in the session are stopped first.
    :param rpc_id: JSON of the id of an MCP request, by which its client cancels it.
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
    stops_left: bool = False
    rpc_id: str = ""
    origin: Origin | None = None

    @property
    def payer(self) -> str | None:
        """The key that pays for the turn: a session key's maker, or None without a key."""
        return self.guard.root_id if self.guard else self.key_id

    @property
    def counting_keys(self) -> frozenset[str]:
        """The keys that count the turn: its own and the maker's, or "" without a key."""
        return frozenset({self.key_id or "", *([self.guard.root_id] if self.guard else ())})

    @property
    def file_sender(self) -> Sender | None:
        """The key as whose uploads the turn's files count, or None without a key."""
        if self.payer is None:
            return None
        return Sender(self.payer, self.guard.rules.username if self.guard else None)

    @property
    def creator(self) -> str:
        """Owner of the session. In a messenger, the conversation owns it."""
        return self.origin.umo if self.origin else self.username

    @property
    def sender_name(self) -> str:
        """Display name of the user."""
        return self.origin.sender_name if self.origin else self.username

    @property
    def platform_id(self) -> str:
        """``platform_id`` of stored sessions and messages: ``webchat``, or a bot's id."""
        return self.origin.bot_id if self.origin else WEBCHAT

    @property
    def platform(self) -> str:
        """The user's platform: ``webchat``, or the type of the bot."""
        return self.origin.platform if self.origin else WEBCHAT

    @property
    def text(self) -> str:
        """Text of the message."""
        return plain_text([segment.to_wire() for segment in self.segments])

    def measure(self) -> int:
        """Return the size of its texts and tools in memory, in bytes."""
        texts: list[str | bytes] = [one.text for one in self.segments if isinstance(one, Plain)]
        if self.context is not None:
            texts += self.context.list_texts()
        if self.caller_tools or self.model_fields:
            texts.append(orjson.dumps([self.caller_tools, self.model_fields]))
        return sum(map(sys.getsizeof, texts))


@dataclass(frozen=True, slots=True)
class Resumed:
    """State of a turn that another worker began.

    :param events: Events that clients have seen and that are still valid.
    :param at: Checkpoint at which the agent resumes, or None to start over.
    :param reply: Counters of the reply so far, see :meth:`.reply.Reply.to_state`.
    :param pictures: Ids of pictures sent by the tools of the last step.
    :param counted: Tokens of input and output that its keys have counted.
    """

    events: Sequence[Event]
    at: Resumption | None = None
    reply: Mapping[str, Any] = field(default_factory=dict)
    pictures: Sequence[str] = ()
    begun: bool = True
    counted: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """A stored turn that may run. ``number`` is its position in the queue.

    :param worker_id: Id of this worker, which owns the run.
    :param first: Whether the turn has created its session, so that no message is older.
    :param replaces: Number of the answer to delete when the new answer is stored.
    :param stopped: Number of earlier turns that a ``/stop`` has stopped.
    :param resumed: Progress of an earlier worker, or None if the turn begins here.
    :param pinned: Set once no other worker can resume the turn.
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
    first: bool = False
    cancel: Cancellation = field(default_factory=Cancellation)
    replaces: int | None = None
    stopped: int = 0
    resumed: Resumed | None = None
    pinned: threading.Event = field(default_factory=threading.Event)
    span: Span = NO_SPAN

    def list_first_events(self) -> list[Event]:
        """Return the events with which every stream of the turn begins."""
        request = self.request
        shown = request.shown_session_id if request.session_id else self.session.session_id
        first = [events.session_id(shown)]
        if self.user_message is not None and self.user_message_at is not None:
            time = to_iso(self.user_message_at)
            first.append(events.user_message_saved(self.user_message, time, self.checkpoint))
        return [*first, events.run_started(self.run_id)]

    def to_context(self) -> TurnContext:
        """Return the parts of the turn that plugins may read."""
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
        """Unified message origin of the conversation."""
        session = self.session
        return make_umo(session.platform_id, session.session_id, self.request.username)

    @property
    def text(self) -> str:
        """Text of the user's message."""
        return self.request.text

    @property
    def subject(self) -> str:
        """Text for a title: the message's text, or the names of its files."""
        return self.text.strip() or ", ".join(row.name for row in self.sent)

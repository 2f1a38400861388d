"""What a messenger's adapter must be able to do, and the values it deals in.

An adapter is a module ``im/<type>.py`` with two names:

``SettingsSchema``
    A marshmallow schema of the bot's own keys in ``bots.toml`` (all but
    ``id``, ``type``, ``enabled`` and ``config``). A key whose field is a
    :class:`~astrbot_api.config.secrets.Secret` may also be written
    ``KEY_env = "VARIABLE"``; the adapter finds the value under ``KEY`` either
    way. One that holds a URL with a secret in it is a ``Secret``, too.
``build(bot, http)``
    Returns the bot's :class:`Adapter`. It asks nobody and starts nothing;
    ``http`` is the application's :class:`~astrbot_api.deliveries.http.PlatformHttp`.

Everything is synchronous and must not hold the hub: sockets are gevent's in a
gevent worker, work of size goes to :func:`astrbot_api.runtime.threads.run_native`.
An adapter is shared by the threads of a worker and keeps no state that
another worker would miss.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import marshmallow as ma

from ..config.files import DEFAULT_CONFIG_ID
from ..deliveries.attempts import Progress
from ..deliveries.http import PlatformError, PlatformHttp
from ..errors import AstrBotError
from ..files.storage.protocol import BlobReader

MessageType = Literal["FriendMessage", "GroupMessage", "OtherMessage"]

#: The kinds of conversation that a UMO names.
MESSAGE_TYPES: tuple[MessageType, ...] = ("FriendMessage", "GroupMessage", "OtherMessage")

FileType = Literal["image", "record", "video", "file"]

#: What an adapter may say of itself in ``capabilities``.
CAPABILITIES = frozenset({"text", "image", "record", "video", "file", "group", "reply", "typing"})


_PIECE_BYTES = 256 * 1024


class BadSignature(AstrBotError):
    """A platform's request is not proven to be the platform's: 401, nothing runs."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a message goes.

    :param session_id: The third part of the UMO, as the adapter made it when
        it received a message (or as a caller wrote it, unchecked).
    :param reply_to: The platform's id of the message that is answered; the
        adapter quotes it in the first piece where it can, else leaves it out.
    """

    message_type: MessageType
    session_id: str
    reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class OutFile:
    """A file to send.

    :param filename: As it is to be shown; without any path.
    :param mime: Found from the bytes.
    :param open: Opens the bytes from the first on; may be called again. It
        raises ``OSError`` or ``StorageError``: let them pass. Close the reader.
    """

    type: FileType
    filename: str
    mime: str
    size_bytes: int
    open: Callable[[], BlobReader]

    def iter_bytes(self) -> Iterator[bytes]:
        """Return the bytes in pieces, exactly as many as ``size_bytes``.

        :raises OSError: when there are fewer: the request would never end.
        """
        left = self.size_bytes
        reader = self.open()
        try:
            while left > 0:
                piece = reader.read(min(_PIECE_BYTES, left))
                if not piece:
                    raise OSError("a file to send ended too early")
                left -= len(piece)
                yield piece
        finally:
            reader.close()


@dataclass(frozen=True, slots=True)
class Choice:
    """An answer that a platform may show as a button below a message.

    :param label: The words on the button.
    :param text: What pressing it says, as if the person had written it; 64 bytes at most.
    """

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class OutMessage:
    """A message to send: texts (Markdown, as models write it) and files, in order.

    :param delivery_id: Stays the same when a delivery is tried again, for
        platforms that take an idempotency key. Append the part's number.
    :param choices: Buttons below the last part, where the platform has any; the text says how to
        answer without them.
    """

    parts: tuple[str | OutFile, ...]
    delivery_id: str = ""
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """The platform has the whole message.

    :param platform_ids: The platform's ids of what was made; may be empty.
    """

    platform_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InboundRequest:
    """A request to ``/api/v1/hooks/{bot_id}``, its body already bounded.

    :param headers: With lower-case names.
    :param query: The first value of each parameter.
    """

    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class InFile:
    """A file that came with a message.

    :param type: What the platform says it is; the bytes decide in the end.
    :param source: Where the platform has it, for :meth:`Adapter.open_file`.
        It is stored until the file is fetched, so it is no secret.
    :param data: The bytes, where the platform's request held them.
    """

    type: FileType
    filename: str
    source: str = ""
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class InMessage:
    """A message that somebody sent to the bot.

    :param event_id: Unique to this message of this bot; the platform's
        retries bear the same one.
    :param session_id: Becomes the third part of the UMO. Whatever
        :meth:`Adapter.send` needs to answer must be in it.
    :param sender_id: The platform's id of the sender, stable.
    :param text: Without the mention of the bot. A command keeps its slash and
        loses a bot's name behind it (``/help@my_bot`` is ``/help``).
    :param addressed: In a group: the bot was mentioned, answered or commanded.
        Always true between two. Only addressed messages are answered.
    :param quoted: Text of the message that this one answers.
    :param platform_message_id: What a reply names as ``Target.reply_to``.
    :param more: What the platform must still be asked for, in the adapter's own words, for
        :meth:`Adapter.complete`. It is stored until then, so it is no secret. Empty: nothing.
    """

    event_id: str
    message_type: MessageType
    session_id: str
    sender_id: str
    sender_name: str
    text: str
    files: tuple[InFile, ...] = ()
    addressed: bool = True
    quoted: str | None = None
    platform_message_id: str | None = None
    more: str = ""


@dataclass(frozen=True, slots=True)
class Reception:
    """What a platform's request held, and what it is answered.

    Events that are no messages (edits, joins, the bot's own words) are left
    out, with the same 200, or the platform would send them again.
    """

    messages: tuple[InMessage, ...] = ()
    status: int = 200
    body: bytes = field(default=b"")
    content_type: str = "text/plain; charset=utf-8"


class Adapter(Protocol):
    """One bot on one platform. Derive from :class:`BaseAdapter`."""

    #: As in ``bots.toml``.
    type: str
    capabilities: frozenset[str]
    #: Whether :meth:`poll` is to run; it then runs in exactly one worker.
    polls: bool

    def send(self, target: Target, message: OutMessage, *, progress: Progress) -> Receipt:
        """Send a whole message, in as many pieces as the platform wants.

        Calls ``progress`` after each piece that the platform confirmed,
        before the next is sent, the last one included. After a failure or a
        crash the caller sends what is left: an adapter sends the message that
        it is given, from its beginning, and never resumes or retries by
        itself. A file of a type outside ``capabilities`` is sent as a
        ``file``, or where there are none as one line with its name.

        :raises PlatformError: ``retryable`` when the same request may succeed
            later (429, 5xx, no connection); not for what stays wrong.
        """

    def receive(self, request: InboundRequest) -> Reception:
        """Read a platform's request. Quick: it asks nobody.

        :raises BadSignature: when it is not proven to be the platform's.
            Check this first, in constant time, before the body is parsed.
        """

    def complete(self, message: InMessage) -> InMessage:
        """Return a message with what its request did not hold: what it quotes or forwards.

        Called for messages with ``more``, as late as :meth:`open_file`. Bounded in time, calls
        and size: a sender chooses what is quoted.

        :raises PlatformError: the message is then answered as it is.
        """

    def open_file(self, source: str) -> BlobReader:
        """Open a file of a message that came in.

        It runs later, after the platform has had its answer, in any worker;
        the caller stops reading at the limit of uploads and closes the reader.
        Never fetch an address that a sender chose: only the platform's own.

        :param source: As in :class:`InFile`.
        :raises PlatformError: which is reported instead of the file.
        """

    def show_typing(self, target: Target) -> None:
        """Show that an answer is being written; called every few seconds.

        :raises PlatformError: which the caller ignores.
        """

    def poll(self, stop: threading.Event) -> Iterator[Sequence[InMessage]]:
        """Ask the platform for messages until ``stop`` is set.

        Yields each batch (an empty one when nothing came). That the next one
        is asked for says that the batch is stored: confirm it to the platform
        only then. Look at ``stop`` at least every 30 seconds.

        :raises PlatformError: the caller waits and polls again.
        """

    def close(self) -> None:
        """Let go of what :func:`build` took."""


class BaseAdapter:
    """What an adapter does that can only send."""

    type = ""
    capabilities: frozenset[str] = frozenset({"text"})
    polls = False

    def receive(self, request: InboundRequest) -> Reception:
        """Answer 405: nothing comes in by HTTP."""
        return Reception(status=405)

    def complete(self, message: InMessage) -> InMessage:
        """Return the message: its request held all of it."""
        return message

    def open_file(self, source: str) -> BlobReader:
        """Refuse: no message has a file."""
        raise PlatformError("this bot's messages have no files")

    def show_typing(self, target: Target) -> None:
        """Show nothing."""

    def poll(self, stop: threading.Event) -> Iterator[Sequence[InMessage]]:
        """Yield nothing."""
        return iter(())

    def close(self) -> None:
        """Do nothing."""


class AdapterModule(Protocol):
    """A module of this package, or an object of an embedder's own."""

    SettingsSchema: Callable[[], ma.Schema]

    def build(self, bot: Bot, http: PlatformHttp) -> Adapter:
        """Return the adapter of a bot.

        :raises SettingsError: for what a schema cannot check.
        """


@dataclass(frozen=True, slots=True)
class Bot:
    """One ``[[bot]]`` table.

    :param config: Id of the config that answers its inbound messages.
    :param allow: Ids of the senders and conversations that it answers; empty:
        everybody.
    :param proxy: Wins over the environment's; empty: none. None: the environment's.
    :param settings: What its adapter's schema loaded, defaults filled in and
        secrets resolved.
    :param fault: What is wrong with it; one line. Such a bot is listed, and
        refused by name.
    """

    id: str
    type: str
    enabled: bool = True
    config: str = DEFAULT_CONFIG_ID
    allow: frozenset[str] = frozenset()
    proxy: str | None = field(default=None, repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    fault: str = ""

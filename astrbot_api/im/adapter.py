"""Interface of a messenger's adapter, and the values it uses.

An adapter is a module with two names:

``SettingsSchema``
    A marshmallow schema of the bot's own keys in ``bots.toml`` (all but
    ``id``, ``type``, ``enabled`` and ``config``). A key whose field is a
    :class:`~astrbot_api.config.secrets.Secret` may also be written
    ``KEY_env = "VARIABLE"``; the adapter finds the value under ``KEY`` either
    way. A setting whose URL contains a secret is also a ``Secret``.
``build(bot, http)``
    Returns the bot's :class:`Adapter`. It sends no request and starts no thread.
    ``http`` is the application's :class:`~astrbot_api.deliveries.http.PlatformHttp`.

Everything is synchronous and must not block the event loop. In a gevent worker, sockets
are cooperative; run heavy computation in :func:`astrbot_api.runtime.threads.run_native`.
The threads of a worker share an adapter. It keeps no state that other workers need.
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

MESSAGE_TYPES: tuple[MessageType, ...] = ("FriendMessage", "GroupMessage", "OtherMessage")

FileType = Literal["image", "record", "video", "file"]

_PIECE_BYTES = 256 * 1024


class BadSignature(AstrBotError):
    """Raised when a platform's request has no valid signature. Answered with 401."""


@dataclass(frozen=True, slots=True)
class Target:
    """The conversation that receives a message.

    :param session_id: Third part of the UMO, as the adapter created it for an incoming message.
        A caller may also pass an unchecked value.
    :param reply_to: The platform's id of the message to reply to. The adapter quotes it in the
        first piece if the platform allows it, and otherwise ignores it.
    """

    message_type: MessageType
    session_id: str
    reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class OutFile:
    """A file to send.

    :param filename: Display name, without a path.
    :param mime: MIME type detected from the bytes.
    :param open: Opens the bytes from the start. May be called several times. The caller closes
        the reader and does not catch its ``OSError`` or ``StorageError``.
    """

    type: FileType
    filename: str
    mime: str
    size_bytes: int
    open: Callable[[], BlobReader]

    def iter_bytes(self) -> Iterator[bytes]:
        """Yield exactly ``size_bytes`` bytes in pieces.

        :raises OSError: if the file is shorter. The request would otherwise never end.
        """
        left = self.size_bytes
        reader = self.open()
        try:
            while left > 0:
                piece = reader.read(min(_PIECE_BYTES, left))
                if not piece:
                    raise OSError("the file to send is shorter than its recorded size")
                left -= len(piece)
                yield piece
        finally:
            reader.close()


@dataclass(frozen=True, slots=True)
class Choice:
    """An answer that a platform may show as a button below a message.

    :param label: Text on the button.
    :param text: Message that a press sends in the user's name, at most 64 bytes.
    """

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class OutMessage:
    """A message to send: texts (Markdown as models write it) and files, in order.

    :param delivery_id: Stays the same when a delivery is retried, for platforms that accept an
        idempotency key. Append the part's number.
    :param choices: Buttons below the last part, on platforms that have buttons. The text
        explains how to answer without them.
    """

    parts: tuple[str | OutFile, ...]
    delivery_id: str = ""
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """Confirmation that the platform accepted the whole message.

    :param platform_ids: The platform's ids of the created messages. May be empty.
    """

    platform_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InboundRequest:
    """A request to ``/api/v1/hooks/{bot_id}``. Its body size is already limited.

    :param headers: Headers with lower-case names.
    :param query: First value of each query parameter.
    """

    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class InFile:
    """A file of an incoming message.

    :param type: File type that the platform reports. The server detects the final type.
    :param source: The platform's location of the file, for :meth:`Adapter.open_file`. It is
        stored until the file is fetched, so it must not contain a secret.
    :param data: The bytes, if the platform's request contained them.
    """

    type: FileType
    filename: str
    source: str = ""
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class InMessage:
    """An incoming message.

    :param event_id: Unique among this bot's messages. The platform's retries have the same id.
    :param session_id: Becomes the third part of the UMO. It must contain everything that
        :meth:`Adapter.send` needs for the reply.
    :param sender_id: The platform's stable id of the sender.
    :param text: Text without the mention of the bot. A command keeps its slash and loses the
        bot's name (``/help@my_bot`` becomes ``/help``).
    :param addressed: Whether the bot was mentioned, replied to or commanded in a group. Always
        true in a private chat. Only addressed messages are answered.
    :param quoted: Text of the message that this one replies to. Without text and files, the
        message is about that one.
    :param platform_message_id: Used as ``Target.reply_to`` of the reply.
    :param album: Id of the album that this message is a part of, within its conversation. The
        parts become one message. Also return those that are not addressed.
    :param more: References that :meth:`Adapter.complete` fetches later, in the adapter's own
        format. Stored until then, so it must not contain a secret. Empty if there are none.
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
    album: str = ""


@dataclass(frozen=True, slots=True)
class Reception:
    """Messages of a platform's request, and the response to it.

    Other events (edits, joins, the bot's own messages) are skipped and also answered with 200.
    Otherwise the platform would redeliver them.
    """

    messages: tuple[InMessage, ...] = ()
    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


class Adapter:
    """One bot on one platform. The methods other than :meth:`send` suit a bot that only sends."""

    #: Type in ``bots.toml``.
    type = ""
    #: Of ``text``, the file types, ``group``, ``reply`` and ``typing``.
    capabilities: frozenset[str] = frozenset({"text"})
    #: Whether to run :meth:`poll`. It runs in exactly one worker.
    polls = False

    def send(self, target: Target, message: OutMessage, *, progress: Progress) -> Receipt:
        """Send a whole message, in as many pieces as the platform needs.

        Call ``progress`` with a :class:`~astrbot_api.deliveries.attempts.Sent` after each piece
        that the platform confirmed, including the last one, before the next piece is sent. After a
        failure or a crash the caller sends the rest as a new message. An adapter always sends the
        given message from its beginning, and never resumes or retries. A file whose type is not in
        ``capabilities`` is sent as a ``file``. If the platform has no files, send one line with its
        name.

        :raises PlatformError: with ``retryable`` set if the same request may succeed later (429,
            5xx, connection errors), and unset for permanent errors.
        """
        raise NotImplementedError

    def receive(self, request: InboundRequest) -> Reception:
        """Parse a platform's request. Must be fast and send no requests. By default respond 405.

        :raises BadSignature: if the signature is not valid. Check it first, in constant time,
            before the body is parsed.
        """
        return Reception(status=405)

    def complete(self, message: InMessage) -> InMessage:
        """Fetch the messages that a message quotes or forwards, and return the message with them.

        Called for messages with ``more``, in the same place as :meth:`open_file`. The sender
        chooses the references, so limit time, calls and size.

        :raises PlatformError: The message is then answered without its references.
        """
        return message

    def open_file(self, source: str) -> BlobReader:
        """Open a file of an incoming message.

        Called later, in any worker, after the platform received its response. The caller stops
        reading at the upload limit and closes the reader. Fetch only the platform's own addresses,
        never an address that a sender chose.

        :param source: Location, as in :class:`InFile`.
        :raises PlatformError: The error text then replaces the file.
        """
        raise PlatformError("this bot's messages have no files")

    def show_typing(self, target: Target) -> None:
        """Show a typing indicator. Called every few seconds.

        :raises PlatformError: The caller ignores it.
        """

    def poll(self, stop: threading.Event) -> Iterator[Sequence[InMessage]]:
        """Poll the platform for messages until ``stop`` is set.

        Yields each batch, including empty ones. The caller asks for the next batch after it has
        stored the previous one. Confirm a batch to the platform only then. Check ``stop`` at least
        every 30 seconds.

        :raises PlatformError: The caller waits and polls again.
        """
        return iter(())

    def close(self) -> None:
        """Release the resources that :func:`build` acquired."""


#: The name under which adapters of embedding applications import the base class.
BaseAdapter = Adapter


class AdapterModule(Protocol):
    """A module of this package, or an object that an embedder supplies."""

    SettingsSchema: Callable[[], ma.Schema]

    def build(self, bot: Bot, http: PlatformHttp) -> Adapter:
        """Return the adapter of a bot.

        :raises SettingsError: for errors that the schema cannot detect.
        """


@dataclass(frozen=True, slots=True)
class Bot:
    """One ``[[bot]]`` table.

    :param config: Id of the agent config that answers incoming messages.
    :param allow: Ids of the senders and conversations that the bot answers. Empty allows all.
    :param proxy: Proxy address. Empty disables the environment's proxy, None uses it.
    :param settings: Settings loaded by the adapter's schema, with defaults and secrets filled in.
    :param fault: Configuration error, in one line, or empty. A bot with an error is listed, but
        cannot be used.
    """

    id: str
    type: str
    enabled: bool = True
    config: str = DEFAULT_CONFIG_ID
    allow: frozenset[str] = frozenset()
    proxy: str | None = field(default=None, repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    fault: str = ""

"""A messenger that a test controls."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import marshmallow as ma
import orjson

from astrbot_api.config.secrets import Secret
from astrbot_api.deliveries.attempts import Progress, Sent
from astrbot_api.deliveries.http import PlatformHttp
from astrbot_api.im.adapter import (
    BadSignature,
    BaseAdapter,
    Bot,
    InboundRequest,
    InFile,
    InMessage,
    OutFile,
    OutMessage,
    Receipt,
    Reception,
    Target,
)


class FakeMessengerSettings(ma.Schema):
    """The token that signs requests, and whether the bot polls."""

    token = Secret(load_default="")
    polls = ma.fields.Boolean(load_default=False)


class FakeMessenger:
    """Module of an adapter. ``sent`` lists the delivered messages in order."""

    SettingsSchema = FakeMessengerSettings

    def __init__(self) -> None:
        self.sent: list[tuple[Target, str]] = []
        self.typing: list[Target] = []
        #: Called before each part is sent. Raises the platform's errors.
        self.before_part: Callable[[Target, str], None] = lambda target, text: None
        self.inbox: list[InMessage] = []
        self.polling = threading.Event()

    def build(self, bot: Bot, http: PlatformHttp) -> FakeMessengerAdapter:
        """Return the adapter of a bot."""
        return FakeMessengerAdapter(self, bot)

    def texts(self) -> list[str]:
        """Return the delivered messages without their targets."""
        return [text for _, text in self.sent]


class FakeMessengerAdapter(BaseAdapter):
    """Sends texts in parts of 100 characters, to report progress."""

    type = "fake"
    capabilities = frozenset({"text", "image", "file", "group", "reply", "typing"})

    def __init__(self, messenger: FakeMessenger, bot: Bot) -> None:
        self._messenger = messenger
        self._token: str = bot.settings["token"]
        self.polls = bot.settings["polls"]

    def send(self, target: Target, message: OutMessage, *, progress: Progress) -> Receipt:
        """Send the parts one after another, texts in parts of 100 characters."""
        for part in message.parts:
            pieces = [_read(part)] if isinstance(part, OutFile) else _cut(part)
            for number, piece in enumerate(pieces, 1):
                self._messenger.before_part(target, piece)
                self._messenger.sent.append((target, piece))
                last = number == len(pieces)
                progress(
                    Sent(int(last), 0 if last else len(piece), (f"p{len(self._messenger.sent)}",))
                )
        return Receipt()

    def receive(self, request: InboundRequest) -> Reception:
        """Read ``{"event","sender","session","text",…}``, signed by the token itself."""
        if not hmac.compare_digest(request.headers.get("x-token", ""), self._token):
            raise BadSignature("the token is wrong")
        value = orjson.loads(request.body)
        if "challenge" in value:
            return Reception(body=value["challenge"].encode())
        return Reception((to_message(value),), body=b"received")

    def open_file(self, source: str) -> _Bytes:
        """Open the file. Its address contains its bytes."""
        return _Bytes(source.encode())

    def show_typing(self, target: Target) -> None:
        """Record the call."""
        self._messenger.typing.append(target)

    def poll(self, stop: threading.Event) -> Iterator[Sequence[InMessage]]:
        """Yield the messages that a test puts into the inbox."""
        self._messenger.polling.set()
        while not stop.is_set():
            found, self._messenger.inbox[:] = list(self._messenger.inbox), []
            yield found
            stop.wait(0.02)


def to_message(value: dict[str, Any]) -> InMessage:
    """Convert a dictionary to a message."""
    group = value.get("group", False)
    return InMessage(
        event_id=value["event"],
        message_type="GroupMessage" if group else "FriendMessage",
        session_id=value.get("session", "s1"),
        sender_id=value.get("sender", "u1"),
        sender_name=value.get("name", "Ulla"),
        text=value.get("text", ""),
        files=tuple(InFile("file", name, data) for name, data in value.get("files", {}).items()),
        addressed=value.get("addressed", True),
        quoted=value.get("quoted"),
        platform_message_id=value.get("number"),
        album=value.get("album", ""),
    )


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size_bytes: int, /) -> bytes:
        piece, self._data = self._data[:size_bytes], self._data[size_bytes:]
        return piece

    def close(self) -> None:
        pass


def _cut(text: str) -> list[str]:
    return [text[at : at + 100] for at in range(0, len(text), 100)] or [""]


def _read(file: OutFile) -> str:
    reader = file.open()
    try:
        return f"{file.type} {file.filename} {reader.read(file.size_bytes).decode()}"
    finally:
        reader.close()

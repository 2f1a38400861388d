"""Helpers of the tests of messengers' adapters."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from astrbot_api.deliveries.attempts import Sent
from astrbot_api.deliveries.http import PlatformHttp
from astrbot_api.im.adapter import (
    Adapter,
    InboundRequest,
    InFile,
    OutFile,
    OutMessage,
    Receipt,
    Target,
)
from astrbot_api.im.botfile import read_bot
from astrbot_api.im.registry import AdapterTypes
from astrbot_api.testing import FakeOneBot, FakeSlack

#: Minimal valid pictures, recordings and documents.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360"
    "60606000000005000105d4a9e40000000049454e44ae426082"
)
OGG = b"OggS" + bytes(60)
PDF = b"%PDF-1.4\n%%EOF\n"


@contextmanager
def open_adapter(type: str, **settings: Any) -> Iterator[Adapter]:
    """Return the adapter of a bot with these settings, as from ``bots.toml``."""
    types = AdapterTypes()
    bot = read_bot({"id": "bot", "type": type, **settings}, types)
    http = PlatformHttp()
    try:
        adapter = types.load(type).build(bot, http)
        yield adapter
        adapter.close()
    finally:
        http.close()


def open_onebot(fake: FakeOneBot) -> AbstractContextManager[Adapter]:
    """Return the adapter of a bot that uses a fake OneBot."""
    return open_adapter(
        "onebot", base_url=fake.url, access_token=fake.access_token, secret=fake.secret
    )


def open_slack(fake: FakeSlack) -> AbstractContextManager[Adapter]:
    """Return the adapter of a bot that uses a fake Slack."""
    return open_adapter(
        "slack", token=fake.token, signing_secret=fake.signing_secret, base_url=fake.base_url
    )


def make_file(type: Any, filename: str, mime: str, data: bytes) -> OutFile:
    """Return a file to send."""
    return OutFile(type, filename, mime, len(data), lambda: io.BytesIO(data))


PICTURE = make_file("image", "red.png", "image/png", PNG)
RECORDING = make_file("record", "hi.ogg", "audio/ogg", OGG)
DOCUMENT = make_file("file", "报告.pdf", "application/pdf", PDF)


class Outbox:
    """Sends with an adapter and records the confirmed parts."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.sent: list[Sent] = []

    def send(
        self,
        *parts: str | OutFile,
        to: str,
        type: Any = "FriendMessage",
        reply_to: str | None = None,
        delivery_id: str = "d1",
    ) -> Receipt:
        return self.adapter.send(
            Target(type, to, reply_to), OutMessage(parts, delivery_id), progress=self.sent.append
        )

    @property
    def steps(self) -> list[tuple[int, int]]:
        """Parts and characters of each confirmation."""
        return [(one.parts, one.chars) for one in self.sent]


def make_request(
    headers: Mapping[str, str], body: bytes, query: Mapping[str, str] | None = None
) -> InboundRequest:
    """Return a request to the bot's hook."""
    lowered = {name.lower(): value for name, value in headers.items()}
    return InboundRequest("POST", lowered, query or {}, body)


def read_all(adapter: Adapter, file: InFile) -> bytes:
    """Return the bytes of a received file."""
    reader = adapter.open_file(file.source)
    try:
        pieces = []
        while piece := reader.read(65536):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        reader.close()

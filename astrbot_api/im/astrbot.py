"""Send-only adapter for a bot of an AstrBot server, through ``POST /api/v1/im/message``.

The bot's id is the same there, unless ``bot_id`` is set. AstrBot itself answers the messages
that users send to that bot.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

import marshmallow as ma

from ..config.secrets import Secret
from ..config.tables import BaseUrl
from ..config.upstream import API_PATHS, UpstreamConfig
from ..deliveries.attempts import Progress, Sent
from ..deliveries.http import PlatformError, PlatformHttp
from ..errors import ProviderError
from ..runtime.outbound import Call
from ..upstream.client import AstrBotClient, UpstreamFile
from ..upstream.transport import UpstreamError, UpstreamRefusal
from .adapter import Adapter, Bot, OutFile, OutMessage, Receipt, Target

#: Timeout of one request with its uploads, in seconds.
_LIMIT_S = 300.0

_UNKNOWN = "AstrBot did not respond. It may have sent the message, so it is not sent again."


class SettingsSchema(ma.Schema):
    """Settings of a bot of type ``astrbot``."""

    base_url = BaseUrl(*API_PATHS, required=True)
    api_key = Secret(required=True)
    bot_id = ma.fields.String(load_default="", validate=ma.validate.Length(max=100))


def build(bot: Bot, http: PlatformHttp) -> AstrBotAdapter:
    """Return the adapter of a bot, without any request."""
    settings = bot.settings
    upstream = UpstreamConfig(
        base_url=settings["base_url"],
        api_key=settings["api_key"],
        proxy=bot.proxy,
        timeout_s=60.0,
    )
    return AstrBotAdapter(settings["bot_id"] or bot.id, AstrBotClient(upstream))


class AstrBotAdapter(Adapter):
    """A bot that an AstrBot server runs."""

    type = "astrbot"
    capabilities = frozenset({"text", "image", "record", "video", "file", "group"})

    def __init__(self, bot_id: str, client: AstrBotClient) -> None:
        self._bot_id = bot_id
        self._client = client

    def send(self, target: Target, message: OutMessage, *, progress: Progress) -> Receipt:
        """Upload the files, then send the message in one request."""
        umo = f"{self._bot_id}:{target.message_type}:{target.session_id}"
        try:
            parts = [self._to_segment(part) for part in message.parts]
        except UpstreamRefusal as error:
            raise PlatformError(error.message) from error
        except ProviderError as error:
            raise PlatformError(error.message, retryable=True) from error
        try:
            self._client.push(umo, parts, Call(limit_s=_LIMIT_S))
        except UpstreamRefusal as error:
            raise PlatformError(error.message) from error
        except UpstreamError as error:
            if error.sent:
                raise PlatformError(_UNKNOWN) from error
            raise PlatformError(error.message, retryable=True) from error
        progress(Sent(parts=len(parts)))
        return Receipt()

    def close(self) -> None:
        self._client.close()

    def _to_segment(self, part: str | OutFile) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "plain", "text": part}
        with closing(part.iter_bytes()) as chunks, Call(limit_s=_LIMIT_S) as call:  # type: ignore[type-var]
            file = UpstreamFile(part.filename, part.mime, part.size_bytes, chunks)
            return {"type": part.type, "attachment_id": self._client.upload(file, call)}

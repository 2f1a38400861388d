"""Telegram adapter, through the Bot API: https://core.telegram.org/bots/api"""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ...config.secrets import Secret
from ...config.tables import BaseUrl
from ...deliveries.http import PlatformHttp
from ..adapter import Bot
from ..piecewise import PiecewiseSettings
from .adapter import TelegramAdapter
from .api import DEFAULT_BASE_URL


class SettingsSchema(PiecewiseSettings):
    """Settings of a Telegram bot."""

    #: The token from @BotFather. Never show it: it grants full control of the bot.
    token = Secret(
        required=True,
        validate=ma.validate.Regexp(
            r"\d+:[A-Za-z0-9_-]+\Z", error="must be the token from @BotFather, as in 123:ABC"
        ),
    )
    updates = ma.fields.String(
        load_default="polling", validate=ma.validate.OneOf(("polling", "webhook", "off"))
    )
    webhook_secret = Secret(
        load_default="",
        validate=ma.validate.Regexp(
            r"[A-Za-z0-9_-]{0,256}\Z", error="must be 1 to 256 letters, digits, _ and -"
        ),
    )
    username = ma.fields.String(
        load_default="",
        validate=ma.validate.Regexp(r"@?\w{0,64}\Z", error="must be the bot's name, as in @my_bot"),
    )
    base_url = BaseUrl(load_default=DEFAULT_BASE_URL)
    timeout_s = ma.fields.Integer(load_default=30, validate=ma.validate.Range(1, 600))

    @ma.validates_schema
    def check_webhook(self, data: dict[str, Any], **_: Any) -> None:
        """Require the webhook's secret: its URL alone must not grant access."""
        if data.get("updates") != "webhook":
            return
        if not data.get("webhook_secret"):
            raise ma.ValidationError(
                'required with updates = "webhook"; choose a random text and pass it to setWebhook '
                "as secret_token",
                "webhook_secret",
            )
        if not data.get("username"):
            raise ma.ValidationError(
                'required with updates = "webhook": the bot\'s name, to detect mentions in groups',
                "username",
            )


def build(bot: Bot, http: PlatformHttp) -> TelegramAdapter:
    """Return the adapter of a bot, without any request."""
    return TelegramAdapter(bot.settings, http)

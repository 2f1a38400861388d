"""Telegram, through its Bot API: https://core.telegram.org/bots/api"""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ...config.secrets import Secret
from ...deliveries.http import PlatformHttp
from ..adapter import Bot
from ..piecewise import PiecewiseSettings
from .adapter import TelegramAdapter
from .api import DEFAULT_BASE_URL


class SettingsSchema(PiecewiseSettings):
    """Settings of a Telegram bot."""

    #: What @BotFather gave. Never shown: it is the whole secret.
    token = Secret(
        required=True,
        validate=ma.validate.Regexp(
            r"\d+:[A-Za-z0-9_-]+\Z", error="must be as @BotFather gave it: digits, a colon, letters"
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
    base_url = ma.fields.Url(
        load_default=DEFAULT_BASE_URL, schemes={"http", "https"}, require_tld=False
    )
    timeout_s = ma.fields.Integer(load_default=30, validate=ma.validate.Range(1, 600))

    @ma.validates_schema
    def check_webhook(self, data: dict[str, Any], **_: Any) -> None:
        """Require the secret of a webhook: its address alone must not be enough."""
        if data.get("updates") != "webhook":
            return
        if not data.get("webhook_secret"):
            raise ma.ValidationError(
                'required with updates = "webhook"; make one up and give it to setWebhook as '
                "secret_token",
                "webhook_secret",
            )
        if not data.get("username"):
            raise ma.ValidationError(
                'required with updates = "webhook": the bot\'s name, to know when a group '
                "speaks to it",
                "username",
            )


def build(bot: Bot, http: PlatformHttp) -> TelegramAdapter:
    """Return the adapter of a bot; asks nobody."""
    return TelegramAdapter(bot.settings, http)

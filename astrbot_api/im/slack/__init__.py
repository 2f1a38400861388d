"""Slack adapter, through the Web API and the Events API: https://docs.slack.dev"""

from __future__ import annotations

import marshmallow as ma

from ...config.secrets import Secret
from ...config.tables import BaseUrl
from ...deliveries.http import PlatformHttp
from ..adapter import Bot
from ..piecewise import PiecewiseSettings
from .adapter import SlackAdapter


class SettingsSchema(PiecewiseSettings):
    """Settings of a Slack bot."""

    token = Secret(
        required=True,
        validate=ma.validate.Regexp(
            r"xox[a-z]-[\x21-\x7e]+\Z", error="must be the bot's token, which begins with xoxb-"
        ),
    )
    #: Key for the signatures of events. Without it, every event is rejected.
    signing_secret = Secret(load_default="")
    #: Whether the reply to a mention in a channel starts a thread.
    threads = ma.fields.Boolean(load_default=True)
    base_url = BaseUrl(load_default="https://slack.com/api")
    timeout_s = ma.fields.Integer(load_default=30, validate=ma.validate.Range(1, 600))


def build(bot: Bot, http: PlatformHttp) -> SlackAdapter:
    """Return the adapter of a bot, without any request."""
    return SlackAdapter(bot.settings, http)

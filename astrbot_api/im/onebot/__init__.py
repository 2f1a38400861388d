"""QQ adapter, through OneBot 11 (NapCat, Lagrange, go-cqhttp).

Source: https://github.com/botuniverse/onebot-11
"""

from __future__ import annotations

import marshmallow as ma

from ...config.secrets import Secret
from ...config.tables import BaseUrl
from ...deliveries.http import PlatformHttp
from ..adapter import Bot
from ..piecewise import PiecewiseSettings
from .adapter import OneBotAdapter

_QQ_HOSTS = ("qq.com", "qq.com.cn", "qpic.cn")


class SettingsSchema(PiecewiseSettings):
    """Settings of a OneBot 11 bot."""

    base_url = BaseUrl(required=True)
    access_token = Secret(load_default="")
    #: Key for the signatures of events. Without it, every event is rejected.
    secret = Secret(load_default="")
    max_file_mb = ma.fields.Integer(load_default=30, validate=ma.validate.Range(1, 1000))
    file_hosts = ma.fields.List(ma.fields.String(), load_default=lambda: list(_QQ_HOSTS))
    timeout_s = ma.fields.Integer(load_default=60, validate=ma.validate.Range(1, 600))


def build(bot: Bot, http: PlatformHttp) -> OneBotAdapter:
    """Return the adapter of a bot, without any request."""
    return OneBotAdapter(bot.settings, http)

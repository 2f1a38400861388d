"""QQ through OneBot 11 (NapCat, Lagrange, go-cqhttp): https://github.com/botuniverse/onebot-11"""

from __future__ import annotations

import marshmallow as ma

from ...config.secrets import Secret
from ...deliveries.http import PlatformHttp
from ..adapter import Bot
from ..piecewise import PiecewiseSettings
from .adapter import OneBotAdapter

#: Where QQ keeps the files of its messages.
_QQ_HOSTS = ("qq.com", "qq.com.cn", "qpic.cn")


class SettingsSchema(PiecewiseSettings):
    """Settings of a OneBot 11 bot."""

    base_url = ma.fields.Url(required=True, schemes={"http", "https"}, require_tld=False)
    access_token = Secret(load_default="")
    #: Key of the signatures of events; without it no event is taken.
    secret = Secret(load_default="")
    max_file_mb = ma.fields.Integer(load_default=30, validate=ma.validate.Range(1, 1000))
    file_hosts = ma.fields.List(ma.fields.String(), load_default=lambda: list(_QQ_HOSTS))
    timeout_s = ma.fields.Integer(load_default=60, validate=ma.validate.Range(1, 600))


def build(bot: Bot, http: PlatformHttp) -> OneBotAdapter:
    """Return the adapter of a bot; asks nobody."""
    return OneBotAdapter(bot.settings, http)

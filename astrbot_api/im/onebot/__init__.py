"""QQ through OneBot 11 (NapCat, Lagrange, go-cqhttp): https://github.com/botuniverse/onebot-11"""

from __future__ import annotations

from ...deliveries.http import PlatformHttp
from ..adapter import Bot
from .adapter import OneBotAdapter
from .settings import SettingsSchema

__all__ = ["SettingsSchema", "build"]


def build(bot: Bot, http: PlatformHttp) -> OneBotAdapter:
    """Return the adapter of a bot; asks nobody."""
    return OneBotAdapter(bot.settings, http)

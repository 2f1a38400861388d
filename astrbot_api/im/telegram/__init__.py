"""Telegram, through its Bot API: https://core.telegram.org/bots/api"""

from __future__ import annotations

from ...deliveries.http import PlatformHttp
from ..adapter import Bot
from .adapter import TelegramAdapter
from .settings import SettingsSchema

__all__ = ["SettingsSchema", "build"]


def build(bot: Bot, http: PlatformHttp) -> TelegramAdapter:
    """Return the adapter of a bot; asks nobody."""
    return TelegramAdapter(bot.settings, http)

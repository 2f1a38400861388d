"""Slack, through its Web API and its Events API: https://docs.slack.dev"""

from __future__ import annotations

from ...deliveries.http import PlatformHttp
from ..adapter import Bot
from .adapter import SlackAdapter
from .settings import SettingsSchema

__all__ = ["SettingsSchema", "build"]


def build(bot: Bot, http: PlatformHttp) -> SlackAdapter:
    """Return the adapter of a bot; asks nobody."""
    return SlackAdapter(bot.settings, http)

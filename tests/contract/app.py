"""The application of the contract tests: ours, with the recorded server's tool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from flask import Flask

from astrbot_api import AstrBotAPI, Tool, ToolContext, create_app
from astrbot_api.deliveries.attempts import Progress
from astrbot_api.deliveries.http import PlatformError, PlatformHttp
from astrbot_api.im.adapter import BaseAdapter, Bot, OutMessage, Receipt, Target


def _future_task(arguments: Mapping[str, Any], context: ToolContext) -> str:
    """Return the recorded result of the tool for an empty call."""
    return "error: action must be one of create, edit, delete, or list."


class _Unconnected(BaseAdapter):
    """The recorded server's bot, which ran without a connected client."""

    type = "onebot"

    def send(self, target: Target, message: OutMessage, *, progress: Progress) -> Receipt:
        """Send nothing."""
        if not target.session_id.isdecimal():
            raise PlatformError("the session_id is no number")
        raise PlatformError("no client is connected")


class _OneBot:
    """The module of that adapter."""

    SettingsSchema = ma.Schema

    def build(self, bot: Bot, http: PlatformHttp) -> _Unconnected:
        """Return the adapter."""
        return _Unconnected()


def create_contract_app() -> Flask:
    """Return the application with the tool and the bot of the recordings."""
    tool = Tool("future_task", "Manage tasks for later.", _future_task)
    return create_app(api=AstrBotAPI(tools=[tool], adapters={"onebot": _OneBot()}))

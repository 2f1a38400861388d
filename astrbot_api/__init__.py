"""The AstrBot HTTP API for Flask: a server, and blueprints for your own app.

::

    from flask import Flask
    from astrbot_api import AstrBotAPI

    app = Flask(__name__)
    AstrBotAPI(app)
"""

from __future__ import annotations

from .agent.cancel import Cancellation
from .agent.loop import ToolFinished, ToolStarted
from .agent.own import Agent
from .agent.provider import (
    Delta,
    ModelMessage,
    ModelOptions,
    Provider,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
    Usage,
)
from .agent.schema import tool
from .agent.tools import Tool, ToolAttachment, ToolContext
from .app import create_app
from .chat.commands import Command, CommandContext
from .config import Settings
from .errors import (
    ApiError,
    AstrBotError,
    ProviderError,
    RunCancelled,
    SettingsError,
    StorageError,
    ToolError,
)
from .extension import AppState, AstrBotAPI
from .http.auth import HostUser
from .http.operations.routes import build_operations
from .plugins.context import Handled, Host, TurnContext
from .plugins.hookspecs import hookimpl
from .tracing import Span

__all__ = [
    "Agent",
    "ApiError",
    "AppState",
    "AstrBotAPI",
    "AstrBotError",
    "Cancellation",
    "Command",
    "CommandContext",
    "Delta",
    "Handled",
    "Host",
    "HostUser",
    "ModelMessage",
    "ModelOptions",
    "Provider",
    "ProviderError",
    "ReasoningDelta",
    "RunCancelled",
    "Settings",
    "SettingsError",
    "Span",
    "StorageError",
    "TextDelta",
    "Tool",
    "ToolAttachment",
    "ToolCallDelta",
    "ToolContext",
    "ToolError",
    "ToolFinished",
    "ToolSpec",
    "ToolStarted",
    "TurnContext",
    "Usage",
    "build_operations",
    "create_app",
    "hookimpl",
    "tool",
]

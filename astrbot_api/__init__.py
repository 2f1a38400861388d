"""The AstrBot HTTP API for Flask: a server, and blueprints for your own app.

::

    from flask import Flask
    from astrbot_api import AstrBotAPI

    app = Flask(__name__)
    AstrBotAPI(app)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agent.cancel import Cancellation
    from .agent.custom_agent import Agent
    from .agent.progress import ToolProgress
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
    from .agent.steps import ToolFinished, ToolStarted
    from .agent.tools import Tool, ToolAttachment, ToolContext
    from .app import create_app
    from .chat.turns.commands import AskModel, Command, CommandContext
    from .config.settings import Settings
    from .errors import (
        ApiError,
        AstrBotError,
        ProviderError,
        RunCancelled,
        SettingsError,
        StorageError,
        ToolError,
    )
    from .extension import AstrBotAPI, with_app_context
    from .http.extensions.sites import RouteCaller, public_route
    from .http.operations.routes import build_operations
    from .keys.caller import HostUser
    from .plugins.context import Handled, Host, TurnContext
    from .plugins.hookspecs import hookimpl
    from .runtime.tracing import Span
    from .state import AppState

#: Where each public name is defined. Importing the package imports none of it.
_HOMES = {
    "Agent": "agent.custom_agent",
    "ApiError": "errors",
    "AppState": "state",
    "AskModel": "chat.turns.commands",
    "AstrBotAPI": "extension",
    "AstrBotError": "errors",
    "Cancellation": "agent.cancel",
    "Command": "chat.turns.commands",
    "CommandContext": "chat.turns.commands",
    "Delta": "agent.provider",
    "Handled": "plugins.context",
    "Host": "plugins.context",
    "HostUser": "keys.caller",
    "ModelMessage": "agent.provider",
    "ModelOptions": "agent.provider",
    "Provider": "agent.provider",
    "ProviderError": "errors",
    "ReasoningDelta": "agent.provider",
    "RouteCaller": "http.extensions.sites",
    "RunCancelled": "errors",
    "Settings": "config.settings",
    "SettingsError": "errors",
    "Span": "runtime.tracing",
    "StorageError": "errors",
    "TextDelta": "agent.provider",
    "Tool": "agent.tools",
    "ToolAttachment": "agent.tools",
    "ToolCallDelta": "agent.provider",
    "ToolContext": "agent.tools",
    "ToolError": "errors",
    "ToolFinished": "agent.steps",
    "ToolProgress": "agent.progress",
    "ToolSpec": "agent.provider",
    "ToolStarted": "agent.steps",
    "TurnContext": "plugins.context",
    "Usage": "agent.provider",
    "build_operations": "http.operations.routes",
    "create_app": "app",
    "hookimpl": "plugins.hookspecs",
    "public_route": "http.extensions.sites",
    "tool": "agent.schema",
    "with_app_context": "extension",
}

__all__ = [
    "Agent",
    "ApiError",
    "AppState",
    "AskModel",
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
    "RouteCaller",
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
    "ToolProgress",
    "ToolSpec",
    "ToolStarted",
    "TurnContext",
    "Usage",
    "build_operations",
    "create_app",
    "hookimpl",
    "public_route",
    "tool",
    "with_app_context",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562)."""
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

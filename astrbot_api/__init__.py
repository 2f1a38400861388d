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
    from .agent.steps import ToolFinished, ToolProgress, ToolStarted
    from .agent.tools import Tool, ToolAttachment, ToolContext
    from .app import create_app
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
    from .plugins.commands import AskModel, Command, CommandContext
    from .plugins.context import Handled, Host, TurnContext
    from .plugins.hookspecs import hookimpl
    from .runtime.threads import run_async
    from .runtime.tracing import Span
    from .state import AppState

#: Module of each public name. Importing the package imports none of them.
_NAMES = {
    "agent.cancel": ("Cancellation",),
    "agent.custom_agent": ("Agent",),
    "agent.provider": (
        "Delta",
        "ModelMessage",
        "ModelOptions",
        "Provider",
        "ReasoningDelta",
        "TextDelta",
        "ToolCallDelta",
        "ToolSpec",
        "Usage",
    ),
    "agent.schema": ("tool",),
    "agent.steps": ("ToolFinished", "ToolProgress", "ToolStarted"),
    "agent.tools": ("Tool", "ToolAttachment", "ToolContext"),
    "app": ("create_app",),
    "plugins.commands": ("AskModel", "Command", "CommandContext"),
    "config.settings": ("Settings",),
    "errors": (
        "ApiError",
        "AstrBotError",
        "ProviderError",
        "RunCancelled",
        "SettingsError",
        "StorageError",
        "ToolError",
    ),
    "extension": ("AstrBotAPI", "with_app_context"),
    "http.extensions.sites": ("RouteCaller", "public_route"),
    "http.operations.routes": ("build_operations",),
    "keys.caller": ("HostUser",),
    "plugins.context": ("Handled", "Host", "TurnContext"),
    "plugins.hookspecs": ("hookimpl",),
    "runtime.threads": ("run_async",),
    "runtime.tracing": ("Span",),
    "state": ("AppState",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = [
    "Agent", "ApiError", "AppState", "AskModel", "AstrBotAPI", "AstrBotError", "Cancellation",
    "Command", "CommandContext", "Delta", "Handled", "Host", "HostUser", "ModelMessage",
    "ModelOptions", "Provider", "ProviderError", "ReasoningDelta", "RouteCaller",
    "RunCancelled", "Settings", "SettingsError", "Span", "StorageError", "TextDelta", "Tool",
    "ToolAttachment", "ToolCallDelta", "ToolContext", "ToolError", "ToolFinished",
    "ToolProgress", "ToolSpec", "ToolStarted", "TurnContext", "Usage", "build_operations",
    "create_app", "hookimpl", "public_route", "run_async", "tool", "with_app_context",
]  # fmt: skip


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

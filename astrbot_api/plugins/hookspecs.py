"""The hooks that a plugin can implement.

A plugin is a class. Mark methods with :data:`hookimpl` and name them like the functions below. A
method declares only the parameters that it needs, so that new parameters break no plugin. Each
application creates one instance.

Every call is isolated: an exception is logged with the plugin's name, and the turn and the other
plugins continue.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pluggy

from ..agent.provider import ModelMessage
from ..agent.tools import Tool
from ..events import Event
from .commands import Command
from .context import Handled, Host, TurnContext

PROJECT = "astrbot_api"

hookspec = pluggy.HookspecMarker(PROJECT)

#: Marks a method of a plugin as an implementation of a hook.
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_tools() -> Sequence[Tool]:
    """Return the tools that the model may call. Called once, when the plugin is loaded."""
    raise NotImplementedError


@hookspec
def register_commands() -> Sequence[Command]:
    """Return the commands that users may send. Called once, when the plugin is loaded."""
    raise NotImplementedError


@hookspec
def register_blueprint() -> Any:
    """Return a ``flask.Blueprint`` with HTTP routes. Called once, when the plugin is loaded.

    Its routes are below ``/api/v1/plugins/extensions/NAME``.
    """
    raise NotImplementedError


@hookspec
def startup(host: Host) -> None:
    """Initialise the plugin. Called once in each worker process, before the first turn.

    If it raises an exception, the plugin is disabled.
    """


@hookspec
def shutdown() -> None:
    """Release all resources. Called when the application is closed."""


@hookspec
def on_message(context: TurnContext, message: str) -> str | Handled | None:
    """Process a user's message before the model gets it. Not called for commands.

    Return a string to replace the message in this turn (the stored message stays unchanged), a
    :class:`~astrbot_api.Handled` to answer it without the model, or None to leave it. Each plugin
    gets the result of the previous one.
    """


@hookspec
def before_model(
    context: TurnContext, messages: list[ModelMessage]
) -> Sequence[ModelMessage] | None:
    """Process the model's input, before each model call.

    Return a list to replace it for this call, or None to leave it. The list must begin with the
    system prompt, and each tool result must follow its call.
    """


@hookspec
def after_model(context: TurnContext, reply: str) -> None:
    """Observe the whole answer of a completed turn.

    It is already sent and stored, so the hook cannot change it.
    """


@hookspec
def on_event(context: TurnContext, event: Event) -> None:
    """Observe each event of a turn's stream, from the first one after ``run_started``.

    It is called between two tokens, so return quickly and never wait. A plugin that raises an
    exception gets no more events of that turn.
    """


#: Names of all hooks, in the order of this module. ``hookspec`` marks them with an attribute.
HOOKS: tuple[str, ...] = tuple(
    name for name, value in list(globals().items()) if hasattr(value, f"{PROJECT}_spec")
)


def make_pluggy() -> pluggy.PluginManager:
    """Return pluggy's registry with these hooks and no plugins."""
    registry = pluggy.PluginManager(PROJECT)
    registry.add_hookspecs(sys.modules[__name__])
    return registry

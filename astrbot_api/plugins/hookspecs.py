"""The hooks: all that a plugin can do.

A plugin is a class. Each method that is marked with :data:`hookimpl` and has
the name of a function below is called where that function's text says; it
names only those of the parameters that it needs, so that one more breaks no
plugin. One instance is made for each application.

Each call is made by itself: what one plugin raises is logged under its name
and does not keep the others, or the turn, from going on.
"""

from __future__ import annotations

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

#: Marks a method of a plugin as one of the hooks below.
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_tools() -> Sequence[Tool]:
    """Return the tools that the model may call. Called once, at loading."""
    raise NotImplementedError


@hookspec
def register_commands() -> Sequence[Command]:
    """Return the commands that users may give. Called once, at loading."""
    raise NotImplementedError


@hookspec
def register_blueprint() -> Any:
    """Return a ``flask.Blueprint`` of what the plugin answers over HTTP. Called once, at loading.

    It answers below ``/api/v1/plugins/extensions/NAME``.
    """
    raise NotImplementedError


@hookspec
def startup(host: Host) -> None:
    """Get ready: called once in each worker process, before the first turn.

    A plugin that raises here is left out.
    """


@hookspec
def shutdown() -> None:
    """Let go of everything: called when the application is closed."""


@hookspec
def on_message(context: TurnContext, message: str) -> str | Handled | None:
    """See a user's message before the model does; commands never come here.

    A string takes the message's place for this turn (what is stored stays as
    it was sent), :class:`~astrbot_api.Handled` answers it without the model,
    None leaves it. Each plugin is given what the one before it returned.
    """


@hookspec
def before_model(
    context: TurnContext, messages: list[ModelMessage]
) -> Sequence[ModelMessage] | None:
    """See what the model is about to be given, before each call of it.

    A list takes its place for this call; None leaves it. It begins with the
    system prompt and must keep each tool's result behind its call.
    """


@hookspec
def after_model(context: TurnContext, reply: str) -> None:
    """See the whole answer of a turn that was completed.

    It has been streamed and stored by now, so there is nothing left to change.
    """


@hookspec
def on_event(context: TurnContext, event: Event) -> None:
    """See each event of a turn's stream, from the first one after ``run_started``.

    It is called between two tokens: be quick, and never wait. A plugin that
    raises sees no more events of that turn.
    """


#: Every hook's name, in the order of this page.
HOOKS: tuple[str, ...] = (
    "register_tools",
    "register_commands",
    "register_blueprint",
    "startup",
    "shutdown",
    "on_message",
    "before_model",
    "after_model",
    "on_event",
)


def make_pluggy() -> pluggy.PluginManager:
    """Return pluggy's registry with these hooks and no plugin."""
    registry = pluggy.PluginManager(PROJECT)
    registry.add_hookspecs(_specs())
    return registry


def _specs() -> Any:
    import sys

    return sys.modules[__name__]

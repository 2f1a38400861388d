"""Example plugin that uses every hook: it greets users, counts greetings and hides secret words."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from flask import Blueprint, g

from astrbot_api import (
    Command,
    CommandContext,
    Handled,
    Host,
    Tool,
    ToolContext,
    TurnContext,
    hookimpl,
    public_route,
    tool,
)

from .words import hide


class Settings(ma.Schema):
    """Settings of the plugin: ``[plugins.hello]`` in a config."""

    greeting = ma.fields.String(load_default="Hello")
    secret_words = ma.fields.List(ma.fields.String(), load_default=list)


class Plugin:
    """The plugin. Each worker process has its own instance, so the counts are those of one worker.

    A plugin that must count over all workers stores its counts in ``host.make_folder()``.
    """

    settings_schema = Settings

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._greeted: Counter[str] = Counter()
        self.answers = 0
        self.events: Counter[str] = Counter()

    @hookimpl
    def startup(self, host: Host) -> None:
        """Store the plugin's folder."""
        self._folder = host.make_folder()

    @hookimpl
    def shutdown(self) -> None:
        """Save the number of greetings."""
        total = sum(self._greeted.values())
        (self._folder / "greetings.txt").write_text(f"{total}\n", encoding="utf-8")

    @hookimpl
    def register_tools(self) -> list[Tool]:
        """Return the tool ``greet``. It is a bound method, so it can use the plugin."""
        return [tool(self.greet)]

    @hookimpl
    def register_commands(self) -> list[Command]:
        """Return the command ``/hello``."""
        return [Command("hello", "be greeted", self._say_hello)]

    @hookimpl
    def register_blueprint(self) -> Blueprint:
        """Return the routes below ``/api/v1/plugins/extensions/hello``."""
        blueprint = Blueprint("hello", __name__)
        blueprint.add_url_rule("/greetings/<name>", view_func=self.count_greetings)
        blueprint.add_url_rule("/health", view_func=self.check_health)
        return blueprint

    @hookimpl
    def on_message(self, context: TurnContext, message: str) -> str | Handled | None:
        """Answer "ping" without the model, and expand one abbreviation."""
        if message.strip().lower() == "ping":
            return Handled("pong")
        if "pls" in message.split():
            return message.replace("pls", "please")
        return None

    @hookimpl
    def before_model(
        self, context: TurnContext, messages: list[dict[str, Any]]
    ) -> list[dict[str, Any]] | None:
        """Hide the config's secret words from the model."""
        words = context.settings["secret_words"]
        return [_hide_in(message, words) for message in messages] if words else None

    @hookimpl
    def after_model(self, reply: str) -> None:
        """Count the answers."""
        with self._lock:
            self.answers += 1

    @hookimpl
    def on_event(self, event: Mapping[str, Any]) -> None:
        """Count the events by type."""
        self.events[event["type"]] += 1

    def greet(self, context: ToolContext, name: str, loudly: bool = False) -> str:
        """Greet a person by name.

        :param name: Name of the person.
        :param loudly: Whether to shout.
        """
        with self._lock:
            self._greeted[context.username] += 1
        text = f"{context.settings['greeting']}, {name}!"
        return text.upper() if loudly else text

    def count_greetings(self, name: str) -> dict[str, Any]:
        """Return the number of greetings of a user, if the caller may act as that user."""
        g.caller.check_username(name)
        with self._lock:
            return {"name": name, "greetings": self._greeted[name]}

    @public_route
    def check_health(self) -> dict[str, Any]:
        """Report that the plugin runs. No key is needed."""
        return {"ok": True}

    def _say_hello(self, context: CommandContext) -> str:
        return f"{context.settings['greeting']}, {context.arguments or context.username}!"


def _hide_in(message: dict[str, Any], words: list[str]) -> dict[str, Any]:
    content = message["content"]
    return {**message, "content": hide(content, words)} if isinstance(content, str) else message

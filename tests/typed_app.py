"""An embedding application for ``make type``: every public name, with the types users rely on.

It is only checked by mypy, never run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import assert_type

import marshmallow as ma
from flask import Blueprint, Flask, Request, g, session

from astrbot_api import (
    Agent,
    ApiError,
    AppState,
    AskModel,
    AstrBotAPI,
    AstrBotError,
    Cancellation,
    Command,
    CommandContext,
    Delta,
    Handled,
    Host,
    HostUser,
    ModelMessage,
    ModelOptions,
    Provider,
    ProviderError,
    ReasoningDelta,
    RouteCaller,
    RunCancelled,
    Settings,
    SettingsError,
    Span,
    StorageError,
    TextDelta,
    Tool,
    ToolAttachment,
    ToolCallDelta,
    ToolContext,
    ToolError,
    ToolFinished,
    ToolProgress,
    ToolSpec,
    ToolStarted,
    TurnContext,
    Usage,
    build_operations,
    create_app,
    hookimpl,
    public_route,
    run_async,
    tool,
    with_app_context,
)
from astrbot_api.testing import (
    FakeAstrBot,
    FakeOneBot,
    FakeOpenAI,
    FakeSlack,
    FakeTelegram,
    FakeWebhookReceiver,
    ScriptedApp,
    ScriptedModel,
    make_app,
)


class Model:
    """A provider."""

    def stream(
        self, messages: Sequence[ModelMessage], tools: Sequence[ToolSpec], options: ModelOptions
    ) -> Iterator[Delta]:
        """Yield one answer."""
        assert_type(options.cancel, Cancellation)
        yield ReasoningDelta("It is easy.")
        yield TextDelta(f"{len(messages)} messages")
        yield ToolCallDelta(0, "1", tools[0]["function"]["name"], "{}")
        yield Usage(1, 2, 3)


def answer(
    messages: Sequence[ModelMessage], context: ToolContext
) -> Iterator[str | TextDelta | ToolStarted | ToolProgress | ToolFinished]:
    """Answer as an agent."""
    yield ToolStarted("1", "look", {"what": "shop"}, time.time())
    yield ToolProgress("1", 1, None, "half")
    yield ToolFinished("1", "done", time.time())
    for attachment in context.attachments:
        assert_type(attachment, ToolAttachment)
    yield f"Hello, {context.username}"


class Shop:
    """An agent with a state."""

    def __call__(self, messages: Sequence[ModelMessage], context: ToolContext) -> str:
        """Answer with the whole text."""
        return context.username


async def fetch(city: str) -> str:
    """Return the weather of a city."""
    return city


@tool
def find_weather(city: str) -> str:
    """Return the weather of a city."""
    return assert_type(run_async(fetch(city)), str)


@tool(name="pay", needs_approval=True, retry="safe")
def pay(context: ToolContext, amount: int = 1) -> list[int]:
    """Pay an amount."""
    if amount > 9:
        raise ToolError("too much")
    return [amount]


class Words(ma.Schema):
    """The settings of the plugin."""

    greeting = ma.fields.String(load_default="Hello")


class Plugin:
    """A plugin with most hooks."""

    settings_schema = Words

    @hookimpl
    def register_tools(self) -> list[Tool]:
        """Return all kinds of tools."""
        return [find_weather, pay, Tool("dice", "Roll a die.", lambda arguments, context: "4")]

    @hookimpl
    def register_commands(self) -> list[Command]:
        """Return a command."""
        return [Command("greet", "greet me", self.greet)]

    def greet(self, context: CommandContext) -> str | AskModel:
        """Answer a command, or let the model answer it."""
        return context.username or AskModel("Who am I?")

    @hookimpl
    def register_blueprint(self) -> Blueprint:
        """Return routes."""
        blueprint = Blueprint("plugin", __name__)

        @blueprint.get("/health")
        @public_route
        def show_health() -> str:
            caller: RouteCaller | None = g.caller
            return caller.key_id if caller else ""

        return blueprint

    @hookimpl
    def startup(self, host: Host) -> None:
        """Make a folder."""
        assert_type(host.make_folder(), Path)

    @hookimpl
    def on_message(self, context: TurnContext, message: str) -> str | Handled | None:
        """Answer without the model."""
        return Handled("no") if context.username == "eve" else None


def find_user(request: Request) -> HostUser | None:
    """Return the user of the application."""
    name = session.get("user")
    return HostUser(name, scopes=("chat", "file")) if name else None


def build(app: Flask) -> AppState:
    """Set up all that an application may pass."""
    agent: Agent = with_app_context(app, answer)
    provider: Provider = Model()
    AstrBotAPI(app, agent=Shop)
    AstrBotAPI(app, agent=answer, url_prefix="/bot", authenticate=find_user)
    api = AstrBotAPI(
        agent=agent,
        plugins=[Plugin],
        tools=[find_weather],
        commands=[Command("version", "version", lambda context: "1.0")],
        providers={"mine": provider, "scripted": ScriptedModel("Hello")},
    )
    state = api.init_app(app)
    assert_type(state.settings, Settings)
    app.register_blueprint(build_operations())
    assert_type(create_app({"ASTRBOT_DATA_DIR": "data"}, api=api), Flask)
    return state


def explain(error: AstrBotError, span: Span) -> str:
    """Handle every error."""
    span.fail("shop_error")
    kinds = (ApiError, ProviderError, RunCancelled, SettingsError, StorageError)
    return str(error) if isinstance(error, kinds) else ""


def test_all() -> None:
    """Use the test doubles."""
    with (
        FakeOpenAI() as model, FakeAstrBot() as bot, FakeOneBot() as onebot, FakeSlack() as slack,
        FakeTelegram() as telegram, FakeWebhookReceiver() as receiver,
        make_app("Hello") as made,
    ):  # fmt: skip
        assert_type(made, ScriptedApp)
        assert_type(made.app, Flask)
        assert_type(made.key, str)
        assert model.base_url
        assert all((bot, onebot, slack, telegram, receiver))

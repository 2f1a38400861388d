"""The Flask extension: adds the API to an existing application."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flask import Flask

from .admin.register import register_admin
from .agent.custom_agent import Agent, AgentOutput, list_outputs, make_agent, may_resume
from .agent.provider import ModelMessage, Provider
from .agent.tools import Tool, ToolContext
from .config.loading import list_misspelt, load_settings
from .errors import SettingsError
from .http.api import build_api
from .http.checks import ReadinessChecks
from .http.operations.routes import list_checks
from .http.state import EXTENSION, HTTP_EXTENSION, Authenticate, HttpState
from .http.websocket.sockets import WebSockets
from .http.widget.page import make_chat_macro
from .im.adapter import AdapterModule
from .plugins.commands import Command
from .state import AppState
from .wiring import Parts, build_state

log = logging.getLogger(__name__)


def with_app_context(app: Flask, agent: Agent | type) -> Agent:
    """Return an agent that runs within the context of an application.

    For agents that use ``current_app``, or extensions that need it (Flask-SQLAlchemy)::

        AstrBotAPI(app, agent=with_app_context(app, agent))

    The context is open for the whole turn, in the turn's own thread.
    """

    made = make_agent(agent)

    def run(messages: Sequence[ModelMessage], context: ToolContext) -> Iterator[AgentOutput]:
        with app.app_context():
            yield from list_outputs(made(messages, context))

    run.resumable = may_resume(made)  # type: ignore[attr-defined]
    return run


class AstrBotAPI:
    """Adds the AstrBot HTTP API to a Flask application.

    ::

        app = Flask(__name__)
        AstrBotAPI(app, url_prefix="/bot", data_dir="/var/lib/bot")

    :param app: The application. Without it, call :meth:`init_app` later.
    :param tools: Tools that every config may offer to its model.
    :param commands: Commands besides the built-in ones.
    :param plugins: Classes of plugins, besides those that are found.
    :param find_plugins: Whether to search the data directory and the installed packages for
        plugins.
    :param adapters: Messengers by type, for ``[[bot]] type = "…"``, besides the built-in ones; see
        :mod:`astrbot_api.im.adapter`.
    :param providers: Models by id, for ``[provider] id = "…"`` of a config.
    :param agent: Answers instead of a model. A function of the messages and a
        :class:`~astrbot_api.ToolContext` that returns text, or yields text and events. A class is
        instantiated once per application.
    :param authenticate: Identifies the user of a request without a key, by the application's own
        login. A function of the request that returns a :class:`~astrbot_api.HostUser`, or None.
    :param tracer_provider: The application's OpenTelemetry ``TracerProvider``. By default the
        environment (``OTEL_…``) configures tracing.
    :param settings: Any field of :class:`~astrbot_api.config.settings.Settings`.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        tools: Sequence[Tool] = (),
        commands: Sequence[Command] = (),
        plugins: Sequence[Callable[[], Any]] = (),
        find_plugins: bool = True,
        providers: Mapping[str, Provider] | None = None,
        adapters: Mapping[str, AdapterModule] | None = None,
        agent: Agent | type | None = None,
        authenticate: Authenticate | None = None,
        tracer_provider: Any = None,
        **settings: Any,
    ) -> None:
        one: Any  # from code without type checks
        for one in tools:
            if not isinstance(one, Tool):
                kind = type(one).__name__
                raise TypeError(f"tools= needs Tool objects, as tool() makes them, not a {kind}")
        self._parts = Parts(
            tools=tuple(tools),
            commands={command.name: command for command in commands},
            plugins=tuple(plugins),
            find_plugins=find_plugins,
            providers=dict(providers or {}),
            adapters=dict(adapters or {}),
            agent=agent,
            tracer_provider=tracer_provider,
        )
        self._authenticate = authenticate
        self._settings = settings
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> AppState:
        """Set up the API on an application: settings, state, routes.

        Creates the data directory and upgrades the database. Starts no thread and sends no request.

        :raises SettingsError: if a setting or configuration file is wrong.
        """
        if EXTENSION in app.extensions:
            raise SettingsError("AstrBotAPI is set up on this application already")
        if app.url_map.host_matching:
            # The API's rules have no host, so none would match.
            raise SettingsError("AstrBotAPI needs an application without host_matching=True")
        settings = load_settings(self._settings, app.config)
        for name, remedy in list_misspelt([*app.config, *os.environ]):
            log.warning("%s is no setting and has no effect; %s", name, remedy)
        state = build_state(settings, self._parts)
        runs = state.chat.runs
        sockets = WebSockets(settings, lambda: runs.draining)
        state.worker.chores.add(sockets.close_idle, every_s=0.5)
        list_valid = state.keys.usage.list_valid
        state.worker.chores.add(lambda: sockets.end_invalid(list_valid), every_s=2.0)
        app.extensions[EXTENSION] = state
        app.extensions[HTTP_EXTENSION] = HttpState(
            openapi=build_api(app, settings),
            sockets=sockets,
            readiness=ReadinessChecks(list_checks(state)),
            log_request=logging.getLogger("astrbot_api.access").info,
            authenticate=self._authenticate,
        )
        register_admin(app, settings)
        app.jinja_env.globals.setdefault("astrbot_chat", make_chat_macro(settings.url_prefix))
        return state

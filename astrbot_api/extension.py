"""The Flask extension: the API in an application that may have much else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Flask

from .admin.blueprint import register_admin
from .admin.housekeeping import Housekeeping
from .admin.owner import OwnerLogin, create_first_owner
from .agent.own import Agent, make_agent
from .agent.provider import Provider
from .agent.tools import Tool
from .attachments import Attachments
from .chat.abilities import Abilities
from .chat.answering import TurnRunner
from .chat.board import Board
from .chat.chores import Chores
from .chat.commands import Command
from .chat.ending import TurnEnder
from .chat.following import RunFollower
from .chat.idempotency import Idempotency
from .chat.inbox import InboxFeed
from .chat.lease import WorkerLease
from .chat.opening import TurnOpener
from .chat.pushing import Pusher
from .chat.recovery import Recovery, prune_journal
from .chat.removal import SessionRemover
from .chat.runs import Runs
from .chat.speaking import Speaker
from .chat.streams import Streams
from .config import Settings, load_settings
from .configfiles import ConfigFiles
from .db.keyuse import UseCounter
from .db.store import Store, open_store
from .errors import SettingsError
from .http.auth import Authenticate
from .http.docs.documents import OpenapiDocuments
from .http.openapi import build_api
from .http.operations.checks import ReadinessChecks
from .http.operations.routes import list_checks
from .http.state import EXTENSION
from .http.websocket.sockets import WebSockets
from .im.adapter import AdapterModule
from .im.service import Messengers, build_messengers, load_announcer, load_bots
from .legacykeys import LegacyKeys
from .mcp.client import McpTools
from .metrics import Metrics
from .plugins.builtin import BUILT_IN_PLUGINS
from .plugins.finding import APPLICATION, BUILT_IN, find_plugins, from_classes
from .plugins.registry import Plugins
from .providers.registry import Providers
from .ratelimits import RateLimiter, open_rate_limiter
from .stream.choosing import open_journal, open_signals
from .stream.journal import Journal
from .stream.reading import Followers
from .stream.signals import Signals
from .stream.writer import JournalWriter
from .tracing import Tracing, open_tracing


@dataclass(slots=True)
class AppState:
    """Everything that one application has of this package.

    It is ``app.extensions["astrbot_api"]``; nothing is global, so two
    applications of one process share nothing.
    """

    settings: Settings
    store: Store
    configs: ConfigFiles
    im: Messengers
    attachments: Attachments
    legacy_keys: LegacyKeys
    lease: WorkerLease
    chores: Chores
    plugins: Plugins
    mcp: McpTools
    journal: Journal
    signals: Signals
    board: Board
    runs: Runs
    remover: SessionRemover
    idempotency: Idempotency
    recovery: Recovery
    follower: RunFollower
    streams: Streams
    sockets: WebSockets
    inbox: InboxFeed
    ender: TurnEnder
    journal_writer: JournalWriter
    providers: Providers
    metrics: Metrics
    tracing: Tracing
    readiness: ReadinessChecks
    access_log: Callable[[str], None]
    openapi: OpenapiDocuments
    owner_login: OwnerLogin
    key_use: UseCounter
    rate_limiter: RateLimiter
    #: None: only a key opens the API.
    authenticate: Authenticate | None

    def start(self) -> None:
        """Begin what a worker does beside answering: call it once in each process.

        ``astrbot-api serve`` does. Where nobody does, it begins with the
        first request that needs it.
        """
        self.mcp.start()
        self.im.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """End every turn, store what was said, close the database.

        :param timeout_s: How long the turns may take to end.
        """
        self.im.pollers.close()
        self.runs.drain()
        self.runs.interrupt_all()
        self.runs.wait_until_idle(timeout_s)
        self.im.close(min(timeout_s, 2.0))
        self.plugins.close()
        self.mcp.close()
        self.chores.close()
        self.journal_writer.close()
        try:
            self.key_use.flush()
            self.ender.retry()
        finally:
            self.lease.close()
            self.signals.close()
            self.journal.close()
            self.store.close()
            self.tracing.close(min(timeout_s, 2.0))


class AstrBotAPI:
    """Adds the AstrBot HTTP API to a Flask application.

    ::

        app = Flask(__name__)
        AstrBotAPI(app, url_prefix="/bot", data_dir="/var/lib/bot")

    :param app: The application; or call :meth:`init_app` later.
    :param tools: Tools that every config may offer to its model.
    :param commands: Commands beside the built-in ones.
    :param plugins: Classes of plugins beside those that are found.
    :param find_plugins: Whether to look for plugins in the data directory and
        in the installed packages.
    :param adapters: Messengers by type, for ``[[bot]] type = "…"``, beside
        the built-in ones; see :mod:`astrbot_api.im.adapter`.
    :param providers: Models by id, for ``[provider] id = "…"`` of a config.
    :param agent: Answers in the place of a model: a function of the messages
        and a :class:`~astrbot_api.ToolContext` that returns text, or yields text
        and events; or a class, of which the application gets an object.
    :param authenticate: Tells who sends a request that has no key, by the
        application's own login: a function of the request that returns a
        :class:`~astrbot_api.HostUser`, or None.
    :param tracer_provider: An OpenTelemetry ``TracerProvider`` of the application's
        own, for its traces; else the environment (``OTEL_…``) says whether there are any.
    :param settings: Any field of :class:`~astrbot_api.config.Settings`.
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
        self._tools = tuple(tools)
        self._commands = {command.name: command for command in commands}
        self._plugins = tuple(plugins)
        self._find_plugins = find_plugins
        self._providers = dict(providers or {})
        self._adapters = dict(adapters or {})
        self._agent = agent
        self._authenticate = authenticate
        self._tracer_provider = tracer_provider
        self._settings = settings
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> AppState:
        """Set the API up on an application: settings, state, routes.

        Makes the data directory and brings the database up to date; starts
        no thread and asks nobody.

        :raises SettingsError: for a wrong setting or configuration file.
        """
        if EXTENSION in app.extensions:
            raise SettingsError("AstrBotAPI is set up on this application already")
        settings = load_settings(self._settings, app.config)
        state = self._build_state(app, settings)
        _add_chores(state)
        state.readiness = ReadinessChecks(list_checks(state))
        app.extensions[EXTENSION] = state
        register_admin(app, settings)
        return state

    def _build_state(self, app: Flask, settings: Settings) -> AppState:
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"ASTRBOT_DATA_DIR: cannot make the folder: {error}") from error
        configs = ConfigFiles(settings.data_dir)
        configs.load_all()
        bots = load_bots(settings, self._adapters)
        announcer = load_announcer(settings, bots)
        store = open_store(settings)
        store.upgrade()
        if settings.admin_password and settings.owner_access != "off":
            create_first_owner(settings, store)
        metrics = Metrics()
        tracing = open_tracing(self._tracer_provider)
        attachments = Attachments(settings, store, metrics=metrics)
        attachments.remove_stale_uploads()
        chores = Chores()
        lease = WorkerLease(store, settings.worker_lease_s, chores)
        plugins = self._load_plugins(settings, configs, store)
        mcp = McpTools(configs.list_configs, settings.mcp_socket)
        abilities = Abilities(
            tools=self._tools,
            commands=self._commands,
            plugins=plugins,
            extra_tools=mcp.list_tools,
        )
        providers = Providers(self._providers)
        ender = TurnEnder(store, announcer, metrics)
        journal, signals = open_journal(settings), open_signals(settings)
        board = Board(store, signals)
        inbox = InboxFeed(settings, store, signals)
        board.listen(inbox.wake)
        pusher = Pusher(store, board, announcer)
        speaker = Speaker(settings, store, pusher)
        runner = TurnRunner(
            settings=settings,
            store=store,
            providers=providers,
            abilities=abilities,
            attachments=attachments,
            ender=ender,
            speaker=speaker,
            agent=make_agent(self._agent),
        )
        writer = JournalWriter(journal, signals)
        opener = TurnOpener(settings, store, configs, lease, writer, announcer)
        runs = Runs(
            settings, store, signals, opener=opener, runner=runner, ender=ender, metrics=metrics,
            tracing=tracing,
        )  # fmt: skip
        recovery = Recovery(store, journal, signals, announcer, lease, metrics)
        messengers = build_messengers(
            settings, store, bots, attachments=attachments, lease=lease, chores=chores,
            runs=runs, ender=ender, speaker=speaker, pusher=pusher, announcer=announcer,
            signals=signals,
        )  # fmt: skip
        messengers.outbox.on_settled = metrics.note_delivery
        messengers.outbox.tracing = tracing
        return AppState(
            settings=settings,
            store=store,
            configs=configs,
            im=messengers,
            attachments=attachments,
            legacy_keys=LegacyKeys(store),
            lease=lease,
            chores=chores,
            plugins=plugins,
            mcp=mcp,
            journal=journal,
            signals=signals,
            board=board,
            runs=runs,
            recovery=recovery,
            follower=RunFollower(store, journal, Followers(signals), recovery, runs.find_log),
            streams=Streams(settings, board, lambda: runs.draining, metrics),
            sockets=WebSockets(settings, lambda: runs.draining),
            inbox=inbox,
            ender=ender,
            journal_writer=writer,
            remover=SessionRemover(store, runs.stop_session),
            idempotency=Idempotency(store, lease.get_worker_id),
            providers=providers,
            metrics=metrics,
            tracing=tracing,
            readiness=ReadinessChecks({}),
            access_log=logging.getLogger("astrbot_api.access").info,
            openapi=build_api(app, settings),
            owner_login=OwnerLogin(settings, store),
            key_use=UseCounter(store),
            rate_limiter=open_rate_limiter(settings, store),
            authenticate=self._authenticate,
        )

    def _load_plugins(self, settings: Settings, configs: ConfigFiles, store: Store) -> Plugins:
        found = [
            *from_classes(self._plugins, APPLICATION),
            *(find_plugins(settings.data_dir) if self._find_plugins else ()),
            *from_classes(BUILT_IN_PLUGINS, BUILT_IN),
        ]
        plugins = Plugins(
            found, data_dir=settings.data_dir, store=store, complete=self._find_plugins
        )
        for config in configs.list_configs():
            plugins.choose(config)
        return plugins


def _add_chores(state: AppState) -> None:
    """Enter what a worker does now and then."""
    settings, chores = state.settings, state.chores
    chores.add(state.key_use.flush)
    chores.add(state.ender.retry)
    chores.add(state.recovery.recover)
    runs, ender = state.runs, state.ender
    chores.add(
        lambda: state.recovery.end_forgotten(lambda run: runs.knows(run) or ender.keeps(run.id))
    )
    chores.add(state.remover.empty_removed)
    chores.add(state.board.look, every_s=0.25)
    chores.add(state.runs.look_for_stops, every_s=0.5)
    chores.add(state.sockets.close_idle, every_s=0.5)
    chores.add(state.streams.close_stuck, every_s=1.0)
    chores.add(lambda: prune_journal(state.journal, settings.run_log_keep_s), every_s=30.0)
    chores.add(state.idempotency.prune, every_s=600.0)
    chores.add(Housekeeping(state.store, settings.audit_days).run, every_s=600.0)

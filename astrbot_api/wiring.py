"""Composition root: creates every object of one application, bottom-up.

This is the only place that calls these constructors. Each object gets its dependencies from the
objects above it, and nothing is set on it later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .agent.custom_agent import Agent, make_agent, may_resume
from .agent.provider import Provider
from .agent.tools import Tool
from .chat.context.media import MediaReader
from .chat.context.recent import RecentMessages
from .chat.context.transcription import Transcriber
from .chat.pushes import Board, Pusher
from .chat.removal import SessionRemover
from .chat.resuming.following import RunFollower
from .chat.resuming.pickup import Pickups
from .chat.resuming.recovery import Recovery
from .chat.service import ChatService
from .chat.turns.abilities import Abilities
from .chat.turns.answering import AnswerServices
from .chat.turns.approvals import Decisions
from .chat.turns.ending import Outcomes
from .chat.turns.handover import Handover
from .chat.turns.opening import TurnOpener
from .chat.turns.running import Runs
from .chat.turns.sending import Speaker
from .chat.turns.titles import TitleWriter
from .chat.watching.inbox import InboxFeed
from .chat.watching.seats import Seats
from .chores import add_chores
from .config.files import ConfigFiles
from .config.settings import Settings
from .db.store import Store, open_own_store, open_store
from .deliveries.outbox import Outbox
from .deliveries.webhook_file import WebhookFile
from .deliveries.webhooks import Announcer
from .errors import SettingsError
from .files.attachments import Attachments
from .files.reading.reader import FileReader
from .files.thumbnails import Thumbnails
from .files.uploads import Uploads
from .idempotency import Idempotency
from .im.adapter import AdapterModule
from .im.bots import Bots
from .im.inbound import Inbound
from .im.polling import Pollers
from .im.proactive import ProactiveMessages
from .im.registry import AdapterTypes
from .im.sending import Sender
from .keys.legacy import LegacyKeys
from .keys.quotas import Quotas
from .keys.rates import open_rate_limiter
from .keys.usage import KeyUsage
from .keys.visitors import Visitors
from .mcp.client import McpTools
from .owner.login import OwnerLogin, create_first_owner, load_secret
from .plugins.builtin import BUILT_IN_PLUGINS
from .plugins.commands import Command
from .plugins.finding import APPLICATION, BUILT_IN, find_plugins, from_classes
from .plugins.registry import Plugins
from .providers.registry import Providers
from .runlog.opening import open_journal, open_signals
from .runlog.reading import Followers
from .runlog.writer import JournalWriter
from .runtime.aside import Aside
from .runtime.memory import MemoryBudget, UnreadAnswers
from .runtime.metrics import Metrics
from .runtime.tracing import open_tracing
from .state import AgentArea, AppState, ChatArea, ImArea, KeyArea, WorkerArea
from .upstream.slots import HostSlots
from .upstream.turns import Upstreams
from .worker.chores import Chores
from .worker.lease import WorkerLease

#: Maximum memory of a worker for unfinished messages, and for conversations and files of running
#: turns, in bytes. A key may use half of it. Settings for longer messages raise it.
_MAX_RECEIVING_BYTES = 256 * 2**20
_MAX_TURNS_BYTES = 2**30

#: Maximum memory of a worker for one key's long answers that are being sent, in bytes.
_MAX_UNREAD_BYTES = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Parts:
    """Components added by the application; see :class:`~astrbot_api.AstrBotAPI`."""

    tools: Sequence[Tool] = ()
    commands: Mapping[str, Command] = field(default_factory=dict)
    plugins: Sequence[Callable[[], Any]] = ()
    find_plugins: bool = True
    providers: Mapping[str, Provider] = field(default_factory=dict)
    adapters: Mapping[str, AdapterModule] = field(default_factory=dict)
    agent: Agent | type | None = None
    tracer_provider: Any = None


class _Base:
    """Objects that several areas use."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        try:
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"ASTRBOT_DATA_DIR: cannot make the folder: {error}") from error
        self.settings, self.parts = settings, parts
        configs = ConfigFiles(settings.data_dir)
        configs.load_all()
        self.bots = Bots(settings.data_dir, AdapterTypes(parts.adapters))
        self.bots.file.load()
        self.webhooks = WebhookFile(settings.data_dir)
        self.webhooks.load()
        self.announcer = Announcer(self.webhooks, self.bots.http)
        self.store = store = open_store(settings)
        store.upgrade()
        if settings.admin_password and settings.owner_access != "off":
            create_first_owner(settings, store)
        self.worker = worker = _build_worker(settings, store, parts)
        self.quotas = Quotas(settings, store, worker.metrics)
        self.files = Attachments(settings, store, metrics=worker.metrics, quotas=self.quotas)
        self.files.remove_stale_uploads()
        self.outbox = Outbox(
            settings, store, worker.lease, worker.signals,
            send_message=Sender(store, self.bots, self.files).send, send_event=self.announcer.send,
            on_failed=self.announcer.delivery_failed, on_settled=worker.metrics.note_delivery,
            tracing=worker.tracing,
        )  # fmt: skip
        self.board = Board(store, worker.signals)
        self.agents = AgentArea(
            configs=configs,
            providers=Providers(parts.providers),
            plugins=_load_plugins(settings, configs, store, parts, self.quotas),
            mcp=McpTools(configs.list_configs, settings.mcp_socket),
            upstreams=Upstreams(HostSlots(settings.data_dir / "upstream"), self.files),
        )
        self.pusher = Pusher(self.board, self.announcer, self.quotas)


def build_state(settings: Settings, parts: Parts) -> AppState:
    """Create all objects of one application below HTTP.

    Creates the data directory and upgrades the database. Starts no thread.

    :raises SettingsError: if a setting or configuration file is wrong.
    """
    base = _Base(settings, parts)
    store, worker, files = base.store, base.worker, base.files
    chat = _build_chat(base)
    state = AppState(
        settings=settings,
        db=store,
        agents=base.agents,
        keys=KeyArea(
            usage=KeyUsage(store),
            rates=open_rate_limiter(settings, store),
            legacy=LegacyKeys(store),
            quotas=base.quotas,
            visitors=Visitors(store, lambda: load_secret(settings)),
        ),
        chat=chat,
        files=files,
        uploads=Uploads(settings, store, files, worker.lease),
        thumbnails=Thumbnails(FileReader(files, worker.aside)),
        im=_build_im(base, chat.runs),
        owner=OwnerLogin(settings, store),
        worker=worker,
    )
    add_chores(state)
    return state


def _build_worker(settings: Settings, store: Store, parts: Parts) -> WorkerArea:
    chores = Chores()
    own_db = open_own_store(settings, store)
    lease = WorkerLease(own_db, settings.worker_lease_s, chores)
    journal, signals = open_journal(settings), open_signals(settings)
    followers = Followers(signals)
    return WorkerArea(
        own_db=own_db,
        lease=lease,
        chores=chores,
        idempotency=Idempotency(store, lease.get_worker_id),
        journal=journal,
        followers=followers,
        journal_writer=JournalWriter(journal, followers),
        signals=signals,
        metrics=Metrics(),
        tracing=open_tracing(parts.tracer_provider),
        aside=Aside(),
        receiving=MemoryBudget(
            "The server is receiving too many long messages; try again later.",
            max(_MAX_RECEIVING_BYTES, 2 * settings.max_json_bytes, 2 * settings.max_hook_bytes),
        ),
        unread=UnreadAnswers(_MAX_UNREAD_BYTES),
    )


def _load_plugins(
    settings: Settings, configs: ConfigFiles, store: Store, parts: Parts, quotas: Quotas
) -> Plugins:
    found = [
        *from_classes(parts.plugins, APPLICATION),
        *(find_plugins(settings.data_dir) if parts.find_plugins else ()),
        *from_classes(BUILT_IN_PLUGINS, BUILT_IN),
    ]
    plugins = Plugins(
        found, data_dir=settings.data_dir, store=store, check_room=quotas.check_at_end,
        complete=parts.find_plugins,
    )  # fmt: skip
    for config in configs.list_configs():
        plugins.choose(config)
    return plugins


def _build_im(base: _Base, runs: Runs) -> ImArea:
    settings, store, bots, lease = base.settings, base.store, base.bots, base.worker.lease
    inbound = Inbound(settings, store, bots, runs, base.files, base.outbox, lease)
    return ImArea(
        bots=bots,
        outbox=base.outbox,
        proactive=ProactiveMessages(settings, store, bots, base.pusher, base.outbox),
        inbound=inbound,
        pollers=Pollers(store, bots, inbound, lease),
        webhooks=base.webhooks,
    )


def _build_services(base: _Base) -> AnswerServices:
    settings, store, parts, worker = base.settings, base.store, base.parts, base.worker
    agents, files, wake_outbox = base.agents, base.files, base.outbox.wake
    return AnswerServices(
        settings=settings,
        store=store,
        providers=agents.providers,
        abilities=Abilities(
            tools=parts.tools,
            commands=parts.commands,
            plugins=agents.plugins,
            extra_tools=agents.mcp.list_tools,
            list_prompts=agents.mcp.list_prompts,
        ),
        attachments=files,
        recent=RecentMessages(store),
        media=MediaReader(store, files, FileReader(files, worker.aside), Transcriber(store)),
        outcomes=Outcomes(store, base.announcer, worker.metrics, wake_outbox),
        announcer=base.announcer,
        speaker=Speaker(settings, store, base.pusher, wake_outbox),
        titles=TitleWriter(store),
        upstreams=agents.upstreams,
        handover=Handover(store, worker.signals, worker.lease, worker.metrics),
        metrics=worker.metrics,
        memory=MemoryBudget(
            "The running turns use all memory for conversations and files; try again later.",
            max(_MAX_TURNS_BYTES, 8 * settings.max_json_bytes),  # a character may take four bytes
        ),
        agent=None if parts.agent is None else make_agent(parts.agent),
    )


def _build_chat(base: _Base) -> ChatArea:
    settings, store, worker, agents = base.settings, base.store, base.worker, base.agents
    signals, followers = worker.signals, worker.followers
    metrics, board = worker.metrics, base.board
    services = _build_services(base)
    agent, outcomes = services.agent, services.outcomes
    opener = TurnOpener(
        settings, store, agents.configs, worker.lease, worker.journal_writer, base.announcer,
        base.quotas, own_agent=agent is not None,
    )  # fmt: skip
    runs = Runs(
        settings, store, signals, opener=opener, services=services, tracing=worker.tracing,
    )  # fmt: skip
    pickups = Pickups(
        settings, store, worker.journal, worker.journal_writer, followers, agents.configs,
        worker.lease, runs, metrics,
        own_agent_resumes=None if agent is None else may_resume(agent),
    )  # fmt: skip
    recovery = Recovery(
        store, worker.journal, followers, outcomes, worker.lease, metrics, pickups.pick_up
    )
    follower = RunFollower(store, worker.journal, followers, recovery, runs.find_log)
    streams = Seats(settings, "streams", metrics.streams.inc)
    return ChatArea(
        service=ChatService(store, worker.journal, followers, runs, follower, board, streams),
        runs=runs,
        abilities=services.abilities,
        outcomes=outcomes,
        recovery=recovery,
        decisions=Decisions(store, recovery.recover_run),
        streams=streams,
        pushes=board,
        inbox=InboxFeed(settings, store, signals, board, lambda: runs.draining),
        remover=SessionRemover(store, runs.stop_session),
    )

"""State of one application, grouped in areas. Nothing here depends on HTTP.

:mod:`astrbot_api.wiring` creates each area once, and nothing changes it later.
:mod:`astrbot_api.http.state` has the state that only HTTP needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from .chat.pushes import Board
from .chat.removal import SessionRemover
from .chat.resuming.recovery import Recovery
from .chat.service import ChatService
from .chat.turns.abilities import Abilities
from .chat.turns.approvals import Decisions
from .chat.turns.ending import Outcomes
from .chat.turns.running import Runs
from .chat.watching.inbox import InboxFeed
from .chat.watching.seats import Seats
from .config.files import ConfigFiles
from .config.settings import Settings
from .db.store import Store
from .deliveries.outbox import Outbox
from .deliveries.webhook_file import WebhookFile
from .files.attachments import Attachments
from .files.thumbnails import Thumbnails
from .files.uploads import Uploads
from .idempotency import Idempotency
from .im.bots import Bots
from .im.inbound import Inbound
from .im.polling import Pollers
from .im.proactive import ProactiveMessages
from .keys.legacy import LegacyKeys
from .keys.quotas import Quotas
from .keys.rates import RateLimiter
from .keys.usage import KeyUsage
from .keys.visitors import Visitors
from .mcp.client import McpTools
from .owner.login import OwnerLogin
from .plugins.registry import Plugins
from .providers.registry import Providers
from .runlog.journal import Journal
from .runlog.reading import Followers
from .runlog.signals.signals import Signals
from .runlog.writer import JournalWriter
from .runtime.aside import Aside
from .runtime.memory import MemoryBudget, UnreadAnswers
from .runtime.metrics import Metrics
from .runtime.tracing import Tracing
from .upstream.turns import Upstreams
from .worker.chores import Chores
from .worker.lease import WorkerLease


@dataclass(frozen=True, slots=True)
class AgentArea:
    """Configs, models, tools and plugins."""

    configs: ConfigFiles
    providers: Providers
    plugins: Plugins
    mcp: McpTools
    upstreams: Upstreams


@dataclass(frozen=True, slots=True)
class KeyArea:
    """Services around API keys: usage, rates, imported hashes, quotas, visitors of pages."""

    usage: KeyUsage
    rates: RateLimiter
    legacy: LegacyKeys
    quotas: Quotas
    visitors: Visitors


@dataclass(frozen=True, slots=True)
class ChatArea:
    """Turns: running, watching, resuming and ending them."""

    service: ChatService
    runs: Runs
    abilities: Abilities
    outcomes: Outcomes
    recovery: Recovery
    decisions: Decisions
    streams: Seats
    pushes: Board
    inbox: InboxFeed
    remover: SessionRemover


@dataclass(frozen=True, slots=True)
class ImArea:
    """Messenger bots, their outgoing and incoming messages, and webhooks."""

    bots: Bots
    outbox: Outbox
    proactive: ProactiveMessages
    inbound: Inbound
    pollers: Pollers
    webhooks: WebhookFile


@dataclass(frozen=True, slots=True)
class WorkerArea:
    """Background work and resources of one process.

    :param own_db: The database for its lease and its checks; see
        :func:`~astrbot_api.db.store.open_own_store`.
    """

    own_db: Store
    lease: WorkerLease
    chores: Chores
    idempotency: Idempotency
    journal: Journal
    followers: Followers
    journal_writer: JournalWriter
    signals: Signals
    metrics: Metrics
    tracing: Tracing
    aside: Aside
    receiving: MemoryBudget
    unread: UnreadAnswers


@dataclass(frozen=True, slots=True)
class AppState:
    """Complete state of one application, except for HTTP.

    It is ``app.extensions["astrbot_api"]``. Nothing is global, so two applications in one process
    share nothing.
    """

    settings: Settings
    db: Store
    agents: AgentArea
    keys: KeyArea
    chat: ChatArea
    files: Attachments
    uploads: Uploads
    thumbnails: Thumbnails
    im: ImArea
    owner: OwnerLogin
    worker: WorkerArea

    def start(self) -> None:
        """Start the background work of a worker process. Call it once in each process.

        ``astrbot-api serve`` calls it. Elsewhere the first request that needs it does.
        """
        self.agents.mcp.start()
        self.im.outbox.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Release every turn and close the database.

        Another worker, or the next start, resumes the turns. Turns that nobody can resume end, and
        their partial reply is stored.

        :param timeout_s: Time for the turns to end, in seconds.
        """
        worker, runs = self.worker, self.chat.runs
        self.im.pollers.close()
        runs.release_all()
        runs.end_streams()
        runs.wait_until_idle(timeout_s)
        self.im.outbox.close(min(timeout_s, 2.0))
        self.im.bots.close()
        self.agents.plugins.close()
        self.agents.mcp.close()
        worker.chores.close()
        worker.aside.close()
        worker.journal_writer.close()
        try:
            self.chat.outcomes.retry()  # first: replies matter more than counts
            self.keys.usage.flush()
        finally:
            worker.lease.close()
            worker.signals.close()
            worker.journal.close()
            worker.own_db.close()
            self.db.close()
            worker.tracing.close(min(timeout_s, 2.0))

"""Everything about messengers that one application has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..attachments import Attachments
from ..chat.chores import Chores
from ..chat.ending import TurnEnder
from ..chat.lease import WorkerLease
from ..chat.pushing import Pusher
from ..chat.runs import Runs
from ..chat.speaking import Speaker
from ..config import Settings
from ..db.store import Store
from ..stream.signals import Signals
from .accepting import ProactiveMessages
from .adapter import AdapterModule
from .announcing import Announcer
from .bots import Bots
from .inbound import Inbound
from .outbox import Outbox
from .polling import Pollers
from .registry import AdapterTypes
from .sending import Sender
from .webhookfile import WebhookFile


@dataclass(frozen=True, slots=True)
class Messengers:
    """The bots, and what goes out and comes in."""

    bots: Bots
    outbox: Outbox
    proactive: ProactiveMessages
    inbound: Inbound
    pollers: Pollers

    def start(self) -> None:
        """Begin what a worker does for its bots."""
        self.outbox.start()

    def close(self, timeout_s: float) -> None:
        """Take and send nothing more."""
        self.pollers.close()
        self.outbox.close(timeout_s)
        self.bots.close()


def load_bots(settings: Settings, adapters: Mapping[str, AdapterModule]) -> Bots:
    """Return the bots of the data directory.

    :param adapters: Further types of bot.
    :raises SettingsError: when ``bots.toml`` is wrong as a whole.
    """
    bots = Bots(settings.data_dir, AdapterTypes(adapters))
    bots.load()
    return bots


def load_announcer(settings: Settings, bots: Bots) -> Announcer:
    """Return what tells the webhooks of the data directory.

    :raises SettingsError: when ``webhooks.toml`` is wrong.
    """
    webhooks = WebhookFile(settings.data_dir)
    webhooks.load()
    return Announcer(webhooks, bots.http)


def build_messengers(
    settings: Settings,
    store: Store,
    bots: Bots,
    *,
    attachments: Attachments,
    lease: WorkerLease,
    chores: Chores,
    runs: Runs,
    ender: TurnEnder,
    speaker: Speaker,
    pusher: Pusher,
    announcer: Announcer,
    signals: Signals,
) -> Messengers:
    """Put the parts together and have the worker's chores done."""
    outbox = Outbox(
        settings, store, lease, Sender(store, bots, attachments), signals,
        send_event=announcer.send, on_failed=announcer.delivery_failed,
    )  # fmt: skip
    inbound = Inbound(settings, store, bots, runs, attachments, outbox, lease)
    pollers = Pollers(store, bots, inbound, lease)
    ender.on_reply = speaker.on_message = outbox.wake
    # Whatever of a worker lives longer than a request keeps them going.
    chores.add(outbox.start)
    chores.add(pollers.tend, every_s=min(settings.worker_lease_s / 3, 2.0))
    chores.add(inbound.prune, every_s=60.0)
    chores.add(inbound.pending.tend, every_s=15.0)
    return Messengers(
        bots, outbox, ProactiveMessages(settings, store, bots, pusher, outbox), inbound, pollers
    )

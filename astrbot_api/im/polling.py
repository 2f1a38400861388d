"""Polls platforms for messages. Each bot is polled by exactly one worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..db import inbound
from ..db.store import Store
from ..deliveries.http import PlatformError
from ..errors import ApiError, StorageError
from ..worker.lease import WorkerLease
from .adapter import Adapter, Bot, InMessage
from .bots import Bots
from .inbound import Inbound

log = logging.getLogger(__name__)

#: First and maximum pause after a failure, in seconds. The pause doubles each time.
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


@dataclass(slots=True)
class _Poll:
    bot: Bot
    adapter: Adapter
    stop: threading.Event = field(default_factory=threading.Event)


class Pollers:
    """The bots that this worker polls."""

    def __init__(self, store: Store, bots: Bots, inbound_: Inbound, lease: WorkerLease) -> None:
        self._store = store
        self._bots = bots
        self._inbound = inbound_
        self._lease = lease
        self._lock = threading.Lock()
        self._polls: dict[str, _Poll] = {}
        self._closed = False

    def check(self) -> None:
        """Start to poll bots without a worker, and stop polling removed ones. A periodic task."""
        with self._lock:
            if self._closed:
                return
            wanted = {}
            for bot_id in self._bots.list_ids():
                found = self._bots.find_running(bot_id)
                if found is not None and found[1].polls:
                    wanted[bot_id] = found
            for bot_id, poll in list(self._polls.items()):
                if bot_id not in wanted or wanted[bot_id][1] is not poll.adapter:
                    self._leave(bot_id)
            for bot_id, (bot, adapter) in wanted.items():
                self._check_one(bot_id, bot, adapter)

    def close(self) -> None:
        """Stop polling, so that another worker can take over."""
        with self._lock:
            self._closed = True
            for bot_id in list(self._polls):
                self._leave(bot_id)

    def _check_one(self, bot_id: str, bot: Bot, adapter: Adapter) -> None:
        worker_id = self._lease.get_worker_id()
        held = self._store.write(lambda db: inbound.take_bot_lease(db, bot_id, worker_id))
        poll = self._polls.get(bot_id)
        if poll is not None and not held:
            # This worker's lease expired, and another worker polls the bot.
            poll.stop.set()
            del self._polls[bot_id]
        elif poll is None and held:
            poll = _Poll(bot, adapter)
            threading.Thread(
                target=self._poll, args=(poll,), name=f"poll {bot_id}", daemon=True
            ).start()
            self._polls[bot_id] = poll  # only now: without a thread, the next check tries again

    def _leave(self, bot_id: str) -> None:
        poll = self._polls.pop(bot_id)
        poll.stop.set()
        try:
            worker_id = self._lease.get_worker_id()
            self._store.write(lambda db: inbound.drop_bot_lease(db, bot_id, worker_id))
        except StorageError as error:
            log.warning("polling the bot %s resumes only after its lease: %s", bot_id, error)

    def _poll(self, poll: _Poll) -> None:
        pause_s = _FIRST_PAUSE_S
        while not poll.stop.is_set():
            try:
                for batch in poll.adapter.poll(poll.stop):
                    self._take_all(poll, batch)
                    pause_s = _FIRST_PAUSE_S
                    if poll.stop.is_set():
                        break
                else:
                    poll.stop.wait(pause_s)
            except PlatformError as error:
                log.warning("polling the bot %s failed: %s", poll.bot.id, error.message)
                poll.stop.wait(max(pause_s, min(error.retry_after_s or 0, _LONGEST_PAUSE_S)))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            except BaseException:  # CancelledError of asyncio, too, must not end this thread
                log.exception("polling the bot %s failed", poll.bot.id)
                poll.stop.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _take_all(self, poll: _Poll, batch: Sequence[InMessage]) -> None:
        """Store a batch. It is confirmed to the platform only after all of it is stored."""
        for message in batch:
            pause_s = _FIRST_PAUSE_S
            while not poll.stop.is_set():
                try:
                    self._inbound.take(poll.bot, poll.adapter, message)
                    break
                except (ApiError, StorageError) as error:
                    log.warning("a message to the bot %s will be retried: %s", poll.bot.id, error)
                    poll.stop.wait(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                except Exception:
                    log.exception("a message to the bot %s is skipped", poll.bot.id)
                    break

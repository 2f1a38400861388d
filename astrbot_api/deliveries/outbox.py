"""Sends deliveries: claims due ones, sends them, and retries failed attempts.

Accepting a message stores a row, and a worker sends it later. Each part that the
platform confirms is stored before the next part is sent. An interrupted delivery
continues after the last confirmed part.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import peewee

from ..config.settings import Settings
from ..db import delivery_claims
from ..db.deliveries import EVENT_PREFIX, DeliveryRow
from ..db.store import Store
from ..errors import AstrBotError, StorageError, StoreClosed
from ..runlog.signals.signals import DELIVERED, Signals
from ..runtime.clock import now_us
from ..runtime.per_process import PerProcess
from ..runtime.tracing import Span, Tracing, current_span, working_on
from ..worker.lease import WorkerLease
from .attempts import ClaimLost, Confirmed, Note, store_progress, to_platform_error
from .http import PlatformError
from .waiting import DeliveryWaiters

log = logging.getLogger(__name__)

_MAX_SENDING = 64

#: Maximum number of deliveries of one bot or webhook that one worker sends, and of one batch.
#: It is also limited to half of the free places, so that several receivers that do not
#: respond cannot block the others.
_MAX_SENDING_OF_BOT = 12

#: Maximum seconds between two polls for due deliveries. Notifications can get lost,
#: so the outbox also polls.
_POLL_S = 1.0

#: Maximum pause between two attempts, in seconds, even if the platform asks for more. An event
#: waits longer, because it delays no other one and its receiver may be down for a night.
_MAX_PAUSE_S = 3600.0
_MAX_EVENT_PAUSE_S = 12 * 3600.0

_MAX_BACKOFF_S = 600.0

#: How much longer each pause is than the previous one.
_GROWTH = 2.0
_EVENT_GROWTH = 4.0

#: Seconds between two cleanups by one worker.
_MAINTAIN_S = 60.0

#: Sends one delivery, to a messenger or to a webhook.
Send = Callable[[DeliveryRow, Confirmed, Note], None]

#: Called in the transaction that marks a delivery as failed.
OnFailed = Callable[[peewee.Database, DeliveryRow, str], None]


class Outbox:
    """Sends due deliveries, a bounded number at a time.

    :param send_message: Sends a delivery to a messenger.
    :param send_event: Sends a delivery to a webhook.
    :param on_failed: Called for each delivery that failed permanently.
    :param on_settled: Called after each attempt with the bot and ``sent``, ``failed`` or
        ``retried``.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        lease: WorkerLease,
        signals: Signals,
        *,
        send_message: Send,
        send_event: Send,
        on_failed: OnFailed,
        on_settled: Callable[[str, str], None],
        tracing: Tracing,
    ) -> None:
        self._on_settled = on_settled
        self._tracing = tracing
        self._settings = settings
        self._store = store
        self._lease = lease
        self._send_message = send_message
        self._send_event = send_event
        self._on_failed = on_failed
        self._thread = PerProcess(self._begin)
        self._closed = False
        self._woken = threading.Event()
        #: Ids of the deliveries that are being sent, and their bots.
        self._sending: dict[int, str] = {}
        #: The requests that wait for the end of deliveries.
        self.waiters = DeliveryWaiters(store)
        self._maintained_at = float("-inf")
        self._signals = signals
        signals.subscribe(DELIVERED, self.waiters.notify)

    @property
    def sending_count(self) -> int:
        """How many deliveries this worker is sending."""
        return len(self._sending)

    def start(self) -> None:
        """Start sending due deliveries in this process. Later calls do nothing."""
        if not self._closed:
            self._thread.get()

    def wake(self) -> None:
        """Poll for due deliveries now."""
        self.start()
        self._woken.set()

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop claiming deliveries, and let the current attempts finish."""
        self._closed = True
        self._woken.set()
        deadline = time.monotonic() + timeout_s
        while self._sending and time.monotonic() < deadline:
            time.sleep(0.02)

    def _begin(self) -> threading.Thread:
        self._woken, self._sending = threading.Event(), {}
        thread = threading.Thread(target=self._work, name="outbox", daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        while not self._closed:
            self._woken.clear()
            pause_s = _POLL_S
            try:
                pause_s = self._send_due()
                self._maintain()
            except StoreClosed:
                return
            except AstrBotError as error:
                log.error("the outbox: %s", error)
            except Exception:
                log.exception("the outbox failed; it continues")
            self._woken.wait(pause_s)

    def _send_due(self) -> float:
        """Start due deliveries, and return the seconds to wait before the next poll."""
        room = _MAX_SENDING - len(self._sending)
        if room <= 0:
            return _POLL_S
        # A copy: other threads remove their entries meanwhile.
        counts = Counter(list(self._sending.values()))
        of_bot = max(1, min(_MAX_SENDING_OF_BOT, room // 2))
        busy = [bot_id for bot_id, count in counts.items() if count >= of_bot]
        judge = self._lease.can_declare_dead()
        with self._store.read() as db:
            due = delivery_claims.next_due(db, busy, judge=judge)
        if due is None:
            return _POLL_S
        now = now_us()
        if due > now:
            return min(_POLL_S, (due - now) / 1e6)
        worker_id = self._lease.get_worker_id()
        for row in self._store.write(
            lambda db: delivery_claims.claim(db, worker_id, of_bot, busy, judge=judge)
        ):
            self._sending[row.id] = row.platform_id
            try:
                threading.Thread(
                    target=self._send, args=(row, worker_id), name="delivery", daemon=True
                ).start()
            except RuntimeError:  # no thread can be started; the next cleanup frees its row
                del self._sending[row.id]
                raise
        return 0.0 if len(self._sending) < _MAX_SENDING else _POLL_S

    def _maintain(self) -> None:
        if time.monotonic() - self._maintained_at < _MAINTAIN_S:
            return
        self._maintained_at = time.monotonic()
        worker_id = self._lease.get_worker_id()

        def job(db: peewee.Database) -> None:
            # A delivery whose result could not be stored is still claimed by this live worker.
            delivery_claims.free_own(db, worker_id, list(self._sending))
            for events, pause_s in ((False, _MAX_PAUSE_S), (True, _MAX_EVENT_PAUSE_S)):
                delivery_claims.pull_in(db, now_us() + int(pause_s * 1e6), events=events)

        self._store.write(job)

    def _send(self, row: DeliveryRow, worker_id: str) -> None:
        confirmed = Confirmed(row.sent_parts, row.sent_chars, list(row.platform_ids))

        def note(what: Confirmed) -> bool:
            return self._store.write(
                lambda db: delivery_claims.note_progress(
                    db, row, worker_id,
                    parts=what.parts, chars=what.chars, platform_ids=what.platform_ids,
                )
            )  # fmt: skip

        try:
            with working_on(self._begin_span(row)):
                self._attempt(row, worker_id, confirmed, note)
        except ClaimLost:
            log.warning("delivery %s was taken over by another worker", row.delivery_id)
        except Exception:
            # Its row stays claimed until the next cleanup.
            log.exception("the result of delivery %s could not be stored", row.delivery_id)
        finally:
            self._sending.pop(row.id, None)
            self.waiters.notify(row.delivery_id)
            # The request that waits for it may be on another worker.
            self._signals.publish(DELIVERED, row.delivery_id)
            self._woken.set()

    def _begin_span(self, row: DeliveryRow) -> Span:
        is_event = row.platform_id.startswith(EVENT_PREFIX)
        return self._tracing.begin(
            f"send {'event' if is_event else 'message'}",
            "CLIENT",
            {
                "messaging.operation.type": "send",
                "astrbot.bot.id": row.platform_id,
                "astrbot.delivery.id": row.delivery_id,
                "astrbot.delivery.attempt": row.attempts,
            },
            headers={"traceparent": row.traceparent} if row.traceparent else None,
        )

    def _attempt(self, row: DeliveryRow, worker_id: str, confirmed: Confirmed, note: Note) -> None:
        is_event = row.platform_id.startswith(EVENT_PREFIX)
        send = self._send_event if is_event else self._send_message
        try:
            if row.error == delivery_claims.WORKER_DIED_TWICE:
                raise PlatformError(row.error)
            send(row, confirmed, note)
        except ClaimLost:
            raise
        except BaseException as error:  # CancelledError of asyncio, too, must settle the delivery
            failure = to_platform_error(error)
            if failure is not error:
                log.warning("delivery %s", row.delivery_id, exc_info=error)
            self._settle_failure(row, worker_id, confirmed, failure)
            return
        self._settle(
            row, "sent", confirmed,
            lambda db, what: delivery_claims.finish(
                db, row, worker_id, "sent", error=None, platform_ids=what.platform_ids
            ),
        )  # fmt: skip

    def _settle_failure(
        self, row: DeliveryRow, worker_id: str, confirmed: Confirmed, failure: PlatformError
    ) -> None:
        again = failure.retryable and row.attempts < self._settings.im_max_attempts
        log.log(
            logging.INFO if again else logging.WARNING,
            "delivery %s to %s, attempt %d: %s",
            row.delivery_id, row.platform_id, row.attempts, failure.message,
        )  # fmt: skip

        def job(db: peewee.Database, what: Confirmed) -> bool:
            if again:
                due_at = now_us() + int(1e6 * self._pause_s(row, failure))
                return delivery_claims.requeue(
                    db, row, worker_id, error=failure.message, due_at=due_at
                )
            kept = delivery_claims.finish(
                db, row, worker_id, "failed",
                error=failure.message, platform_ids=what.platform_ids,
            )  # fmt: skip
            if kept:
                self._on_failed(db, row, failure.message)
            return kept

        current_span().fail("platform_error")
        self._settle(row, "retried" if again else "failed", confirmed, job)

    def _settle(
        self,
        row: DeliveryRow,
        outcome: str,
        confirmed: Confirmed,
        job: Callable[[peewee.Database, Confirmed], bool],
    ) -> None:
        """Store the result, and retry while the database is locked."""
        with suppress(StorageError):
            store_progress(lambda what: self._store.write(lambda db: job(db, what)), confirmed)
        current_span().note({"astrbot.delivery.outcome": outcome})
        self._on_settled(row.platform_id, outcome)

    def _pause_s(self, row: DeliveryRow, failure: PlatformError) -> float:
        """Return the seconds to wait before the next attempt."""
        growth, longest_s, most_s = _GROWTH, _MAX_BACKOFF_S, _MAX_PAUSE_S
        if row.platform_id.startswith(EVENT_PREFIX):
            growth, longest_s, most_s = _EVENT_GROWTH, _MAX_EVENT_PAUSE_S, _MAX_EVENT_PAUSE_S
        backoff_s = min(self._settings.im_retry_s * growth ** (row.attempts - 1), longest_s)
        # Jitter: not all deliveries retry at the same moment when a platform is back.
        backoff_s *= random.uniform(0.8, 1.2)
        return min(max(backoff_s, failure.retry_after_s or 0.0), most_s)

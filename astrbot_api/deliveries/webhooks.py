"""Events for other systems: queued here, sent by the outbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import peewee

from ..db.deliveries import EVENT_PREFIX, DeliveryRow, add_delivery
from ..runtime.clock import now_us, to_iso
from ..runtime.tracing import current_span
from .attempts import Confirmed, Note
from .http import PlatformError, PlatformHttp
from .signing import sign
from .webhook_file import WebhookFile

#: Maximum size of a receiver's response, in bytes; its content is ignored.
_MAX_ANSWER_BYTES = 64 * 1024


class Announcer:
    """Notifies the webhooks that subscribe to an event.

    An event is queued in the same transaction as the change that it reports, so
    both are committed or neither. Events are not ordered: a retried event may
    arrive after a later one.
    """

    def __init__(self, webhooks: WebhookFile, http: PlatformHttp) -> None:
        self._webhooks = webhooks
        self._http = http

    def queue(
        self,
        db: peewee.Database,
        event: str,
        *,
        payer: str | None = None,
        traceparent: str | None = None,
        **data: Any,
    ) -> None:
        """Queue an event for each subscribed webhook. Almost free without subscribers.

        :param event: One of :data:`~astrbot_api.deliveries.webhook_file.EVENTS`.
        :param payer: The key whose quota counts the event until it is sent, or None.
        :param data: The event's ``data``.
        """
        webhooks = self._webhooks.list_for(event)
        if not webhooks:
            return
        content = {"type": event, "timestamp": to_iso(now_us()), "data": data}
        for webhook in webhooks:
            name = f"{EVENT_PREFIX}{webhook.id}"
            add_delivery(db, platform_id=name, target=name, content=content, ordered=False,
                         payer=payer, traceparent=traceparent)  # fmt: skip

    def message_stored(
        self,
        db: peewee.Database,
        *,
        session_id: str,
        platform_id: str,
        sender: str,
        saved: tuple[int, int],
        content: Mapping[str, Any],
        sender_name: str = "",
        payer: str | None = None,
        traceparent: str | None = None,
    ) -> None:
        """Queue that a message was stored.

        :param saved: The message's id and its time in microseconds.
        """
        self.queue(
            db, "message_stored", payer=payer, traceparent=traceparent,
            message_id=saved[0], session_id=session_id, platform_id=platform_id, sender_id=sender,
            sender_name=sender_name or sender, content=content, created_at=to_iso(saved[1]),
        )  # fmt: skip

    def delivery_failed(self, db: peewee.Database, delivery: DeliveryRow, error: str) -> None:
        """Queue that a delivery to a messenger has failed permanently."""
        if delivery.platform_id.startswith(EVENT_PREFIX):
            return  # otherwise a failing webhook would cause new events without end
        self.queue(
            db, "delivery_failed", delivery_id=delivery.delivery_id, umo=delivery.target,
            attempts=delivery.attempts, error=error,
        )  # fmt: skip

    def send(self, delivery: DeliveryRow, confirmed: Confirmed, note: Note) -> None:
        """Send one event. Any status other than 2xx is a failure, and only 410 a final one.

        A receiver that is being replaced may respond 401 or 404 for a while.

        :raises PlatformError: when the webhook does not accept the event.
        """
        webhook = self._webhooks.find(delivery.platform_id.removeprefix(EVENT_PREFIX))
        if webhook is None:
            # Maybe only for a moment, while the file is written.
            raise PlatformError("The webhook was removed or disabled.", retryable=True)
        body = orjson.dumps(delivery.content)
        headers = {
            "Content-Type": "application/json",
            **sign(webhook.secret, delivery.delivery_id, body),
            **current_span().to_headers(),
        }
        answer = self._http.request(
            "POST", webhook.url, body=body, headers=headers,
            timeout_s=webhook.timeout_s, limit_s=2 * webhook.timeout_s,
            max_bytes=_MAX_ANSWER_BYTES, status_only=True,
        )  # fmt: skip
        if not 200 <= answer.status < 300:
            raise PlatformError(
                f"The receiver responded with status {answer.status}.",
                retryable=answer.status != 410, retry_after_s=answer.retry_after_s,
            )  # fmt: skip

"""The tables of messengers and webhooks: deliveries and received messages."""

from __future__ import annotations

from peewee import CompositeKey, Default, TextField, ValueLiterals

from .fields import UNIQUE, ZERO, RowNumber, Table, Whole, add_index


class Delivery(Table):
    """A message or event to send to a messenger or a webhook, and its status.

    ``target`` is the UMO. ``content`` is empty once it is finished. ``head`` marks the first
    unfinished delivery of each target. ``sent_parts`` and ``sent_chars`` are the confirmed
    progress.
    """

    id = RowNumber()
    delivery_id = TextField(constraints=UNIQUE)
    platform_id = TextField()
    target = TextField()
    key_id = TextField(null=True)
    content = TextField()
    reply_to = TextField(null=True)
    status = TextField()
    head = Whole()
    attempts = Whole(default=0, constraints=ZERO)
    sent_parts = Whole(default=0, constraints=ZERO)
    sent_chars = Whole(default=0, constraints=ZERO)
    platform_ids = TextField(default="[]", constraints=[Default("'[]'")])
    error = TextField(null=True)
    due_at = Whole()
    claimed_by = TextField(null=True)
    created_at = Whole()
    updated_at = Whole()
    finished_at = Whole(null=True)
    traceparent = TextField(null=True)
    payer = TextField(null=True)
    size_bytes = Whole(default=0, constraints=ZERO)


# As literals, so that partial indexes apply.
DELIVERY_DUE = ValueLiterals((Delivery.status == "queued") & (Delivery.head == 1))
DELIVERY_SENDING = ValueLiterals(Delivery.status == "sending")
DELIVERY_UNFINISHED = ValueLiterals(Delivery.status.in_(("queued", "sending")))
add_index("delivery_due", Delivery.due_at, Delivery.id, where=DELIVERY_DUE)
add_index("delivery_sending", Delivery.claimed_by, where=DELIVERY_SENDING)
add_index("delivery_line", Delivery.target, Delivery.id, where=DELIVERY_UNFINISHED)
add_index("delivery_finished", Delivery.finished_at, where=Delivery.finished_at.is_null(False))
add_index("delivery_of_platform", Delivery.platform_id, Delivery.id)


class InboundEvent(Table):
    """A message that a messenger has delivered: one row, even if it is redelivered."""

    bot_id = TextField()
    event_id = TextField()
    run_id = TextField(null=True)
    umo = TextField()
    reply_to = TextField(null=True)
    received_at = Whole()

    class Meta:
        primary_key = CompositeKey("bot_id", "event_id")


add_index(
    "inbound_event_run", InboundEvent.run_id, unique=True, where=InboundEvent.run_id.is_null(False)
)
add_index("inbound_event_received", InboundEvent.received_at)


class InboundPending(Table):
    """A message, as JSON, whose files or whose predecessor's files a worker is downloading."""

    bot_id = TextField()
    event_id = TextField()
    worker_id = TextField()
    message = TextField()
    received_at = Whole()
    umo = TextField(default="", constraints=[Default("''")])

    class Meta:
        primary_key = CompositeKey("bot_id", "event_id")


add_index("inbound_pending_received", InboundPending.received_at)
add_index("inbound_pending_umo", InboundPending.umo, InboundPending.received_at)


class BotLease(Table):
    """The worker that polls a bot's platform."""

    bot_id = TextField(primary_key=True)
    worker_id = TextField()

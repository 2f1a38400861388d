"""The tables. Times are integers: microseconds since 1970, UTC.

The migrations make them and their indexes; a test keeps the two in step.
Where a query runs on every request its SQL stands as text beside it:
building it with peewee costs twenty times what SQLite needs to run it.
"""

from __future__ import annotations

from peewee import (
    AutoField,
    BigIntegerField,
    CharField,
    CompositeKey,
    FloatField,
    IntegerField,
    Model,
    TextField,
)

#: States in which a run still has, or waits for, its session's turn.
ACTIVE_RUN_STATES = ("queued", "running")


class ApiKey(Model):
    """A key. The secret itself is stored nowhere, only its SHA-256.

    ``rules`` are its guard rails as JSON, ``parent_id`` the key that a
    session key was made with.
    """

    key_id = CharField(primary_key=True, max_length=36)
    name = TextField()
    key_prefix = CharField(max_length=12)
    digest = CharField(max_length=64, unique=True)
    created_by = TextField()
    created_at = BigIntegerField()
    updated_at = BigIntegerField()
    last_used_at = BigIntegerField(null=True)
    expires_at = BigIntegerField(null=True)
    revoked_at = BigIntegerField(null=True)
    rules = TextField(null=True)
    parent_id = CharField(max_length=36, null=True)

    class Meta:
        table_name = "api_key"


class ApiKeyScope(Model):
    """One scope of one key."""

    id = AutoField()
    key_id = CharField(max_length=36)
    scope = CharField(max_length=32)

    class Meta:
        table_name = "api_key_scope"


class ChatSession(Model):
    """A conversation of one username.

    ``context_after`` is the id of the last message that the model no longer
    sees (``/reset``).
    """

    id = AutoField()
    session_id = TextField(unique=True)
    platform_id = CharField(max_length=255)
    creator = TextField()
    display_name = TextField(null=True)
    is_group = IntegerField(default=0)
    config_id = TextField(null=True)
    context_after = BigIntegerField(default=0)
    created_at = BigIntegerField()
    updated_at = BigIntegerField()

    class Meta:
        table_name = "chat_session"


class SessionCount(Model):
    """How many sessions a creator has on a platform.

    Counting index entries is linear; the list of sessions tells its total on
    every page. Kept in step by :mod:`astrbot_api.db.sessions` alone.
    """

    id = AutoField()
    creator = TextField()
    platform_id = CharField(max_length=255)
    sessions = IntegerField(default=0)

    class Meta:
        table_name = "session_count"


class Message(Model):
    """One message of a session: ``content`` is its JSON, as the contract has it."""

    id = AutoField()
    session = BigIntegerField()
    platform_id = CharField(max_length=255)
    sender_id = TextField()
    sender_name = TextField()
    content = TextField()
    llm_checkpoint_id = CharField(max_length=36, null=True)
    created_at = BigIntegerField()
    pushed = IntegerField(default=0)

    class Meta:
        table_name = "message"


class Note(Model):
    """What the model was asked to keep about a user."""

    username = TextField()
    key = TextField()
    value = TextField()
    updated_at = BigIntegerField()

    class Meta:
        table_name = "note"
        primary_key = CompositeKey("username", "key")


class SessionSummary(Model):
    """What the model is told of a session's older turns, up to message ``until``."""

    session = BigIntegerField(primary_key=True)
    until = BigIntegerField()
    text = TextField()
    created_at = BigIntegerField()

    class Meta:
        table_name = "session_summary"


class DeletedSession(Model):
    """A session that is gone for its owner, but whose messages and runs are still to go."""

    session = BigIntegerField(primary_key=True)
    since = BigIntegerField()

    class Meta:
        table_name = "deleted_session"


class IdempotentRequest(Model):
    """A request with an ``Idempotency-Key``, and what it came to."""

    key_id = CharField(max_length=36)
    client_key = CharField(max_length=255)
    body_hash = CharField(max_length=64)
    worker_id = CharField(max_length=36)
    run_id = CharField(max_length=36, null=True)
    status = IntegerField(null=True)
    answer = TextField(null=True)
    created_at = BigIntegerField()

    class Meta:
        table_name = "idempotency"
        primary_key = CompositeKey("key_id", "client_key")


class Run(Model):
    """One turn. Its number is its place in the queue of its session."""

    id = AutoField()
    run_id = CharField(max_length=36, unique=True)
    session = BigIntegerField()
    key_id = CharField(max_length=36, null=True)
    worker_id = CharField(max_length=36)
    status = CharField(max_length=16)
    error_code = CharField(max_length=64, null=True)
    user_message = BigIntegerField(null=True)
    bot_message = BigIntegerField(null=True)
    created_at = BigIntegerField()
    started_at = BigIntegerField(null=True)
    finished_at = BigIntegerField(null=True)
    llm_checkpoint_id = CharField(max_length=36, null=True)
    stop_requested_at = BigIntegerField(null=True)

    class Meta:
        table_name = "run"


class Worker(Model):
    """A process that runs turns, and until when it is surely alive."""

    worker_id = CharField(primary_key=True, max_length=36)
    lease_until = FloatField()

    class Meta:
        table_name = "worker"


class Attachment(Model):
    """A file that was uploaded, or made by a tool; ``blob`` names its bytes in the storage."""

    id = AutoField()
    attachment_id = CharField(max_length=36, unique=True)
    name = TextField()
    type = CharField(max_length=16)
    mime = CharField(max_length=255)
    charset = CharField(max_length=32, null=True)
    size_bytes = BigIntegerField()
    sha256 = CharField(max_length=64)
    blob = CharField(max_length=80)
    key_id = CharField(max_length=36, null=True)
    created_at = BigIntegerField()

    class Meta:
        table_name = "attachment"


class MessageAttachment(Model):
    """A stored message uses an attachment."""

    id = AutoField()
    message = BigIntegerField()
    attachment = BigIntegerField()

    class Meta:
        table_name = "message_attachment"


class AttachmentTotal(Model):
    """What a key has uploaded and not deleted.

    Kept in step by :mod:`astrbot_api.db.attachments` alone, as the limit of a
    key is checked on every upload.
    """

    key_id = CharField(primary_key=True, max_length=36)
    size_bytes = BigIntegerField()
    attachments = IntegerField()

    class Meta:
        table_name = "attachment_total"


class StrayBlob(Model):
    """Bytes that no attachment has: being saved, or still to be deleted."""

    blob = CharField(primary_key=True, max_length=80)
    since = BigIntegerField()

    class Meta:
        table_name = "stray_blob"


class Owner(Model):
    """Who may log in; ``password_hash`` is argon2's text."""

    name = CharField(primary_key=True, max_length=255)
    password_hash = TextField()
    created_at = BigIntegerField()
    updated_at = BigIntegerField()

    class Meta:
        table_name = "owner"


class OwnerSession(Model):
    """A login that has not ended. The token is signed and names ``session_key``."""

    session_key = CharField(primary_key=True, max_length=64)
    name = CharField(max_length=255)
    address = CharField(max_length=64)
    created_at = BigIntegerField()
    expires_at = BigIntegerField()

    class Meta:
        table_name = "owner_session"


class LoginFailure(Model):
    """How often an address, or a name, failed to log in since a time."""

    subject = CharField(primary_key=True, max_length=255)
    failures = IntegerField()
    since = BigIntegerField()

    class Meta:
        table_name = "login_failure"


class Audit(Model):
    """What was done to keys, logins and data: by whom and from where."""

    id = AutoField()
    at = BigIntegerField()
    action = CharField(max_length=32)
    actor = CharField(max_length=255)
    address = CharField(max_length=64)
    subject = TextField()
    detail = TextField()

    class Meta:
        table_name = "audit"


class KeyUse(Model):
    """What a key did on one day (days since 1970, UTC). No key is ``""``."""

    key_id = CharField(max_length=36)
    day = IntegerField()
    requests = BigIntegerField()
    errors = BigIntegerField()
    turns = BigIntegerField()
    failed_turns = BigIntegerField()
    input_tokens = BigIntegerField()
    output_tokens = BigIntegerField()
    turn_ms = BigIntegerField()

    class Meta:
        table_name = "key_use"
        primary_key = CompositeKey("key_id", "day")


class RateCount(Model):
    """Requests of one minute that a limit counts."""

    subject = CharField(max_length=255)
    minute = BigIntegerField()
    requests = BigIntegerField()

    class Meta:
        table_name = "rate_count"
        primary_key = CompositeKey("subject", "minute")


class LegacyKey(Model):
    """The foreign hash of a key that was imported and not used since."""

    key_id = CharField(primary_key=True, max_length=36)
    key_prefix = CharField(max_length=12)
    algorithm = CharField(max_length=16)
    rounds = IntegerField()
    salts = TextField()
    digest = CharField(max_length=128)

    class Meta:
        table_name = "legacy_key"


class ImportedItem(Model):
    """A key, session or attachment that was imported, by its id there."""

    kind = CharField(max_length=16)
    source_id = TextField()
    target = BigIntegerField(null=True)
    stamp = BigIntegerField()

    class Meta:
        table_name = "imported_item"
        primary_key = CompositeKey("kind", "source_id")


class ImportedMessage(Model):
    """A message that was imported, by its number there."""

    session = BigIntegerField()
    source_id = BigIntegerField()
    message = BigIntegerField()

    class Meta:
        table_name = "imported_message"
        primary_key = CompositeKey("session", "source_id")


class Delivery(Model):
    """What is to be sent to a messenger or a webhook, and what became of it.

    ``target`` is the UMO. Of the deliveries of one target that are not
    finished, ``head`` marks the one whose turn it is. ``sent_parts`` and
    ``sent_chars`` say how much of it the platform has confirmed.
    """

    id = AutoField()
    delivery_id = CharField(max_length=36, unique=True)
    platform_id = CharField(max_length=255)
    target = TextField()
    key_id = CharField(max_length=36, null=True)
    content = TextField()
    reply_to = TextField(null=True)
    status = CharField(max_length=16)
    head = IntegerField()
    attempts = IntegerField(default=0)
    sent_parts = IntegerField(default=0)
    sent_chars = IntegerField(default=0)
    platform_ids = TextField(default="[]")
    error = TextField(null=True)
    due_at = BigIntegerField()
    claimed_by = CharField(max_length=36, null=True)
    created_at = BigIntegerField()
    updated_at = BigIntegerField()
    finished_at = BigIntegerField(null=True)
    traceparent = CharField(max_length=64, null=True)

    class Meta:
        table_name = "delivery"


class InboundEvent(Model):
    """A message that a messenger has told us of: once, however often it tells it."""

    bot_id = CharField(max_length=255)
    event_id = CharField(max_length=255)
    run_id = CharField(max_length=36, null=True)
    umo = TextField()
    reply_to = TextField(null=True)
    received_at = BigIntegerField()

    class Meta:
        table_name = "inbound_event"
        primary_key = CompositeKey("bot_id", "event_id")


class InboundPending(Model):
    """A message whose files a worker is fetching; it is JSON."""

    bot_id = CharField(max_length=255)
    event_id = CharField(max_length=255)
    worker_id = CharField(max_length=36)
    message = TextField()
    received_at = BigIntegerField()

    class Meta:
        table_name = "inbound_pending"
        primary_key = CompositeKey("bot_id", "event_id")


class BotLease(Model):
    """The one worker that polls a bot's platform."""

    bot_id = CharField(primary_key=True, max_length=255)
    worker_id = CharField(max_length=36)

    class Meta:
        table_name = "bot_lease"


ALL_MODELS: tuple[type[Model], ...] = (
    ApiKey,
    ApiKeyScope,
    ChatSession,
    SessionCount,
    Message,
    Note,
    SessionSummary,
    DeletedSession,
    IdempotentRequest,
    Run,
    Worker,
    Attachment,
    MessageAttachment,
    AttachmentTotal,
    StrayBlob,
    Owner,
    OwnerSession,
    LoginFailure,
    Audit,
    KeyUse,
    RateCount,
    LegacyKey,
    ImportedItem,
    ImportedMessage,
    Delivery,
    InboundEvent,
    InboundPending,
    BotLease,
)

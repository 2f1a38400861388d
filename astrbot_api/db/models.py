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
    """A key. The secret itself is stored nowhere, only its SHA-256."""

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
)

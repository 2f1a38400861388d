"""The tables of sessions: messages, and what the model keeps of them."""

from __future__ import annotations

from peewee import CompositeKey, TextField, ValueLiterals

from .fields import UNIQUE, ZERO, RowNumber, Table, Whole, add_index


class ChatSession(Table):
    """A conversation of one username.

    ``context_after`` is the id of the last message that the model no longer
    sees (``/reset``). ``edition`` is increased when stored messages change or are deleted. It
    begins with the time of creation: after the restore of a backup, a new session may get the
    number of one that workers still know.
    """

    id = RowNumber()
    session_id = TextField(constraints=UNIQUE)
    platform_id = TextField()
    creator = TextField()
    display_name = TextField(null=True)
    is_group = Whole(default=0)
    config_id = TextField(null=True)
    context_after = Whole(default=0)
    created_at = Whole()
    updated_at = Whole()
    #: The key that created it, or the parent of that session key.
    key_id = TextField(null=True)
    edition = Whole(default=0, constraints=ZERO)


add_index("chat_session_created", ChatSession.creator, ChatSession.created_at, ChatSession.id)
add_index("chat_session_updated", ChatSession.creator, ChatSession.updated_at, ChatSession.id)
add_index(
    "chat_session_platform",
    ChatSession.creator,
    ChatSession.platform_id,
    ChatSession.created_at,
    ChatSession.id,
)


class SessionCount(Table):
    """The number of sessions of a creator on a platform.

    Counting index entries takes linear time, and every page of sessions has the
    total. Only :mod:`astrbot_api.db.sessions` updates it.
    """

    id = RowNumber()
    creator = TextField()
    platform_id = TextField()
    sessions = Whole(default=0)


add_index("session_count_key", SessionCount.creator, SessionCount.platform_id, unique=True)


class Message(Table):
    """One message of a session: ``content`` is its JSON, in the form of the contract.

    ``attached`` is JSON for the model only: the steps of the answer, each with its number of
    calls and the data that the provider attached to it.
    """

    id = RowNumber()
    session = Whole()
    platform_id = TextField()
    sender_id = TextField()
    sender_name = TextField()
    content = TextField()
    llm_checkpoint_id = TextField(null=True)
    created_at = Whole()
    pushed = Whole(default=0, constraints=ZERO)
    attached = TextField(null=True)
    #: The key whose quota counts it, and the counted bytes (see :mod:`astrbot_api.db.stored`).
    payer = TextField(null=True)
    size_bytes = Whole(default=0, constraints=ZERO)


#: Pushed messages, which streams and inboxes show. As literals, so that a partial index applies.
PUSHED = ValueLiterals(Message.pushed == 1)
add_index("message_session", Message.session, Message.id)
add_index("message_pushed", Message.id, where=PUSHED)
add_index("message_pushed_session", Message.session, Message.id, where=PUSHED)


class Note(Table):
    """A note about a user that the model was asked to keep."""

    username = TextField()
    key = TextField()
    value = TextField()
    updated_at = Whole()
    payer = TextField(null=True)
    size_bytes = Whole(default=0, constraints=ZERO)

    class Meta:
        primary_key = CompositeKey("username", "key")


class SessionSummary(Table):
    """The summary of a session's older turns for the model, up to message ``until``."""

    session = Whole(primary_key=True)
    until = Whole()
    text = TextField()
    created_at = Whole()


class DeletedSession(Table):
    """A session that was deleted for its owner, but still has messages and runs to delete."""

    session = Whole(primary_key=True)
    since = Whole()


class ImportedItem(Table):
    """An imported key, session or attachment, by its source id."""

    kind = TextField()
    source_id = TextField()
    target = Whole(null=True)
    stamp = Whole()

    class Meta:
        primary_key = CompositeKey("kind", "source_id")


class ImportedMessage(Table):
    """An imported message, by its source number."""

    session = Whole()
    source_id = Whole()
    message = Whole()

    class Meta:
        primary_key = CompositeKey("session", "source_id")

"""The tables of keys: their rules, their use, and what they have stored."""

from __future__ import annotations

from peewee import CompositeKey, TextField

from .fields import UNIQUE, ZERO, RowNumber, Table, Whole, add_index


class ApiKey(Table):
    """A key. The secret itself is not stored, only its SHA-256.

    ``rules`` are its guard rails as JSON. ``parent_id`` is the key that
    created a session key.
    """

    key_id = TextField(primary_key=True)
    name = TextField()
    key_prefix = TextField()
    digest = TextField(constraints=UNIQUE)
    created_by = TextField()
    created_at = Whole()
    updated_at = Whole()
    last_used_at = Whole(null=True)
    expires_at = Whole(null=True)
    revoked_at = Whole(null=True)
    rules = TextField(null=True)
    parent_id = TextField(null=True)
    #: The owner's login with which a console key ends.
    owner_session = TextField(null=True)
    #: 1 if this is an earlier secret of its parent, which was rotated.
    replaced = Whole(default=0, constraints=ZERO)


# With the times, so that counting a key's session keys reads no rows.
add_index(
    "api_key_parent", ApiKey.parent_id, ApiKey.expires_at, ApiKey.revoked_at,
    where=ApiKey.parent_id.is_null(False),
)  # fmt: skip

add_index("api_key_maker", ApiKey.created_by, where=ApiKey.parent_id.is_null())
add_index("api_key_owner_session", ApiKey.owner_session, where=ApiKey.owner_session.is_null(False))


class ApiKeyScope(Table):
    """One scope of one key."""

    id = RowNumber()
    key_id = TextField()
    scope = TextField()


add_index("api_key_scope_key_id_scope", ApiKeyScope.key_id, ApiKeyScope.scope, unique=True)


class LegacyKey(Table):
    """The original hash of a key that was imported and is still unused."""

    key_id = TextField(primary_key=True)
    key_prefix = TextField()
    algorithm = TextField()
    rounds = Whole()
    salts = TextField()
    digest = TextField()


add_index("legacy_key_prefix", LegacyKey.key_prefix)


class KeyUse(Table):
    """Usage of a key on one day (days since 1970, UTC). ``""`` stands for no key."""

    key_id = TextField()
    day = Whole()
    requests = Whole()
    errors = Whole()
    turns = Whole()
    failed_turns = Whole()
    input_tokens = Whole()
    output_tokens = Whole()
    turn_ms = Whole()

    class Meta:
        primary_key = CompositeKey("key_id", "day")


add_index("key_use_day", KeyUse.day)


class RateCount(Table):
    """Number of requests of a subject in one minute."""

    subject = TextField()
    minute = Whole()
    requests = Whole()

    class Meta:
        primary_key = CompositeKey("subject", "minute")


add_index("rate_count_minute", RateCount.minute)


class KeyStored(Table):
    """A key's stored data: numbers and bytes, by kind.

    Only :mod:`astrbot_api.db.stored` updates it. Every write for a key checks the key's quota
    against it. ``minute`` is the last minute in which the key stored anything, counted from
    1970. ``minute_bytes`` are the bytes of that minute, ``before_bytes`` of the one before.
    """

    key_id = TextField(primary_key=True)
    messages = Whole()
    messages_bytes = Whole()
    sessions = Whole()
    sessions_bytes = Whole()
    deliveries = Whole()
    deliveries_bytes = Whole()
    requests = Whole()
    requests_bytes = Whole()
    notes = Whole()
    notes_bytes = Whole()
    minute = Whole(default=0, constraints=ZERO)
    minute_bytes = Whole(default=0, constraints=ZERO)
    before_bytes = Whole(default=0, constraints=ZERO)


class Visit(Table):
    """A session key that a visitor of a page got, on one day (days since 1970, UTC).

    ``turns`` is the number of allowed turns, or of used turns once ``settled``. ``address`` is
    a keyed hash: no address is stored.
    """

    key_id = TextField(primary_key=True)
    root_id = TextField()
    visitor = TextField()
    address = TextField()
    day = Whole()
    turns = Whole()
    settled = Whole()


add_index("visit_visitor", Visit.visitor, Visit.day)
add_index("visit_address", Visit.address, Visit.day)
add_index("visit_day", Visit.day)

"""Visitors of web pages: short-lived keys for a widget without a key of its own."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import peewee
from itsdangerous import BadSignature, URLSafeSerializer

from ..config.agents import AgentConfig
from ..config.widget import WidgetConfig
from ..db import keys, session_keys, visits
from ..db.audit import AuditEntry, key_entry, write_audited
from ..db.locks import lock_name
from ..db.models.keys import ApiKey
from ..db.store import Store
from ..errors import ApiError
from ..runtime.addresses import name_customer
from ..runtime.clock import now_us
from .limits import check_session_keys
from .rules import KeyRules, narrow_rules

#: Lifetime of a visitor's key in seconds, and its maximum number of turns. Few, because
#: unused turns count until the key expires.
_VALID_S = 3600
_TURNS = 10

#: Maximum number of keys per address and day.
_MAX_VISITS = 1000

#: Rate and concurrency limits of one visitor.
_REQUESTS_PER_MINUTE = 120
_STREAMS = 3
_MAX_TOKEN_CHARS = 500

#: Rule ``upload_bytes`` of a new widget's key: anybody may upload, and could fill the disk.
_UPLOAD_BYTES = 5 * 1024**3


@dataclass(frozen=True, slots=True)
class Admission:
    """The key and the token of an admitted visitor.

    :param visitor: Token that identifies the visitor at the next visit.
    :param expires_at: ISO 8601, UTC.
    """

    api_key: str
    expires_at: str
    username: str
    visitor: str


class Visitors:
    """Admits visitors of pages, for all workers of an application.

    Each widget has its own key in the owner's list, created at the first visit. The usage of
    its visitors counts to that key, and revoking it closes the widget.

    :param load_secret: Returns the secret that signs visitors' tokens; called at the first visit.
    """

    def __init__(self, store: Store, load_secret: Callable[[], str]) -> None:
        self._store = store
        self._load_secret = load_secret

    @cached_property
    def _secret(self) -> str:
        return self._load_secret()

    @cached_property
    def _signer(self) -> URLSafeSerializer:
        return URLSafeSerializer(self._secret, salt="astrbot-api visitor of a page")

    def admit(
        self, config: AgentConfig, widget: WidgetConfig, address: str, token: str
    ) -> Admission:
        """Create a key for a visitor.

        :param token: The token of an earlier visit. An invalid token makes a new visitor.
        :raises ApiError: ``widget_closed``, ``visits_exhausted`` or ``too_many_keys``.
        """
        visitor = self._find_visitor(config.id, token) or f"visitor-{secrets.token_hex(10)}"
        where = f"{config.id} {name_customer(address)}".encode()
        hashed = hmac.new(self._secret.encode(), where, hashlib.sha256).hexdigest()[:32]

        def job(db: peewee.Database) -> tuple[str, str, AuditEntry | None]:
            lock_name(db, "visits", hashed)
            lock_name(db, "visitor", visitor)
            turns = _find_rest(widget, visits.read_granted(db, visitor, hashed))
            root, made = _open_root(db, config.id)
            rules = KeyRules(
                username=visitor, configs=(config.id,), max_turns=turns, streams=_STREAMS,
                requests_per_minute=_REQUESTS_PER_MINUTE,
            )  # fmt: skip
            _make_room(db, root.key_id)
            given = session_keys.create_session_key(
                db, root.key_id, "visit of a page",
                expires_at=now_us() + _VALID_S * 1_000_000,
                scopes=["chat", "file"] if widget.files else ["chat"],
                narrow=partial(narrow_rules, more=rules),
            )  # fmt: skip
            if given is None:
                raise _widget_closed(config.id)
            row, secret = given
            visits.add_visit(
                db, row["key_id"], root_id=root.key_id, visitor=visitor, address=hashed,
                turns=turns,
            )  # fmt: skip
            entry = key_entry("key_created", made, actor="widget") if made else None
            return secret, row["expires_at"], entry

        secret, expires_at, _ = write_audited(self._store, job, lambda made: made[2])
        signed = str(self._signer.dumps([config.id, visitor]))
        return Admission(secret, expires_at, visitor, signed)

    def _find_visitor(self, config_id: str, token: str) -> str | None:
        if not token or len(token) > _MAX_TOKEN_CHARS:
            return None
        try:
            of_config, visitor = self._signer.loads(token)
        except (BadSignature, ValueError):
            return None
        return str(visitor) if of_config == config_id else None


def _make_room(db: peewee.Database, root_id: str) -> None:
    """Delete the oldest keys without a turn if there are too many. Their pages visit again.

    Otherwise some hundred addresses could close the chat for everyone.

    :raises ApiError: ``too_many_keys``.
    """
    try:
        check_session_keys(db, root_id)
    except ApiError:
        dropped = session_keys.drop_unused(db, root_id)
        if not dropped:
            raise
        visits.release(db, dropped)


def _find_rest(widget: WidgetConfig, granted: visits.Granted) -> int:
    """Return how many turns a new key may have.

    :raises ApiError: ``visits_exhausted``.
    """
    turns = min(
        _TURNS,
        widget.turns_per_visitor - granted.visitor_turns,
        widget.turns_per_address - granted.address_turns,
    )
    if turns > 0 and granted.address_visits < _MAX_VISITS:
        return turns
    left_s = (keys.DAY_US - now_us() % keys.DAY_US) // 1_000_000 + 1
    raise ApiError(
        "visits_exhausted", "You have reached today's message limit", retry_after_s=left_s
    )


def _open_root(db: peewee.Database, config_id: str) -> tuple[ApiKey, dict[str, Any] | None]:
    """Return a widget's own key, and its :func:`describe_key` if it was created now.

    :raises ApiError: ``widget_closed``.
    """
    lock_name(db, "widget", config_id)
    maker = f"widget {config_id}"
    own = (ApiKey.created_by == maker) & ApiKey.parent_id.is_null()
    root, made = ApiKey.select().where(own).first(db), None
    if root is None:
        rules = KeyRules(configs=(config_id,), upload_bytes=_UPLOAD_BYTES).dump()
        made, _ = keys.create_key(db, maker, ("chat", "file"), created_by=maker, rules=rules)
        root = ApiKey.select().where(own).first(db)
    if root.revoked_at is not None:
        raise _widget_closed(config_id)
    return root, made


def _widget_closed(config_id: str) -> ApiError:
    return ApiError(
        "widget_closed",
        f'The chat is closed: its key "widget {config_id}" was revoked or has expired',
    )

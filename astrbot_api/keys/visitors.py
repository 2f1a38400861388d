"""Visitors of pages: the short-lived keys of a widget that asks without one."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import peewee
from itsdangerous import BadSignature, URLSafeSerializer

from ..config.agents import AgentConfig
from ..config.widget import WidgetConfig
from ..db import keys, session_keys, visits
from ..db.audit import AuditEntry, key_entry, write_audited
from ..db.locks import lock_name
from ..db.models import ApiKey
from ..db.store import Store
from ..errors import ApiError
from ..runtime.addresses import name_customer
from ..runtime.clock import now_us
from .limits import check_session_keys
from .rules import KeyRules, load_rules, narrow_rules

#: How long a visitor's key is valid, in seconds, and the turns that it has at most. Few, since
#: what it does not use counts until its end.
_VALID_S = 3600
_TURNS = 10

#: Most keys that one address gets in a day.
_MAX_VISITS = 1000

#: What one visitor may do beside turns.
_REQUESTS_PER_MINUTE = 120
_STREAMS = 3

#: Characters of a visitor's token that are looked at.
_MAX_TOKEN_CHARS = 500


@dataclass(frozen=True, slots=True)
class Admission:
    """What a visitor got.

    :param token: Proves, the next time, who the visitor is.
    :param expires_at: ISO 8601, UTC.
    """

    api_key: str
    expires_at: str
    username: str
    token: str


@dataclass(frozen=True, slots=True)
class _Given:
    secret: str
    expires_at: str
    entry: AuditEntry | None


class Visitors:
    """Admits visitors of pages, for all workers of an application.

    Each widget has one key of its own in the owner's list, which is made with the first visit:
    what its visitors do is counted to it, and revoking it closes the widget.

    :param load_secret: Returns what signs the visitors' tokens; called with the first visit.
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
        """Give a visitor a key.

        :param address: Where the request came from.
        :param token: Of an earlier visit; one that is not ours makes a new visitor.
        :raises ApiError: ``widget_closed``, ``visits_exhausted`` or ``too_many_keys``.
        """
        visitor = self._find_visitor(config.id, token) or f"visitor-{secrets.token_hex(10)}"
        hashed = self._hash(f"{config.id} {name_customer(address)}")

        def job(db: peewee.Database) -> _Given:
            lock_name(db, "visits", hashed)
            lock_name(db, "visitor", visitor)
            turns = _find_rest(widget, visits.read_granted(db, visitor, hashed))
            root, made = _open_root(db, config.id)
            rules = KeyRules(
                username=visitor, configs=(config.id,), max_turns=turns, streams=_STREAMS,
                requests_per_minute=_REQUESTS_PER_MINUTE,
            )  # fmt: skip
            check_session_keys(db, root.key_id)
            given = session_keys.create_session_key(
                db, root.key_id, "visit of a page",
                expires_at=now_us() + _VALID_S * 1_000_000,
                scopes=["chat", "file"] if widget.files else ["chat"],
                rules=narrow_rules(load_rules(root.rules or "{}"), rules).dump(),
            )  # fmt: skip
            if given is None:
                raise _closed(config.id)
            row, secret = given
            visits.add_visit(
                db, row["key_id"], root_id=root.key_id, visitor=visitor, address=hashed,
                turns=turns,
            )  # fmt: skip
            entry = key_entry("key_created", made, actor="widget") if made else None
            return _Given(secret, row["expires_at"], entry)

        given = write_audited(self._store, job, lambda one: one.entry)
        signed = str(self._signer.dumps([config.id, visitor]))
        return Admission(given.secret, given.expires_at, visitor, signed)

    def _find_visitor(self, config_id: str, token: str) -> str | None:
        if not token or len(token) > _MAX_TOKEN_CHARS:
            return None
        try:
            of_config, visitor = self._signer.loads(token)
        except (BadSignature, ValueError):
            return None
        return str(visitor) if of_config == config_id else None

    def _hash(self, text: str) -> str:
        return hmac.new(self._secret.encode(), text.encode(), hashlib.sha256).hexdigest()[:32]


def _find_rest(widget: WidgetConfig, granted: visits.Granted) -> int:
    """Return how many turns a key may have.

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
        "visits_exhausted", "You have asked as much as one may in a day", retry_after_s=left_s
    )


def _open_root(db: peewee.Database, config_id: str) -> tuple[ApiKey, dict[str, Any] | None]:
    """Return a widget's own key, and what :func:`describe_key` has of it if it was made now.

    :raises ApiError: ``widget_closed``.
    """
    lock_name(db, "widget", config_id)
    maker = f"widget {config_id}"
    own = (ApiKey.created_by == maker) & ApiKey.parent_id.is_null()
    root, made = ApiKey.select().where(own).first(db), None
    if root is None:
        rules = KeyRules(configs=(config_id,)).dump()
        made, _ = keys.create_key(db, maker, ("chat", "file"), created_by=maker, rules=rules)
        root = ApiKey.select().where(own).first(db)
    if root.revoked_at is not None:
        raise _closed(config_id)
    return root, made


def _closed(config_id: str) -> ApiError:
    return ApiError(
        "widget_closed",
        f'The chat is closed: its key "widget {config_id}" was revoked, or has ended',
    )

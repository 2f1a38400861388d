"""Who calls: from the key in the request to a :class:`Caller`."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlsplit

from flask import Request, request

from ..chat.watching.seats import Holder
from ..db.key_secrets import KeyRow, find_valid_key, name_secret
from ..db.keys import ALL_SCOPES
from ..db.sessions import find_creator
from ..errors import ApiError
from ..keys.caller import Caller, HostUser, Reach
from ..keys.rules import NO_RULES, KeyGuard, KeyRules, load_rules
from ..owner.login import Login
from ..state import AppState
from .state import Authenticate, get_http_state, get_state

#: Where the caller stands in the environment of a request.
CALLER_KEY = "astrbot_api.caller"


#: What the ids are made from under which users of the application are counted.
_HOST_USERS = uuid.UUID("5b0c5c0e-6f0c-4a53-9a2f-6d2a4b0f3c11")

#: The same for the owner by a login.
_OWNERS = uuid.UUID("0d7c9b2e-9f0e-4e0c-8d7b-3a51c2a8e6f4")


def require_scope(scope: str | None) -> None:
    """Check this request's key and what it may do.

    :param scope: None: any valid key will do.
    :raises ApiError: ``missing_api_key``, ``invalid_api_key`` or
        ``insufficient_scope``; clients match the three texts exactly.
    """
    check_request(request._get_current_object(), get_state(), scope)  # type: ignore[attr-defined]


def check_request(now: Request, state: AppState, scope: str | None) -> None:
    """Check a request's key, as :func:`require_scope`; every request pays for it."""
    secret = read_secret(now)
    if not secret:
        user = _find_host_user(now, get_http_state().authenticate)
        if user is None:
            raise ApiError("missing_api_key", "Missing API key")
        now.environ[CALLER_KEY] = _to_caller(user)
        check_scope(frozenset(user.scopes), scope)
        state.worker.chores.start()
        return
    with state.db.read() as db:
        key = find_valid_key(db, secret)
    if key is None:
        key = state.keys.legacy.find(secret)
    if key is None:
        owner = find_header_login(now)
        if owner is None:
            raise ApiError("invalid_api_key", "Invalid API key")
        now.environ[CALLER_KEY] = _to_owner(owner)
        state.worker.chores.start()
        return
    caller = Caller(key.key_id, key.key_prefix, key.scopes)
    now.environ[CALLER_KEY] = caller
    check_scope(key.scopes, scope)
    # A caller that only reads waits for runs of a dead worker, too: the chores end them.
    state.worker.chores.start()
    state.keys.usage.note_use(key, now.remote_addr)
    if key.rules is not None or key.parent_id is not None:
        guard_request(now, caller, key)


#: In place of a key's prefix, of a user of the embedding application.
_HOST_PREFIX = "host"


def _find_host_user(request: Request, authenticate: Authenticate | None) -> HostUser | None:
    """Return whom the application knows as the sender.

    Nobody, when a browser sends it from a page of another site: the cookie
    that the application goes by is sent along from there too (Source: RFC
    6454, 7.3, for ``Origin``; WebSockets and forms have it as well).
    """
    if authenticate is None:
        return None
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        return None
    return authenticate(request)


def _to_caller(user: HostUser) -> Caller:
    """Return the caller that a user of the application is: bound to its own name."""
    key_id = str(uuid.uuid5(_HOST_USERS, user.username))
    guard = KeyGuard(key_id, key_id, KeyRules(username=user.username))
    return Caller(key_id, _HOST_PREFIX, frozenset(user.scopes), guard)


def get_holder() -> Holder:
    """Return whose the connections of this request are."""
    caller = get_caller()
    keyless = caller.is_owner or caller.key_prefix == _HOST_PREFIX
    secret = "" if keyless else name_secret(caller.key_id, caller.key_prefix)
    return Holder(caller.root_id, secret)


def find_header_login(now: Request) -> Login | None:
    """Return the owner's login of a token in ``Authorization: Bearer``.

    Nowhere else: a cookie would be sent along from pages of other sites, and an address is
    written into logs.
    """
    state = get_state()
    scheme, _, token = now.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer" or state.settings.owner_access == "off":
        return None
    return state.owner.find_login(token.strip())


def _to_owner(login: Login) -> Caller:
    """Return the caller that the owner is: every scope, and its own name by default."""
    key_id = str(uuid.uuid5(_OWNERS, login.name))
    guard = KeyGuard(key_id, key_id, KeyRules(default_username=login.name))
    return Caller(key_id, "owner", frozenset(ALL_SCOPES), guard, is_owner=True)


def guard_request(request: Request, caller: Caller, key: KeyRow) -> None:
    """Hold a request to the guard rails of its key.

    :raises ApiError: ``key_restricted`` or ``rate_limited``.
    """
    root_rules = load_rules(key.parent_rules) if key.parent_rules else NO_RULES
    rules = load_rules(key.rules) if key.rules else NO_RULES
    guard = KeyGuard(key.key_id, key.parent_id or key.key_id, rules, root_rules)
    caller.guard = guard
    rules.check_address(request.remote_addr)
    if rules.session_id is not None:
        _check_session(request, rules.session_id)
    for key_id, own in guard.counted:
        if own.requests_per_minute is not None:
            _count(caller, key_id, own.requests_per_minute)


#: Parts of paths that show several sessions of a username.
_OF_ALL_SESSIONS = ("/chat/sessions", "/chat/inbox")


def _check_session(request: Request, session_id: str) -> None:
    """Keep a key that is bound to one session from the routes of others."""
    named = (request.view_args or {}).get("session_id")
    if named == session_id:
        return
    # The others name their session elsewhere, and check it when they know it.
    if named is None and not any(part in request.path for part in _OF_ALL_SESSIONS):
        return
    raise ApiError(
        "key_restricted",
        "the API key is bound to another session: its rule session_id does not allow it",
    )


def _count(caller: Caller, key_id: str, limit: int) -> None:
    state = get_state().keys.rates.take(key_id, limit)
    if caller.rate is None or state.remaining < caller.rate.remaining:
        caller.rate = state
    if not state.allowed:
        raise ApiError(
            "rate_limited",
            f"the API key may make {limit} requests a minute (its rule requests_per_minute); "
            f"wait {state.wait_s} s",
            headers=state.to_headers(),
            retry_after_s=state.wait_s,
        )


def check_scope(scopes: frozenset[str], scope: str | None) -> None:
    """:raises ApiError: ``insufficient_scope`` when ``scope`` is not among them."""
    if scope is not None and scope not in scopes:
        raise ApiError("insufficient_scope", "Insufficient API key scope")


def find_caller(environ: dict[str, Any]) -> Caller | None:
    """Return who calls, where a request's key was found."""
    return environ.get(CALLER_KEY)


def get_caller() -> Caller:
    """Return who calls; only after :func:`require_scope`."""
    caller: Caller = request.environ[CALLER_KEY]
    return caller


def get_reach() -> Reach:
    """Return the usernames and targets that the caller may name."""
    return get_caller().reach(get_state().settings.admin_names)


def check_username(username: str) -> None:
    """Refuse a reserved name to a key that may not speak as an administrator.

    :raises ApiError: ``username_reserved``, or ``key_restricted``.
    """
    get_reach().check_username(username)


def get_bound_username() -> str | None:
    """Return the username of a request that names none: the key's only one, or its default."""
    rules = get_caller().rules
    return rules.username or rules.default_username


def resolve_username(*sent: str | None) -> str:
    """Return the username that a request speaks as: the first that was sent.

    Where none was, it is the one that the key is bound to, or its default.

    :param sent: What stands in its body, then in its query.
    :raises ApiError: ``missing_field`` or ``username_reserved``.
    """
    username = next(filter(None, (*sent, get_bound_username())), "")
    if not username:
        raise ApiError("missing_field", "Missing key: username")
    check_username(username)
    return username


def resolve_owner(session_id: str, *sent: str | None) -> str:
    """Return the username that a request on a session speaks as.

    The key that made a session need not name its user.

    :raises ApiError: as :func:`resolve_username`.
    """
    caller = get_caller()
    if not any(sent) and caller.rules.username is None and caller.root_id == caller.key_id:
        with get_state().db.read() as db:
            sent = (find_creator(db, session_id, caller.key_id),)
    return resolve_username(*sent)


def read_secret(request: Request) -> str:
    """Return the key of a request; the first carrier that holds anything wins.

    In order: query ``api_key``, query ``key``, ``X-API-Key``,
    ``Authorization: Bearer``, ``Authorization: ApiKey``.
    """
    if request.query_string:
        for name in ("api_key", "key"):
            value = request.args.get(name, "").strip()
            if value:
                return value
    value = request.environ.get("HTTP_X_API_KEY", "").strip()
    if value:
        return str(value)
    scheme, _, rest = request.environ.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    return rest.strip() if scheme.lower() in ("bearer", "apikey") else ""

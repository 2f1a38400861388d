"""Authentication: turn the key of a request into a :class:`Caller`."""

from __future__ import annotations

import uuid
from typing import Any

from flask import Request, request

from ..chat.watching.seats import Holder
from ..db.key_secrets import KeyRow, find_valid_key, is_key, name_secret
from ..db.keys import ALL_SCOPES, INCLUDED_IN
from ..db.owners import name_login
from ..errors import ApiError
from ..files.incoming import Sender
from ..keys.caller import Caller, HostUser
from ..keys.rules import NO_RULES, KeyGuard, KeyRules, load_rules
from ..owner.login import Login
from ..runtime.addresses import name_customer
from ..runtime.memory import Reservation
from ..state import AppState
from .cors import is_of_host, is_of_named_origin
from .state import get_http_state, get_state

#: Key of the caller in the WSGI environ.
CALLER_KEY = "astrbot_api.caller"

#: Environ key that is set while code of the embedding application handles a request. An
#: ``abort()`` in it keeps its status.
FOREIGN_KEY = "astrbot_api.foreign"

#: Environ key of the function that rejects a request whose key or login has ended.
CHECK_AGAIN_KEY = "astrbot_api.check_again"

#: Environ key that is set if the token in ``Authorization`` was in the URL. Pages of other sites
#: can choose the URL of a WebSocket, and the browser sends the application's cookie with it.
QUERY_TOKEN_KEY = "astrbot_api.query_token"

#: UUID namespace of the key ids that count the requests of the embedding application's users.
_HOST_USERS = uuid.UUID("5b0c5c0e-6f0c-4a53-9a2f-6d2a4b0f3c11")

#: UUID namespace of the key ids that count the requests of logged-in owners.
_OWNERS = uuid.UUID("0d7c9b2e-9f0e-4e0c-8d7b-3a51c2a8e6f4")


def require_scope(scope: str | None) -> None:
    """Check the key of the current request and its scope.

    :param scope: The required scope, or None if any valid key is enough.
    :raises ApiError: ``missing_api_key``, ``invalid_api_key`` or
        ``insufficient_scope``; clients match the three texts exactly.
    """
    check_request(request._get_current_object(), get_state(), scope)  # type: ignore[attr-defined]


def check_request(now: Request, state: AppState, scope: str | None) -> None:
    """Check a request's key like :func:`require_scope`. Runs on every request, so keep it fast."""
    secret = read_secret(now)
    if not secret:
        if not _admit_host_user(now, state, scope):
            raise ApiError("missing_api_key", "Missing API key")
        return
    with state.db.read() as db:
        key = find_valid_key(db, secret)
    if key is None:
        key = state.keys.legacy.find(secret)
    if key is None:
        owner = find_header_login(now)
        if owner is None:
            # Not for a key: a revoked one must not be replaced by the cookie beside it.
            carriers = (read_bearer(now), _read_azure_key(now))
            is_header = secret in carriers and QUERY_TOKEN_KEY not in now.environ
            is_token = is_header and not is_key(secret)
            if is_token and _admit_host_user(now, state, scope, by_token=True):
                return
            raise ApiError("invalid_api_key", "Invalid API key")
        now.environ.update({CALLER_KEY: _to_owner(owner), CHECK_AGAIN_KEY: _check_secret_again})
        state.worker.chores.start()
        return
    caller = Caller(key.key_id, key.key_prefix, key.scopes)
    now.environ[CALLER_KEY] = caller
    now.environ[CHECK_AGAIN_KEY] = _check_secret_again
    check_scope(key.scopes, scope)
    # Start the chores for read-only callers too: they may wait for runs of a dead worker,
    # and the chores end those.
    state.worker.chores.start()
    state.keys.usage.note_use(key, now.remote_addr)
    if key.rules is not None or key.parent_id is not None:
        guard_request(now, caller, key)


def _admit_host_user(
    now: Request, state: AppState, scope: str | None, *, by_token: bool = False
) -> bool:
    """Return whether the embedding application knows the user of a request.

    Requests from pages of other sites have no user: the browser sends the application's cookie
    with them too (Source: RFC 6454, 7.3, for ``Origin``; WebSockets and forms send it). It sends
    a token only for sites that CORS allows.

    :param by_token: Whether the request has a token that may be the application's, such as a JWT.
    :raises ApiError: if the user lacks the scope.
    """
    if not is_of_host(now) and not (by_token and is_of_named_origin(now, state.settings)):
        return False
    user = _find_host_user(now)
    if user is None:
        return False
    now.environ[CALLER_KEY] = _to_caller(user)
    check_scope(frozenset(user.scopes), scope)
    state.worker.chores.start()
    return True


#: Replaces the key prefix for users of the embedding application.
_HOST_PREFIX = "host"


def _find_host_user(request: Request) -> HostUser | None:
    """Return the application's logged-in user, or None."""
    authenticate = get_http_state().authenticate
    if authenticate is None:
        return None
    request.environ[FOREIGN_KEY] = True
    user: Any = authenticate(request)
    del request.environ[FOREIGN_KEY]
    if user is not None and not isinstance(user, HostUser):
        kind = type(user).__name__
        raise TypeError(f"authenticate must return a HostUser or None, not {kind}")
    found: HostUser | None = user
    return found


def _to_caller(user: HostUser) -> Caller:
    """Return the caller for a user of the application, bound to the user's own name."""
    key_id = str(uuid.uuid5(_HOST_USERS, user.username))
    guard = KeyGuard(key_id, key_id, KeyRules(username=user.username), is_key=False)
    return Caller(key_id, _HOST_PREFIX, frozenset(user.scopes), guard)


def get_holder() -> Holder:
    """Return the key that counts the open connections of this request.

    They end with the key, or with the owner's login.
    """
    caller, secret = get_caller(), ""
    if caller.is_owner:
        login = find_header_login(request._get_current_object())  # type: ignore[attr-defined]
        secret = name_login(login.session_key if login else "")
    elif _has_key(caller):
        secret = name_secret(caller.key_id, caller.key_prefix)
    return Holder(caller.root_id, secret)


def require_key() -> None:
    """Reject the owner's login and users of the application, which have no key.

    :raises ApiError: ``key_restricted``. A 401 would end their login in some clients.
    """
    if not _has_key(get_caller()):
        raise ApiError("key_restricted", f"a login cannot use {request.path}; send an API key")


def _has_key(caller: Caller) -> bool:
    return not caller.is_owner and caller.key_prefix != _HOST_PREFIX


def require_secret() -> None:
    """Reject users of the application whom only a cookie names, on paths that change data by GET.

    Pages of other sites can link to such a path: the browser sends the cookie, and no ``Origin``.

    :raises ApiError: ``missing_api_key``.
    """
    if not read_secret(request):
        raise ApiError("missing_api_key", "Missing API key")


def find_header_login(now: Request) -> Login | None:
    """Return the owner's login for a token in ``Authorization: Bearer``, or None.

    Other carriers are ignored: browsers send cookies from pages of other sites too, and
    URLs are written to logs.
    """
    state, token = get_state(), read_bearer(now)
    if not token or state.settings.owner_access == "off":
        return None
    return state.owner.find_login(token)


def _to_owner(login: Login) -> Caller:
    """Return the caller for the owner, with all scopes and its own name as the default."""
    key_id = str(uuid.uuid5(_OWNERS, login.name))
    guard = KeyGuard(key_id, key_id, KeyRules(default_username=login.name), is_key=False)
    return Caller(key_id, "owner", frozenset(ALL_SCOPES), guard, is_owner=True)


def guard_request(request: Request, caller: Caller, key: KeyRow) -> None:
    """Apply the guard rails of a key to a request.

    :raises ApiError: ``key_restricted`` or ``rate_limited``.
    """
    root_rules = load_rules(key.parent_rules) if key.parent_rules else NO_RULES
    rules = load_rules(key.rules) if key.rules else NO_RULES
    guard = KeyGuard(key.key_id, key.parent_id or key.key_id, rules, root_rules)
    caller.guard = guard
    rules.check_address(request.remote_addr)
    for key_id, own in guard.counted:
        if own.requests_per_minute is not None:
            _count(caller, key_id, own.requests_per_minute)


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
    """Check that a required scope is among a key's scopes, or that one of them includes it.

    :raises ApiError: ``insufficient_scope``.
    """
    if scope is not None and scope not in scopes and INCLUDED_IN.get(scope) not in scopes:
        raise ApiError("insufficient_scope", "Insufficient API key scope")


def find_caller(environ: dict[str, Any]) -> Caller | None:
    """Return the caller of a request, or None if no key was checked."""
    return environ.get(CALLER_KEY)


def _check_secret_again() -> None:
    """Reject a request whose key or login has ended since :func:`check_request`.

    :raises ApiError: ``invalid_api_key``.
    """
    secret = get_holder().key_id
    if secret and not get_state().keys.usage.list_valid({secret}):
        raise ApiError("invalid_api_key", "Invalid API key")


def make_reservation() -> Reservation:
    """Return an empty reservation of memory for a message of the current request's sender."""
    caller = find_caller(request.environ)
    sender = caller.root_id if caller else f"address {name_customer(request.remote_addr or '')}"
    return Reservation(get_state().worker.receiving, sender)


def get_caller() -> Caller:
    """Return the caller of the current request. Requires :func:`require_scope` before."""
    caller: Caller = request.environ[CALLER_KEY]
    return caller


def get_sender() -> Sender:
    """Return the caller of the current request as the sender of files."""
    caller = get_caller()
    return Sender(caller.root_id, caller.rules.username)


def read_secret(request: Request) -> str:
    """Return the key of a request, or "". The first non-empty carrier wins.

    The order is: query ``api_key``, query ``key``, ``X-API-Key``,
    ``Authorization: Bearer``, ``Authorization: ApiKey``, ``api-key`` (clients of Azure).
    """
    if request.query_string:
        for name in ("api_key", "key"):
            value = request.args.get(name, "").strip()
            if value:
                return value
    value = request.environ.get("HTTP_X_API_KEY", "").strip()
    if value:
        return str(value)
    return _read_authorization(request, "bearer", "apikey") or _read_azure_key(request)


def _read_azure_key(request: Request) -> str:
    return str(request.environ.get("HTTP_API_KEY", "").strip())


def read_bearer(request: Request) -> str:
    """Return the token in ``Authorization: Bearer``, or ""."""
    return _read_authorization(request, "bearer")


def _read_authorization(request: Request, *schemes: str) -> str:
    scheme, _, rest = request.environ.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    return str(rest.strip()) if scheme.lower() in schemes else ""

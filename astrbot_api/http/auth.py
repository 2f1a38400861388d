"""Who calls: from the key in the request to a :class:`Caller`."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Request, request

from ..db.keys import find_valid_key
from ..errors import ApiError
from .state import get_state

#: The scope that may speak as one of the administrators' names.
ADMIN_SCOPE = "chat:admin"


#: Where the caller stands in the environment of a request.
CALLER_KEY = "astrbot_api.caller"


@dataclass(slots=True)
class Caller:
    """The holder of a valid key."""

    key_id: str
    key_prefix: str
    scopes: frozenset[str]


def require_scope(scope: str | None) -> None:
    """Check this request's key and what it may do.

    :param scope: None: any valid key will do.
    :raises ApiError: ``missing_api_key``, ``invalid_api_key`` or
        ``insufficient_scope``; clients match the three texts exactly.
    """
    now: Request = request._get_current_object()  # type: ignore[attr-defined]
    secret = read_secret(now)
    if not secret:
        raise ApiError("missing_api_key", "Missing API key")
    state = get_state()
    with state.store.read() as db:
        key = find_valid_key(db, secret)
    if key is None:
        raise ApiError("invalid_api_key", "Invalid API key")
    check_scope(key.scopes, scope)
    state.lease.note_key_use(key, now.remote_addr)
    now.environ[CALLER_KEY] = Caller(key.key_id, key.key_prefix, key.scopes)


def check_scope(scopes: frozenset[str], scope: str | None) -> None:
    """:raises ApiError: ``insufficient_scope`` when ``scope`` is not among them."""
    if scope is not None and scope not in scopes:
        raise ApiError("insufficient_scope", "Insufficient API key scope")


def get_caller() -> Caller:
    """Return who calls; only after :func:`require_scope`."""
    caller: Caller = request.environ[CALLER_KEY]
    return caller


def check_username(username: str) -> None:
    """Refuse a reserved name to a key that may not speak as an administrator.

    :raises ApiError: ``username_reserved``.
    """
    if username in get_state().settings.admin_names and ADMIN_SCOPE not in get_caller().scopes:
        raise ApiError(
            "username_reserved",
            f"username {username!r} is an administrator's; "
            f"the API key needs the scope {ADMIN_SCOPE} to speak as it",
        )


def resolve_username(*sent: str | None) -> str:
    """Return the username that a request speaks as: the first that was sent.

    :param sent: What stands in its body, then in its query.
    :raises ApiError: ``missing_field`` or ``username_reserved``.
    """
    username = next(filter(None, sent), "")
    if not username:
        raise ApiError("missing_field", "Missing key: username")
    check_username(username)
    return username


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

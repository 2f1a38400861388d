"""The username of a request: the one that was sent, or the key's, if the key may use it."""

from __future__ import annotations

from ..db.sessions import find_creator
from ..errors import ApiError, refuse
from ..keys.caller import Reach
from ..messages import check_text
from .auth import get_caller
from .state import get_state


def get_reach() -> Reach:
    """Return the usernames and targets that the caller may use."""
    return get_caller().reach(get_state().settings.admin_names)


def check_username(username: str) -> None:
    """Reject a reserved username if the key may not act as an administrator.

    :raises ApiError: ``username_reserved``, or ``key_restricted``.
    """
    get_reach().check_username(username)


def get_bound_username() -> str:
    """Return the key's only username, or its default, for requests without a username."""
    rules = get_caller().rules
    return rules.username or rules.default_username or ""


def choose_username(protocol: str, sent: str) -> str:
    """Return the username of a request: the one that was sent, the key's, or one made of the key.

    :raises ApiError: ``invalid_request``, ``username_reserved`` or ``key_restricted``.
    """
    username = sent or get_bound_username() or f"{protocol}:{get_caller().key_prefix}"
    check_text("username", username)
    limit = get_state().settings.max_username_chars
    if len(username) > limit:
        raise refuse(f"username has {len(username)} characters; at most {limit} are allowed")
    check_username(username)
    return username


def resolve_username(*sent: str | None) -> str:
    """Return the username of a request: the first that was sent, else the key's.

    :param sent: The usernames of the body and the query, in this order.
    :raises ApiError: ``missing_field`` or ``username_reserved``.
    """
    username = next(filter(None, (*sent, get_bound_username())), "")
    if not username:
        raise ApiError("missing_field", "Missing key: username")
    check_username(username)
    return username


def resolve_owner(session_id: str, *sent: str | None) -> str:
    """Return the username of a request on a session, which the key may use.

    The key that created the session may omit the username.

    :raises ApiError: as :func:`resolve_username`, or ``key_restricted``.
    """
    caller = get_caller()
    caller.rules.check_session(session_id)
    if not any(sent) and caller.rules.username is None and caller.root_id == caller.key_id:
        with get_state().db.read() as db:
            sent = (find_creator(db, session_id, caller.key_id),)
    return resolve_username(*sent)

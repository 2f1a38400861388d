"""Look up a caller's runs."""

from __future__ import annotations

from flask import request

from ..db import runs
from ..db.runs import RunRow
from ..errors import ApiError
from .auth import get_caller
from .fields import optional_text
from .schemas import RequestSchema
from .state import get_state
from .usernames import check_username

#: Longer ids are truncated before the lookup.
_MAX_ID_CHARS = 255


class RunOwnerSchema(RequestSchema):
    username = optional_text(
        "The username of the session. If omitted, the run must have been started with this API "
        "key.",
        "alice",
    )


def find_own_run(run_id: str, username: str | None) -> RunRow:
    """Return a run that the caller may access.

    :param username: Must own the session. If empty, the caller's key must have started
        the run.
    :raises ApiError: ``run_not_found``, ``session_of_another_user`` or
        ``username_reserved``.
    """
    username = find_sent_username(username)
    run = get_run(run_id, None if username else get_caller().key_id)
    if username and run.creator != username:
        raise ApiError("session_of_another_user", "session_id belongs to another username")
    rules = get_caller().rules
    rules.check_username(run.creator)
    rules.check_session(run.session_id)
    return run


def get_run(run_id: str, key_id: str | None = None) -> RunRow:
    """Return a run, which this key must have started if a key is given."""
    with get_state().db.read() as db:
        run = runs.find_run(db, run_id[:_MAX_ID_CHARS])
    if run is None or key_id not in (None, run.key_id):
        raise ApiError("run_not_found", f"run not found: {run_id[:_MAX_ID_CHARS]}")
    return run


def find_sent_username(sent: str | None) -> str:
    """Return the username from the body or the query, or "" if it was not sent."""
    username = (sent or request.args.get("username", "")).strip()
    if username:
        check_username(username)
    return username

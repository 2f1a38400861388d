"""The sessions of a username as MCP resources."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, quote, unquote

import orjson

from ...db import message_pages, messages, sessions
from ...messages import plain_text
from ...runtime.clock import to_iso
from ..auth import get_caller
from ..state import get_state
from .messages import INVALID_PARAMS, RESOURCE_NOT_FOUND, Call, RpcError

_SCHEME = "astrbot://sessions/"

#: Number of sessions per page, and of messages per page of a session.
_PAGE = 50

#: Maximum length of one page of messages, in characters, for the model's context.
_MAX_CHARS = 200_000

_TEMPLATE = {
    "uriTemplate": _SCHEME + "{session_id}{?before}",
    "name": "session",
    "title": "Session",
    "description": (
        f"The last {_PAGE} messages of a session. With `before`, the messages before that message "
        "number."
    ),
    "mimeType": "application/json",
}


def list_templates(call: Call) -> dict[str, Any]:
    """Return the URI template of the resources."""
    return call.answer({"resourceTemplates": [_TEMPLATE]}, listed=True)


def list_resources(call: Call, username: str) -> dict[str, Any]:
    """Return a page of the username's sessions, most recently used first.

    :raises RpcError: for an invalid cursor.
    """
    page = _read_page(call.params.get("cursor"))
    bound = get_caller().rules.session_id
    with get_state().db.read() as db:
        found, total = sessions.list_sessions(
            db, username, order_by="updated_at", page=page, page_size=_PAGE
        )
    described = [_describe(one) for one in found if bound is None or one["session_id"] == bound]
    result: dict[str, Any] = {"resources": described}
    if page * _PAGE < total:
        result["nextCursor"] = str(page + 1)
    return call.answer(result, listed=True)


def read_resource(call: Call, username: str) -> dict[str, Any]:
    """Return a page of a session's messages, oldest first.

    :raises RpcError: if the username has no such session.
    """
    uri = call.params.get("uri")
    if not isinstance(uri, str):
        raise RpcError(INVALID_PARAMS, "uri must be a string")
    name, before = _read_uri(uri)
    with get_state().db.read() as db:
        session = sessions.find_session(db, name) if name else None
        bound = get_caller().rules.session_id
        if (
            session is None
            or session.creator != username
            or bound not in (None, session.session_id)
        ):
            code = INVALID_PARAMS if call.is_stateless else RESOURCE_NOT_FOUND
            raise RpcError(code, "Resource not found", {"uri": uri[:1000]})
        rows, more = messages.list_messages_before(
            db, session.id, before=before, limit=_PAGE, max_chars=_MAX_CHARS
        )
    shown = {
        "session_id": session.session_id,
        "messages": [_show(row) for row in reversed(rows)],
        "before": rows[-1].id if more else None,
    }
    text = {"uri": uri, "mimeType": "application/json", "text": orjson.dumps(shown).decode()}
    return call.answer({"contents": [text]}, listed=True)


def _describe(session: dict[str, Any]) -> dict[str, Any]:
    title = session["display_name"] or session["session_id"]
    return {
        "uri": _SCHEME + quote(session["session_id"], safe=""),
        "name": session["session_id"],
        "title": title,
        "mimeType": "application/json",
    }


def _show(row: messages.MessageRow) -> dict[str, Any]:
    is_user = row.content.get("type") == "user"
    content = message_pages.show_error(row.content)
    return {
        "id": row.id,
        "role": "user" if is_user else "assistant",
        "text": plain_text(content["message"]),
        "created_at": to_iso(row.created_at),
    }


def _read_uri(uri: str) -> tuple[str, int]:
    """Return the session id in a URI, and the message number at which the page ends.

    The session id is empty if the URI is invalid.
    """
    path, _, query = uri.partition("?")
    if not path.startswith(_SCHEME) or len(uri) > 10_000:
        return "", 0
    before = parse_qs(query).get("before", [""])[0]
    if before and not (before.isascii() and before.isdigit() and len(before) < 19):
        return "", 0
    session_id = unquote(path.removeprefix(_SCHEME))
    if "\0" in session_id:  # PostgreSQL rejects the query
        return "", 0
    return session_id, int(before) if before else 2**63 - 1


def _read_page(cursor: Any) -> int:
    if cursor is None:
        return 1
    if isinstance(cursor, str) and cursor.isascii() and cursor.isdigit() and len(cursor) < 10:
        return max(1, int(cursor))
    raise RpcError(INVALID_PARAMS, "cursor must be the nextCursor of the previous page")

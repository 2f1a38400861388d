"""``/admin/data/sessions``: all conversations, for the server's owner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import orjson
from flask import Response, request

from ..db import message_pages
from ..db.conversations import list_all_sessions
from ..db.sessions import SessionRow, find_session
from ..db.store import Store
from ..errors import ApiError, refuse
from ..http.envelope import ok
from ..http.files.origin import open_or_send
from ..http.state import get_state
from .access import AdminBlueprint, note_action, read_cursor

blp = AdminBlueprint("sessions", "/admin/data")

_PAGE = 30
_MESSAGES = 50
_EXPORT_PAGE = 200


@blp.get("/sessions")
def list_sessions() -> Response:
    """Return a page of sessions, newest first. ``q`` searches in title, user and id."""
    words = request.args.get("q", "").strip()[:200]
    with get_state().db.read() as db:
        page, following = list_all_sessions(db, words=words, before=read_cursor(), limit=_PAGE)
    return ok({"sessions": page, "next": following})


@blp.get("/sessions/messages")
def list_messages() -> Response:
    """Return the newest messages of a session, or those before ``cursor``."""
    with get_state().db.read() as db:
        session = _get_session(db)
        page, following = message_pages.list_page(
            db, session.id, cursor=read_cursor("cursor"), limit=_MESSAGES, newest_first=True
        )
    return ok({"messages": page, "next": following, "session": _describe(session)})


@blp.get("/sessions/export")
def export_session() -> Response:
    """Send a complete session as a file, with ``format=json`` or ``format=md``."""
    kind = request.args.get("format", "json")
    if kind not in ("json", "md"):
        raise refuse("format must be json or md")
    store = get_state().db
    with store.read() as db:
        session = _get_session(db)
    pieces = _export_json(store, session) if kind == "json" else _export_markdown(store, session)
    mimetype = "application/json" if kind == "json" else "text/markdown; charset=utf-8"
    name = re.sub(r"[^\w.-]+", "_", session.display_name or session.session_id)[:80]
    answer = Response(pieces, content_type=mimetype)
    answer.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name)}.{kind}"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


@blp.delete("/sessions")
def delete_session() -> Response:
    """Delete a session with its messages, and stop its turns."""
    state = get_state()
    with state.db.read() as db:
        session = _get_session(db)
    state.chat.remover.remove(session.session_id, session.creator)
    note_action("session_deleted", session.session_id, f"of {session.creator}")
    return ok({})


@blp.get("/file")
def get_file() -> Response:
    """Send an attachment of a message."""
    return open_or_send(get_state().files.get(request.args.get("attachment_id", "")))


def _get_session(db: Any) -> SessionRow:
    session = find_session(db, request.args.get("session_id", ""))
    if session is None:
        raise ApiError("session_not_found", "session not found")
    return session


def _describe(session: SessionRow) -> dict[str, Any]:
    return {
        "session_id": session.session_id,
        "platform_id": session.platform_id,
        "creator": session.creator,
        "display_name": session.display_name,
        "config_id": session.config_id,
    }


def _iter_messages(store: Store, session: SessionRow) -> Iterator[dict[str, Any]]:
    """Yield all messages, oldest first. Between pages, no connection is held."""
    cursor: int | None = None
    while True:
        with store.read() as db:
            page, cursor = message_pages.list_page(
                db, session.id, cursor=cursor, limit=_EXPORT_PAGE, newest_first=False
            )
        yield from page
        if cursor is None:
            return


def _export_json(store: Store, session: SessionRow) -> Iterator[bytes]:
    yield b'{"session":' + orjson.dumps(_describe(session)) + b',"messages":['
    for number, message in enumerate(_iter_messages(store, session)):
        yield (b",\n" if number else b"\n") + orjson.dumps(message)
    yield b"\n]}\n"


def _export_markdown(store: Store, session: SessionRow) -> Iterator[bytes]:
    yield f"# {session.display_name or session.session_id}\n\n".encode()
    for message in _iter_messages(store, session):
        content = orjson.loads(orjson.dumps(message["content"]))
        who = message["sender_name"]
        yield f"**{who}** · {message['created_at']}\n\n".encode()
        yield f"{_to_markdown(content)}\n\n---\n\n".encode("utf-8", "replace")


def _to_markdown(content: dict[str, Any]) -> str:
    parts = []
    for part in content.get("message", ()):
        if part["type"] == "plain":
            parts.append(part.get("text", ""))
        elif part["type"] == "think":
            parts.append(_quote(part.get("think", "")))
        elif part["type"] == "reply":
            parts.append(_quote(part.get("selected_text") or f"[message {part['message_id']}]"))
        elif part["type"] == "tool_call":
            parts += [_tool_to_markdown(call) for call in part.get("tool_calls", ())]
        else:
            parts.append(f"[{part['type']}: {part.get('filename', part.get('attachment_id'))}]")
    return "\n\n".join(parts)


def _quote(text: str) -> str:
    return "> " + text.replace("\n", "\n> ")


def _tool_to_markdown(call: dict[str, Any]) -> str:
    arguments = orjson.dumps(call.get("args", {}), option=orjson.OPT_INDENT_2).decode()
    parts = (_to_block(arguments, "json"), _to_block(str(call.get("result"))))
    return "\n\n".join([f"`{call.get('name')}`", *parts])


def _to_block(text: str, language: str = "") -> str:
    """Return a fenced block, whose fence is longer than any in the text."""
    longest = max(map(len, re.findall("`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"

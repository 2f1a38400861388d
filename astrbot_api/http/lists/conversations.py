"""``/conversations``: the sessions of all users, for keys with the scope ``data``."""

from __future__ import annotations

import json
import math
from typing import Any

import peewee
from flask import Response

from ...db.conversations import list_conversations as read_conversations
from ...db.messages import list_messages_before
from ...db.sessions import WEBCHAT, make_umo
from ...errors import ApiError
from ...im.umo import Umo, parse_umo, split_webchat
from ...messages import plain_text
from ...runtime.threads import let_others_run, wait_turn
from ..auth import get_caller
from ..blueprint import ApiBlueprint
from ..envelope import ok
from ..state import get_state
from ..usernames import check_username, get_reach
from .schemas import CONVERSATION, CONVERSATIONS, NOTHING, ConversationQuerySchema

#: Limits of ``history``.
_MAX_HISTORY = 100
_MAX_HISTORY_CHARS = 500_000

blp = ApiBlueprint(
    "conversations", __name__, tag="All conversations", scope="data",
    description="The sessions of all users.",
    path={"conversation_id": ("The session's id.", "my_session_001")},
)  # fmt: skip


@blp.get("/conversations", operation_id="listConversations")
@blp.arguments(ConversationQuerySchema(), location="query")
@blp.answers(CONVERSATIONS)
def list_conversations(query: dict[str, Any]) -> Response:
    """List the sessions of all users, most recently used first.

    A key that is limited to some usernames only sees their sessions.
    """
    wait_turn()  # before histories of some MiB are read
    page, size = query["page"], query["page_size"]
    found, total = _read(query, limit=size, offset=(page - 1) * size)
    # All rows share the size limit of one response.
    chars = _MAX_HISTORY_CHARS // max(1, len(found)) if query["include_history"] else 0
    return ok(
        {
            "conversations": [_describe(row, chars) for row in found],
            "pagination": {
                "page": page, "page_size": size, "total": total,
                "total_pages": math.ceil(total / size), "grouped_by_session": False,
            },
        }
    )  # fmt: skip


@blp.get("/conversations/filter-options", operation_id="listConversationFilters")
@blp.answers(NOTHING)
def list_filters() -> Response:
    """List the platforms of conversations.

    The platforms are the web chat and the bots that the key may use.
    """
    bots = get_caller().rules.choose_bots(get_state().im.bots.list_ids())
    names = [WEBCHAT, *sorted(bots)]
    return ok({"bots": [{"id": name, "type": name} for name in names]})


@blp.get("/conversations/<conversation_id>", operation_id="getConversation")
@blp.answers(CONVERSATION)
@blp.raises("session_not_found", "username_reserved")
def get_conversation(conversation_id: str) -> Response:
    """Return a session of any user.

    The key must be allowed to use this username.
    """
    wait_turn()
    return ok(_describe(_get(conversation_id), _MAX_HISTORY_CHARS))


@blp.delete("/conversations/<conversation_id>", operation_id="deleteConversation")
@blp.answers(NOTHING)
@blp.raises("session_not_found", "username_reserved")
def delete_conversation(conversation_id: str) -> Response:
    """Delete a session of any user.

    Its messages are deleted too, and its turns are stopped.
    """
    row = _get(conversation_id)
    get_state().chat.remover.remove(row["session_id"], row["creator"])
    return ok({})


def _read(
    query: dict[str, Any], *, session_id: str = "", limit: int = 1, offset: int = 0
) -> tuple[list[dict[str, Any]], int]:
    rules, username = get_caller().rules, get_caller().rules.username
    if query.get("umo"):
        named, session_id = _split_umo(parse_umo(query["umo"]))
        if named and username not in (None, named):
            return [], 0
        username = named or username
    if rules.session_id and session_id not in ("", rules.session_id):
        return [], 0
    hidden = get_reach().reserved_names

    def find(db: peewee.Database) -> tuple[list[dict[str, Any]], int]:
        return read_conversations(
            db,
            words=(query.get("search") or query.get("keyword") or "").strip()[:200],
            username=username,
            prefix=rules.username_prefix,
            hidden=hidden,
            session_id=rules.session_id or session_id,
            platforms=[one for one in query.get("platforms", "").split(",") if one],
            limit=limit,
            offset=offset,
        )

    # The total and a distant page read all sessions: 0.25 s for 200,000.
    return get_state().db.read_aside(find)


def _split_umo(umo: Umo) -> tuple[str, str]:
    """Return the username (or "") and the session of a target.

    The session id of a messenger's conversation is the target itself.
    """
    return split_webchat(umo.session_id) if umo.platform_id == WEBCHAT else ("", str(umo))


def _get(session_id: str) -> dict[str, Any]:
    found, _ = _read({}, session_id=session_id)
    if not found:
        raise ApiError("session_not_found", f"session not found: {session_id}")
    check_username(found[0]["creator"])
    return found[0]


def _describe(row: dict[str, Any], history_chars: int) -> dict[str, Any]:
    """Return a conversation with its newest messages.

    :param history_chars: Maximum length of the messages in characters, or 0 to omit them.
    """
    platform, creator = row["platform_id"], row["creator"]
    umo = make_umo(platform, row["session_id"], creator)
    _, kind, last = (*umo.split(":", 2), "", "")[:3]
    described = {
        "platform_id": platform, "user_id": umo, "cid": row["session_id"],
        "title": row["display_name"], "persona_id": None, "token_usage": 0,
        "created_at": row["created_at"] // 1_000_000,
        "updated_at": row["updated_at"] // 1_000_000,
        "umo_info": {
            "umo": umo, "platform": platform, "message_type": kind, "session_id": last,
            "auto_name": creator, "user_alias": "", "display_name": creator,
            "creator_sender_id": creator,
        },
    }  # fmt: skip
    if not history_chars:
        return described
    let_others_run()
    return {**described, "history": _read_history(row["id"], history_chars)}


def _read_history(session: int, max_chars: int) -> str:
    """Return the newest messages as JSON text in AstrBot's format of conversations."""
    with get_state().db.read() as db:
        found, _ = list_messages_before(db, session, limit=_MAX_HISTORY, max_chars=max_chars)
    messages = [
        {
            "role": "user" if one.content.get("type") == "user" else "assistant",
            "content": [{"type": "text", "text": plain_text(one.content["message"])}],
        }
        for one in reversed(found)
    ]
    return json.dumps(messages, ensure_ascii=False)

"""``GET /chat/sessions``."""

from __future__ import annotations

from typing import Any

from flask import Response

from ...db.sessions import list_sessions as read_sessions
from ..auth import check_username
from ..blueprint import ApiBlueprint
from ..envelope import ok
from ..schemas import envelope_of
from ..state import get_state
from .schemas import SessionPageSchema, SessionQuerySchema

MAX_PAGE_SIZE = 100

#: Beyond what anybody has; a JSON integer of any client.
_MAX_PAGE = 2**31 - 1

blp = ApiBlueprint("sessions", __name__, tag="Sessions", scope="chat", description="Conversations.")


@blp.route("/chat/sessions", methods=["GET"])
@blp.arguments(SessionQuerySchema(), location="query")
@blp.doc(operationId="listChatSessions")
@blp.answers(envelope_of("SessionPageAnswer", SessionPageSchema()))
@blp.raises("missing_field", "invalid_request", "username_reserved")
def list_sessions(query: dict[str, Any]) -> Response:
    """List the sessions of a username, newest first.

    One page at a time: ask for `page` 2, 3 and so on until you have `total`
    sessions. Sessions that began elsewhere than in the web chat have another
    `platform_id`. With `order_by=updated_at` the last used comes first.
    """
    check_username(query["username"])
    page = min(max(1, query["page"]), _MAX_PAGE)
    page_size = min(max(1, query["page_size"]), MAX_PAGE_SIZE)
    with get_state().store.read() as db:
        sessions, total = read_sessions(
            db,
            query["username"],
            platform_id=query["platform_id"],
            order_by=query["order_by"],
            page=page,
            page_size=page_size,
        )
    return ok({"sessions": sessions, "page": page, "page_size": page_size, "total": total})

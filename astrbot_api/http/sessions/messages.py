"""``/chat/sessions/{session_id}/messages``: list, edit and regenerate."""

from __future__ import annotations

from typing import Any

from flask import Response

from ...chat.turns.editing import edit_user_message
from ...chat.turns.turn import TurnRequest
from ...db.message_pages import list_page
from ...db.sessions import get_owned_session
from ...errors import ApiError
from ...messages import parse_chat_message
from ...runtime.threads import wait_turn
from ..auth import get_caller
from ..blueprint import ApiBlueprint
from ..chat.schemas import read_streaming
from ..envelope import ok
from ..openapi.shapes import CHAT_EVENT
from ..schemas import SESSION_ID, envelope_of, event_stream
from ..sse import find_abort, stream_response
from ..state import get_state
from ..usernames import resolve_owner
from .message_schemas import (
    EditedMessageSchema,
    MessagePageSchema,
    MessagePatchSchema,
    MessageQuerySchema,
    RegenerateSchema,
)
from .routes import OWNER_CODES
from .schemas import OwnerQuerySchema

blp = ApiBlueprint(
    "messages",
    __name__,
    tag="Messages",
    scope="chat",
    description="The messages of a session.",
    path={"session_id": SESSION_ID, "message_id": ("The message's number.", "42")},
)

_CHANGE_CODES = (
    *OWNER_CODES, "attachment_not_found", "message_empty", "message_not_found",
    "message_not_editable", "session_busy",
)  # fmt: skip

_STREAM = event_stream("A stream of events that ends with `end`.", CHAT_EVENT)


@blp.get("/chat/sessions/<session_id>/messages", operation_id="listChatMessages")
@blp.arguments(MessageQuerySchema(), location="query")
@blp.answers(envelope_of("MessagePageAnswer", MessagePageSchema()))
@blp.raises(*OWNER_CODES)
def list_messages(query: dict[str, Any], session_id: str) -> Response:
    """List the messages of a session, page by page.

    To get the next page, send the `next_cursor` of a page as `cursor` with the same `order`.
    With `order=asc` you can later continue after the last page: send its highest `id` as
    `cursor` to get newer messages. A page of long messages can have fewer than `limit`.
    """
    username = resolve_owner(session_id, query["username"])
    wait_turn()  # before messages of some MiB are read
    with get_state().db.read() as db:
        session = get_owned_session(db, session_id, username)
        messages, cursor = list_page(
            db,
            session.id,
            cursor=query["cursor"],
            limit=query["limit"],
            newest_first=query["order"] == "desc",
            user_id=session.session_id,
        )
    return ok({"messages": messages, "next_cursor": cursor})


@blp.patch("/chat/sessions/<session_id>/messages/<message_id>", operation_id="updateChatMessage")
@blp.arguments(OwnerQuerySchema(), location="query")
@blp.arguments(
    MessagePatchSchema(),
    example={
        "username": "alice",
        "content": {"type": "user", "message": [{"type": "plain", "text": "Hello again"}]},
    },
)
@blp.answers(envelope_of("MessageAnswer", EditedMessageSchema()))
@blp.raises(*_CHANGE_CODES)
def edit_message(
    query: dict[str, Any], body: dict[str, Any], session_id: str, message_id: str
) -> Response:
    """Edit the last message of the user.

    Editing does not run a turn. To get a new reply, regenerate it afterwards. Only the user's
    last message can be edited, and only while no turn is running.
    """
    username = resolve_owner(session_id, body["username"], query["username"])
    settings = get_state().settings
    if body["content"].get("message") is None:
        raise ApiError("missing_field", "Missing key: content.message")
    segments = parse_chat_message(
        body["content"]["message"],
        max_chars=settings.max_message_chars,
        max_segments=settings.max_segments,
    )
    number = _read_number(message_id)
    state, caller = get_state(), get_caller()
    edited = edit_user_message(
        state.db, session_id, username, number, segments, caller.guard,
        lambda db: state.keys.quotas.check_at_end(db, caller.root_id),
    )  # fmt: skip
    edited["user_id"] = session_id
    return ok(
        {**edited, "message": edited, "needs_regenerate": True, "truncated_after_message": False}
    )


@blp.post(
    "/chat/sessions/<session_id>/messages/<message_id>/regenerate",
    operation_id="regenerateChatMessage",
)
@blp.arguments(OwnerQuerySchema(), location="query")
@blp.arguments(RegenerateSchema(), example={"username": "alice"})
@blp.doc(responses=_STREAM)
@blp.raises(*_CHANGE_CODES, "provider_not_found", "model_not_found", "server_busy", "shutting_down")
def regenerate(
    query: dict[str, Any], body: dict[str, Any], session_id: str, message_id: str
) -> Response:
    """Regenerate the reply to the last message of the user, as a stream.

    `message_id` is the number of the reply or of the user's message. The events are the same as
    in chat, without `user_message_saved`. The new reply replaces the old one when it is complete.
    If the turn fails, the old reply is kept.
    """
    username = resolve_owner(session_id, body["username"], query["username"])
    watch = get_state().chat.service.open(
        TurnRequest(
            username=username,
            segments=(),
            session_id=session_id,
            shown_session_id=session_id,
            streaming=read_streaming(body),
            provider_id=body["selected_provider"] or "",
            model=body["selected_model"] or "",
            key_id=get_caller().key_id,
            guard=get_caller().guard,
            may_wait=True,
            answers_again=_read_number(message_id),
        ),
        find_abort(),
    )
    return stream_response(watch)


def _read_number(message_id: str) -> int:
    if message_id.isascii() and message_id.isdigit() and len(message_id) < 19:
        return int(message_id)
    raise ApiError("message_not_found", f"message not found: {message_id[:100]}")

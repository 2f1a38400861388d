"""Routes ``/aisdk`` and ``/aisdk/{id}/stream``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from flask import Response, request

from ...chat.watching.watch import Watch
from ...db.approvals import ApprovalRow
from ...db.runs import RunRow
from ...errors import ApiError
from ..blueprint import ApiBlueprint
from ..conversation import (
    Conversation,
    open_conversation,
    resume_conversation,
    stream_conversation,
)
from ..decisions import continue_with_answers
from ..idempotency import CODES, PARAMETER
from ..own_runs import RunOwnerSchema
from ..schemas import event_stream
from ..state import get_state
from .reading import list_tools, read_answers, read_ui_messages
from .rendering import HEADERS, UIMessageStream
from .schemas import UIChatSchema

blp = ApiBlueprint(
    "aisdk",
    __name__,
    tag="AI SDK",
    scope="chat",
    description="The server's agents for `useChat` and other clients of Vercel's AI SDK.",
    path={"chat_id": ("The `id` of the chat, which is a session.", "my_chat_001")},
)

_STREAM = event_stream(
    "A UI message stream that ends with `data: [DONE]`.",
    example=(
        'data: {"type":"start","messageId":"7254cd9a-814f-498e-a202-2c1777b1bd2d"}\n\n'
        'data: {"type":"text-start","id":"text-1"}\n\n'
        'data: {"type":"text-delta","id":"text-1","delta":"Hello"}\n\n'
        'data: {"type":"text-end","id":"text-1"}\n\n'
        'data: {"type":"finish","finishReason":"stop"}\n\ndata: [DONE]\n\n'
    ),
)


@blp.post("/aisdk", operation_id="streamUIMessages")
@blp.arguments(
    UIChatSchema(),
    example={
        "id": "my_chat_001",
        "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}],
        "trigger": "submit-message",
    },
)
@blp.doc(parameters=[PARAMETER], responses=_STREAM)
@blp.raises(
    "missing_field", "message_empty", "username_reserved", "config_not_found", "config_ambiguous",
    "session_of_another_user", "session_busy", "session_not_found", "message_not_found",
    "message_not_editable", "attachment_not_found", "too_many_turns", "too_many_streams",
    "server_busy", "shutting_down", "approval_not_found", "run_not_found", *CODES,
)  # fmt: skip
def stream_chat(body: dict[str, Any]) -> Response:
    """Run an agent and stream UI messages of the AI SDK.

    Use it with `useChat` and `new DefaultChatTransport({ api: "…/api/v1/aisdk" })`. The user's last
    message and the answer are stored in the session `id`. The config's tools run on the server, and
    their calls appear as dynamic tools. A call of one of the request's `tools` ends the turn; send
    its result in the next request. With `approvals`, a call can wait for a person's approval; send
    the answer in the next request. The turn continues after a disconnect. To stop it, stop its
    session, or send the next message.
    """
    is_whole = body["messages"] is not None
    if not is_whole and body["message"] is None:
        raise ApiError("missing_field", "Missing key: messages")
    given = body["messages"] if is_whole else [body["message"]]
    read = read_ui_messages(given)
    last = _find_continued(given, body["messageId"])
    # If the new message has the id of a message that the SDK sent, the SDK continues that message.
    continues = last.get("role") == "assistant" and isinstance(last.get("id"), str)
    message_id = last["id"] if continues else ""
    if answers := read_answers(last):
        run, _, rejected, watch = continue_with_answers(answers, body["username"])
        # Another person may have approved a call first.
        rejected &= {one.approval_id for one in answers if not one.approved}
        return _stream(run, watch, message_id, rejected)
    if body["system"]:
        read.insert(0, {"role": "system", "content": body["system"]})
    asked = Conversation(
        protocol="aisdk",
        session_id=body["id"],
        username=body["username"],
        config=body["config"],
        messages=read,
        tools=list_tools(body["tools"]),
        is_whole=is_whole,
        regenerates=body["trigger"] == "regenerate-message",
        may_wait=bool(body["approvals"]),
    )
    watch = open_conversation(asked, body)
    return _stream(watch, watch, message_id)


@blp.get("/aisdk/<chat_id>/stream", operation_id="resumeUIMessages")
@blp.arguments(RunOwnerSchema(), location="query")
@blp.doc(responses={**_STREAM, 204: {"description": "The chat has no active turn."}})
@blp.raises("username_reserved", "session_of_another_user", "too_many_streams", "server_busy")
def resume_chat(query: dict[str, Any], chat_id: str) -> Response:
    """Stream the active turn of a chat from its first event.

    `useChat` sends this request with `resume: true`. Any worker can answer.
    """
    watch = resume_conversation(chat_id, query["username"])
    return Response(status=204) if watch is None else _stream(watch, watch, "")


def _find_continued(given: list[dict[str, Any]], message_id: str) -> dict[str, Any]:
    """Return the message with this id, or the last message.

    The SDK sends the id of an earlier message if a person answered its approval late.
    """
    return next((one for one in given if message_id and one.get("id") == message_id), given[-1])


def _stream(
    run: RunRow | Watch,
    watch: Watch | Sequence[ApprovalRow],
    message_id: str,
    rejected: Collection[str] | None = None,
) -> Response:
    """Return the stream of a turn.

    :param watch: The watch of the turn, or its undecided calls.
    :param message_id: Id of the message that the turn continues, or empty for a new message.
    :param rejected: Approvals that the request rejected, or None if it decided none.
    """
    files_url = f"{request.script_root}{get_state().settings.url_prefix}/api/v1/files"
    rendering = UIMessageStream(
        message_id or run.run_id,
        run.run_id,
        run.session_id,
        files_url,
        rejected=rejected or (),
        step_over=rejected is not None,
    )
    response = stream_conversation(rendering, watch, run.run_id)
    response.headers.update(HEADERS)
    return response

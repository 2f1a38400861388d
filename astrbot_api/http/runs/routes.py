"""``/chat/runs/{run_id}``, ``…/stream``, ``…/stop``, ``…/approvals`` and stopping a session."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response

from ...db import approvals, message_pages, messages, sessions
from ...db.approvals import ApprovalRow
from ...runtime.clock import to_iso, to_iso_or_none
from ..auth import get_caller, get_holder
from ..blueprint import ApiBlueprint
from ..decisions import DecisionSchema, decide_as_caller, find_run_to_decide
from ..envelope import ok
from ..openapi.shapes import CHAT_EVENT
from ..own_runs import RunOwnerSchema, find_own_run, find_sent_username
from ..schemas import APPROVAL_ID_EXAMPLE, RUN_ID_EXAMPLE, SESSION_ID, envelope_of, event_stream
from ..sse import find_abort, read_last_event_id, stream_response
from ..state import get_state
from .schemas import (
    DecidedSchema,
    RunStateSchema,
    StopSchema,
    StreamQuerySchema,
)

blp = ApiBlueprint(
    "runs",
    __name__,
    tag="Runs",
    scope="chat",
    description="Follow and control turns by their run id.",
    path={
        "run_id": ("The `run_id` from the event `run_started`.", RUN_ID_EXAMPLE),
        "approval_id": ("The `id` from the event `approval_required`.", APPROVAL_ID_EXAMPLE),
        "session_id": SESSION_ID,
    },
)


@blp.get("/chat/runs/<run_id>", operation_id="getChatRun")
@blp.arguments(RunOwnerSchema(), location="query")
@blp.answers(envelope_of("RunAnswer", RunStateSchema()))
@blp.raises("run_not_found", "username_reserved", "session_of_another_user")
def get_run(query: dict[str, Any], run_id: str) -> Response:
    """Return the state and the result of a run."""
    run = find_own_run(run_id, query["username"])
    with get_state().db.read() as db:
        reply = messages.find_message(db, run.session, run.bot_message or 0)
        asked = approvals.list_approvals(db, run.id) if run.active else []
    return ok(
        {
            "run_id": run.run_id,
            "session_id": run.session_id,
            "status": run.status,
            "error_code": run.error_code,
            "llm_checkpoint_id": run.llm_checkpoint_id,
            "user_message_id": run.user_message,
            "message_id": run.bot_message,
            "approvals": [_describe_approval(one) for one in asked],
            "result": message_pages.show_error(reply.content) if reply else None,
            "created_at": to_iso(run.created_at),
            "started_at": to_iso_or_none(run.started_at),
            "finished_at": to_iso_or_none(run.finished_at),
        }
    )


@blp.get("/chat/runs/<run_id>/stream", operation_id="resumeChatRun")
@blp.arguments(StreamQuerySchema(), location="query")
@blp.doc(
    responses={
        **event_stream("The run's events after that position, ending with `end`.", CHAT_EVENT),
        204: {"description": "The run has ended and there are no further events."},
    },
)
@blp.raises(
    "run_not_found", "username_reserved", "session_of_another_user", "too_many_streams",
    "server_busy",
)  # fmt: skip
def resume_run(query: dict[str, Any], run_id: str) -> Response:
    """Resume the stream of a run after any of its events.

    Each frame of a stream has an `id:` line with the event's number. Send the last number as
    `Last-Event-ID` (a browser's `EventSource` does this) or as `after`. The stream continues
    after that event, on any worker, even after a restart and for some time after the run ended.
    After the last event the response is a 204, so that an `EventSource` stops.
    """
    run = find_own_run(run_id, query["username"])
    # A reconnecting EventSource sends the header together with the original query parameter.
    after = max(query["after"] or 0, read_last_event_id("an event") or 0)
    watch = get_state().chat.service.resume(
        run, after, get_holder(), find_abort(), snapshot=query["snapshot"]
    )
    return Response(status=204) if watch is None else stream_response(watch)


@blp.post("/chat/runs/<run_id>/stop", operation_id="stopChatRun")
@blp.arguments(RunOwnerSchema(), required=False)
@blp.answers(envelope_of("RunStopAnswer", StopSchema()))
@blp.raises("run_not_found", "username_reserved", "session_of_another_user")
def stop_run(body: dict[str, Any], run_id: str) -> Response:
    """Stop a run that is running or queued on any worker.

    The stream ends with `complete` (the text so far), `message_saved` and `end`. If the run has
    already ended, `stopped_count` is 0.
    """
    run = find_own_run(run_id, body["username"])
    return ok({"stopped_count": get_state().chat.runs.stop([run.run_id])})


@blp.post("/chat/runs/<run_id>/approvals/<approval_id>", operation_id="decideChatApproval")
@blp.arguments(DecisionSchema(), example={"decision": "approve", "username": "alice"})
@blp.answers(envelope_of("DecisionAnswer", DecidedSchema()))
@blp.raises(
    "run_not_found", "username_reserved", "session_of_another_user", "approval_not_found",
    "approval_decided", "missing_field", "key_restricted",
)  # fmt: skip
def decide_approval(body: dict[str, Any], run_id: str, approval_id: str) -> Response:
    """Approve or reject a tool call that waits for a person.

    The run continues when all of its calls are decided: resume its stream then. An approved
    call is executed once, with exactly the approved arguments. The model receives a rejection
    with your `comment`.
    """
    run = find_run_to_decide(run_id, body["username"])
    decided = decide_as_caller(run, approval_id, body)
    return ok({"run_id": run.run_id, "pending": decided.left})


def _describe_approval(row: ApprovalRow) -> dict[str, Any]:
    return {
        "id": row.approval_id,
        "tool": row.tool,
        "arguments": orjson.loads(row.arguments or row.args),
        "status": row.status,
        "expires_at": to_iso(row.expires_at),
    }


@blp.post("/chat/sessions/<session_id>/stop", operation_id="stopChatSession")
@blp.arguments(RunOwnerSchema(), required=False)
@blp.answers(envelope_of("SessionStopAnswer", StopSchema()))
@blp.raises("session_not_found", "username_reserved", "session_of_another_user")
def stop_session(body: dict[str, Any], session_id: str) -> Response:
    """Stop the running and queued turns of a session.

    With `username` (in the body or the query), all turns are stopped. Without it, only the
    turns that this API key started are stopped.
    """
    state = get_state()
    username = find_sent_username(body["username"])
    get_caller().rules.check_session(session_id)
    with state.db.read() as db:
        session = sessions.find_session(db, session_id)
        if session is None or username:
            session = sessions.get_owned_session(db, session_id, username)
    key_id = None if username else get_caller().key_id
    return ok({"stopped_count": state.chat.runs.stop_session(session.id, key_id)})

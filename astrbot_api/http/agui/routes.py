"""Route ``/agui``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flask import Response

from ...chat.watching.watch import Watch
from ...db import runs
from ...db.approvals import ApprovalRow
from ...errors import ApiError, StorageError, refuse
from ...event_lines import MAX_LINE_BYTES, encode_line
from ...messages import to_whole
from ..blueprint import ApiBlueprint
from ..conversation import (
    Conversation,
    has_new_message,
    open_conversation,
    stream_conversation,
)
from ..decisions import continue_with_answers
from ..idempotency import CODES, PARAMETER
from ..schemas import event_stream
from ..state import get_state
from .reading import read_agui_messages, read_resume
from .rendering import AguiStream
from .schemas import RunAgentInputSchema

blp = ApiBlueprint(
    "agui",
    __name__,
    tag="AG-UI",
    scope="chat",
    description="The server's agents for clients of the AG-UI protocol, such as CopilotKit.",
)

#: Maximum size of the state and of the history that are sent back, in bytes of JSON. Each is one
#: line of the stream.
_MAX_ECHO_BYTES = MAX_LINE_BYTES * 3 // 4

_STREAM = event_stream(
    "A stream of AG-UI events that ends with `RUN_FINISHED` or `RUN_ERROR`.",
    example=(
        'data: {"type":"RUN_STARTED","threadId":"my_thread_001","runId":"run-1"}\n\n'
        'data: {"type":"TEXT_MESSAGE_START","messageId":"7254cd9a-1",'
        '"role":"assistant"}\n\n'
        'data: {"type":"TEXT_MESSAGE_CONTENT","messageId":"7254cd9a-1",'
        '"delta":"Hello"}\n\n'
        'data: {"type":"TEXT_MESSAGE_END","messageId":"7254cd9a-1"}\n\n'
        'data: {"type":"RUN_FINISHED","threadId":"my_thread_001","runId":"run-1"}\n\n'
    ),
)


@blp.post("/agui", operation_id="runAguiAgent")
@blp.arguments(
    RunAgentInputSchema(),
    example={
        "threadId": "my_thread_001",
        "runId": "run-1",
        "messages": [{"id": "m1", "role": "user", "content": "Hello"}],
    },
)
@blp.doc(parameters=[PARAMETER], responses=_STREAM)
@blp.raises(
    "missing_field", "message_empty", "username_reserved", "config_not_found", "config_ambiguous",
    "session_of_another_user", "attachment_not_found", "too_many_turns", "too_many_streams",
    "server_busy", "shutting_down", "approval_not_found", "run_not_found", *CODES,
)  # fmt: skip
def run_agent(body: dict[str, Any]) -> Response:
    """Run an agent and stream AG-UI events.

    Use it with `HttpAgent` of `@ag-ui/client` and libraries built on it. The user's last message
    and the answer are stored in the session `threadId`. The config's tools run on the server, and
    their calls are shown. A call of one of the request's `tools` ends the run; send its result in
    the next request. A call that needs approval ends the run with an interrupt; answer it with
    `resume`. The turn continues after a disconnect. To stop it, stop its session, or start the
    thread's next run.
    """
    props = body["forwardedProps"] if isinstance(body["forwardedProps"], dict) else {}
    is_current = bool(body["protocolVersion"])
    may_wait = is_current or props.get("approvals") is True
    state = body["state"]
    if len(encode_line(state)) > _MAX_ECHO_BYTES:
        raise refuse(f"state must have at most {_MAX_ECHO_BYTES} bytes as JSON")
    asked = Conversation(
        protocol="agui",
        session_id=body["threadId"],
        username=_read_prop(props, "username"),
        config=_read_prop(props, "config"),
        messages=read_agui_messages(body["messages"], body["context"]),
        tools=body["tools"],
        may_wait=may_wait,
        answers=read_resume(body["resume"]),
    )
    run_id, names, watch = _open(asked, body)
    history = encode_line(body["messages"])
    rendering = AguiStream(
        body["threadId"],
        body["runId"],
        run_id,
        names=names,
        is_current=is_current,
        may_wait=may_wait,
        is_stopped=_make_is_stopped(run_id),
        state=state,
        history=history if len(history) <= _MAX_ECHO_BYTES else b"",
    )
    if not isinstance(watch, Watch):
        rendering.note_waiting(watch)
    return stream_conversation(rendering, watch, run_id)


def _open(
    asked: Conversation, body: dict[str, Any]
) -> tuple[str, str, Watch | Sequence[ApprovalRow]]:
    """Open a turn, or continue the one whose calls are decided.

    :returns: The id of the run, or empty if it has ended; the prefix of its message ids; and the
        watch, or the calls that are still undecided.
    """
    if not asked.answers or has_new_message(asked):
        watch = open_conversation(asked, body)
        return watch.run_id, watch.run_id, watch
    try:
        run, after, _, found = continue_with_answers(asked.answers, asked.username)
    except ApiError as error:
        if error.code != "approval_not_found" or any(one.approved for one in asked.answers):
            raise
        # The turn has ended. Without this answer, the client could never leave the interrupt.
        return "", body["runId"], ()
    return run.run_id, f"{run.run_id}.{after}", found


def _make_is_stopped(run_id: str) -> Callable[[], bool]:
    db = get_state().db

    def is_stopped() -> bool:
        try:
            with db.read() as reading:
                run = runs.find_run(reading, run_id)
        except StorageError:
            return False
        return run is not None and run.status == "stopped"

    return is_stopped


def _read_prop(props: dict[str, Any], name: str) -> str:
    """Return a member of ``forwardedProps``. An integer is converted to its digits.

    :raises ApiError: ``invalid_request``, with the name of the member.
    """
    value = to_whole(props.get(name))
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str | None):
        raise refuse(f"forwardedProps.{name} must be a string")
    return (value or "").strip()

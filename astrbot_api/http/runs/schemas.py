"""Request and response schemas of runs."""

from __future__ import annotations

import marshmallow as ma

from ..fields import AFTER, Cursor, query_flag
from ..own_runs import RunOwnerSchema
from ..schemas import (
    APPROVAL_ID_EXAMPLE,
    RUN_ID_EXAMPLE,
    list_of,
    mapping,
    number,
    response_field,
    text,
    time,
)


class StreamQuerySchema(RunOwnerSchema):
    """The position at which a stream resumes."""

    after = Cursor(AFTER)
    snapshot = query_flag(
        "With `true` the stream begins with one `run_snapshot` event, which contains the whole "
        "text so far, and continues after it.",
    )


class ApprovalSchema(ma.Schema):
    """A tool call that a person must approve."""

    id = text("The approval's id.", APPROVAL_ID_EXAMPLE)
    tool = text("The tool's name.", "pay")
    arguments = response_field(ma.fields.Raw, "The arguments of the call.", {"amount": 5})
    status = text("`pending`, `approved` or `rejected`.", "pending")
    expires_at = time("Time at which the call is rejected automatically, ISO 8601, UTC.")


class DecidedSchema(ma.Schema):
    run_id = text("The run's id.", RUN_ID_EXAMPLE)
    pending = number("Number of undecided calls of the run. At 0 the run continues.", 0)


class RunStateSchema(ma.Schema):
    run_id = text("The run's id.", RUN_ID_EXAMPLE)
    session_id = text("The session's id.", "my_session_001")
    status = text(
        "`queued`, `running`, `waiting` (for an approval), `completed`, `failed`, `stopped` or "
        "`interrupted`.",
        "completed",
    )
    error_code = text(
        "The reason of a failure or interruption, otherwise `null`.", "provider_error", none=True
    )
    llm_checkpoint_id = text(
        "An id that both messages of the turn share.", RUN_ID_EXAMPLE, none=True
    )
    user_message_id = number("Number of the user's stored message.", 41, none=True)
    message_id = number("Number of the stored reply, or `null` before the end.", 42, none=True)
    result = mapping(
        "Content of the stored reply, or `null` before the end.",
        {"type": "bot", "message": [{"type": "plain", "text": "Hello!"}]},
        none=True,
    )
    approvals = list_of(ApprovalSchema, "Tool calls of this run that need a person's decision.")
    created_at = time("Time of the request, ISO 8601, UTC.")
    started_at = time("Time of the start, or `null` while the turn is queued.", none=True)
    finished_at = time("Time of the end, or `null` before it.", none=True)


class StopSchema(ma.Schema):
    stopped_count = number("Number of running and queued turns that were stopped.", 1)

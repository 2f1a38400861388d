"""Request and response schemas of runs."""

from __future__ import annotations

import marshmallow as ma

from ..fields import asked, switch
from ..own_runs import RunOwnerSchema
from ..schemas import list_of, mapping, number, show, text, time

_APPROVAL = "0a5a83f1-9f5b-5f0e-a0ce-1c3f3b2f7f10"
_UUID = "7254cd9a-814f-498e-a202-2c1777b1bd2d"


class StreamQuerySchema(RunOwnerSchema):
    """Where the stream goes on."""

    after = asked(
        ma.fields.Integer,
        "The number of the last event that is known (its `id:` line). The header "
        "`Last-Event-ID` says the same; of both the later event counts.",
        0,
        load_default=None,
        allow_none=True,
        # A database knows no larger number.
        validate=ma.validate.Range(0, 2**63 - 1, error="after is out of range"),
        error_messages={"invalid": "after must be an integer"},
    )
    snapshot = switch(
        "snapshot",
        "`true`: the stream begins with one `run_snapshot` event, which holds all that was said "
        "so far, and goes on after it.",
    )


class ApprovalSchema(ma.Schema):
    """A tool call that a person must approve."""

    id = text("Its id.", _APPROVAL)
    tool = text("The tool.", "pay")
    arguments = show(ma.fields.Raw, "What it is called with.", {"amount": 5})
    status = text("`pending`, `approved` or `rejected`.", "pending")
    expires_at = time("When it counts as rejected; ISO 8601, UTC.")


class DecidedSchema(ma.Schema):
    """What came of a decision."""

    run_id = text("The run's id.", _UUID)
    pending = number("Calls of the run that are still to be decided; 0: it goes on.", 0)


class RunStateSchema(ma.Schema):
    """What became of a run."""

    run_id = text("Its id.", _UUID)
    session_id = text("The session whose turn it is.", "my_session_001")
    status = text(
        "`queued`, `running`, `waiting` (for an approval), `completed`, `failed`, `stopped` or "
        "`interrupted`.",
        "completed",
    )
    error_code = text(
        "Why it failed, or was interrupted; `null` otherwise.", "provider_error", none=True
    )
    llm_checkpoint_id = text("What the two messages of the turn share.", _UUID, none=True)
    user_message_id = number("The stored message of the user.", 41, none=True)
    message_id = number("The stored reply; `null` before the end.", 42, none=True)
    result = mapping(
        "The content of the stored reply; `null` before the end.",
        {"type": "bot", "message": [{"type": "plain", "text": "Hello!"}]},
        none=True,
    )
    approvals = list_of(ApprovalSchema, "The tool calls that a person was asked for in this run.")
    created_at = time("When the turn was asked for; ISO 8601, UTC.")
    started_at = time("When it began; `null`: it waits.", none=True)
    finished_at = time("When it ended; `null` before.", none=True)


class StopSchema(ma.Schema):
    """How many turns were stopped."""

    stopped_count = number("Turns that ran or waited and now end.", 1)

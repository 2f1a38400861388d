"""Request and response schemas of runs."""

from __future__ import annotations

import marshmallow as ma

from ..own_runs import RunOwnerSchema

_APPROVAL = "0a5a83f1-9f5b-5f0e-a0ce-1c3f3b2f7f10"
_UUID = "7254cd9a-814f-498e-a202-2c1777b1bd2d"
_TIME = "2026-11-23T16:41:51.860786+00:00"


class StreamQuerySchema(RunOwnerSchema):
    """Where the stream goes on."""

    after = ma.fields.Integer(
        load_default=None,
        allow_none=True,
        # A database knows no larger number.
        validate=ma.validate.Range(0, 2**63 - 1, error="after is out of range"),
        error_messages={"invalid": "after must be an integer"},
        metadata={
            "description": (
                "The number of the last event that is known (its `id:` line). The header "
                "`Last-Event-ID` says the same; of both the later event counts."
            ),
            "example": 0,
        },
    )
    snapshot = ma.fields.Boolean(
        load_default=False,
        error_messages={"invalid": "snapshot must be true or false"},
        metadata={
            "description": (
                "`true`: the stream begins with one `run_snapshot` event, which holds all "
                "that was said so far, and goes on after it."
            ),
            "example": False,
        },
    )


def _time(description: str, *, none: bool = False) -> ma.fields.String:
    metadata = {"description": description, "format": "date-time", "example": _TIME}
    return ma.fields.String(allow_none=none, metadata=metadata)


class ApprovalSchema(ma.Schema):
    """A tool call that a person must approve."""

    id = ma.fields.String(metadata={"description": "Its id.", "example": _APPROVAL})
    tool = ma.fields.String(metadata={"description": "The tool.", "example": "pay"})
    arguments = ma.fields.Raw(
        metadata={"description": "What it is called with.", "example": {"amount": 5}}
    )
    status = ma.fields.String(
        metadata={
            "description": "`pending`, `approved` or `rejected`.",
            "example": "pending",
        }
    )
    expires_at = _time("When it counts as rejected; ISO 8601, UTC.")


class DecidedSchema(ma.Schema):
    """What came of a decision."""

    run_id = ma.fields.String(metadata={"description": "The run.", "example": _UUID})
    pending = ma.fields.Integer(
        metadata={
            "description": "Calls of the run that are still to be decided; 0: it goes on.",
            "example": 0,
        }
    )


class RunStateSchema(ma.Schema):
    """What became of a run."""

    run_id = ma.fields.String(metadata={"description": "Its id.", "example": _UUID})
    session_id = ma.fields.String(
        metadata={"description": "The session whose turn it is.", "example": "my_session_001"}
    )
    status = ma.fields.String(
        metadata={
            "description": (
                "`queued`, `running`, `waiting` (for an approval), `completed`, `failed`, "
                "`stopped` or `interrupted`."
            ),
            "example": "completed",
        }
    )
    error_code = ma.fields.String(
        allow_none=True,
        metadata={
            "description": "Why it failed, or was interrupted; `null` otherwise.",
            "example": "provider_error",
        },
    )
    llm_checkpoint_id = ma.fields.String(
        allow_none=True,
        metadata={"description": "What the two messages of the turn share.", "example": _UUID},
    )
    user_message_id = ma.fields.Integer(
        allow_none=True, metadata={"description": "The stored message of the user.", "example": 41}
    )
    message_id = ma.fields.Integer(
        allow_none=True,
        metadata={"description": "The stored reply; `null` before the end.", "example": 42},
    )
    result = ma.fields.Dict(
        allow_none=True,
        metadata={
            "description": "The content of the stored reply; `null` before the end.",
            "example": {"type": "bot", "message": [{"type": "plain", "text": "Hello!"}]},
        },
    )
    approvals = ma.fields.List(
        ma.fields.Nested(ApprovalSchema()),
        metadata={"description": "The tool calls that a person was asked for in this run."},
    )
    created_at = _time("When the turn was asked for; ISO 8601, UTC.")
    started_at = _time("When it began; `null`: it waits.", none=True)
    finished_at = _time("When it ended; `null` before.", none=True)


class StopSchema(ma.Schema):
    """How many turns were stopped."""

    stopped_count = ma.fields.Integer(
        metadata={"description": "Turns that ran or waited and now end.", "example": 1}
    )

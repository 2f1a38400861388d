"""Request and response schemas of sessions."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ..fields import (
    BoundedList,
    Limit,
    PageNumber,
    Text,
    Username,
    optional_text,
    optional_username,
    query_choice,
    request_field,
)
from ..schemas import RUN_ID_EXAMPLE, RequestSchema, flag, list_of, number, text, text_list, time
from .message_schemas import MessageSchema

#: Maximum number of sessions that one request can delete.
MAX_BATCH = 500


class SessionQuerySchema(RequestSchema):
    username = Username()
    page = request_field(
        PageNumber, "The page number, starting at 1. Smaller values count as 1.", 1, load_default=1
    )
    page_size = request_field(
        PageNumber, "Sessions per page, clamped to 1 to 100.", 20, load_default=20, maximum=100
    )
    platform_id = request_field(
        Text, "List only the sessions of this platform.", "webchat", load_default=""
    )
    order_by = query_choice(
        "order_by",
        ("created_at", "updated_at"),
        "`created_at` for newest first, `updated_at` for most recently used first.",
        default="created_at",
    )


class SessionSchema(ma.Schema):
    session_id = text("The session's id.", "my_session")
    platform_id = text("The session's platform.", "webchat")
    creator = text("The username that owns the session.", "alice")
    display_name = text("The title, generated after the first turn.", "Greetings", none=True)
    is_group = number("`1` for a group, otherwise `0`.", 0)
    created_at = time("Time of creation, ISO 8601, UTC.")
    updated_at = time("Time of the last use, ISO 8601, UTC.", "2026-11-23T16:41:52.192895+00:00")


class SessionPageSchema(ma.Schema):
    sessions = list_of(SessionSchema, "The sessions of the page.")
    page = number("The page number.", 1)
    page_size = number("Maximum number of sessions per page.", 20)
    total = number("Total number of sessions.", 1)


class OwnerQuerySchema(RequestSchema):
    username = optional_username()


class SessionDetailQuerySchema(OwnerQuerySchema):
    history_limit = request_field(
        Limit, "Maximum number of messages in `history`, clamped to 1 to 200. The default is 1000. "
        "Ignored with `page` or `page_size`.", 50,
        maximum=200, load_default=None, allow_none=True,
    )  # fmt: skip
    page = request_field(
        PageNumber, "Page of the history. Page 1 has the newest messages.", 1,
        load_default=None, allow_none=True,
    )  # fmt: skip
    page_size = request_field(
        PageNumber,
        "Maximum number of messages per page, clamped to 1 to 1000. The default is 1000.",
        50,
        maximum=1000,
        load_default=None,
        allow_none=True,
    )


class RunSchema(ma.Schema):
    """A turn that is running or queued."""

    run_id = text("The run's id.", RUN_ID_EXAMPLE)
    session_id = text("The session's id.", "my_session_001")
    status = text("`running`, or `queued` behind another turn of the session.", "running")
    created_at = time("Time of the request, ISO 8601, UTC.")
    started_at = time("Time of the start, or `null` while the turn is queued.", none=True)


class NamedSessionSchema(SessionSchema):
    config_id = text(
        "The session's config, or `null` if it uses the default.", "default", none=True
    )


class SessionDetailSchema(NamedSessionSchema):
    """A session and a page of its history."""

    session = ma.fields.Nested(
        SessionSchema,
        metadata={"description": "The same session object, for compatibility with AstrBot."},
    )
    history = list_of(MessageSchema, "A page of messages, oldest first.")
    total = number("Total number of messages.", 2)
    page = number("The page number of `history`.", 1)
    page_size = number("Maximum number of messages per page.", 50)
    has_more = flag("Whether there are older messages than in `history`.", False)
    threads = text_list("Always empty.", [])
    next_cursor = number(
        "The `cursor` for listing the messages before `history`, newest first. `null` if there "
        "are none.",
        None,
        none=True,
    )
    active_runs = list_of(RunSchema, "Running and queued turns, in order.")
    is_running = flag("Whether `active_runs` is not empty.", False)


class NewSessionQuerySchema(OwnerQuerySchema):
    platform_id = ma.fields.String(
        load_default="webchat",
        validate=ma.validate.OneOf(
            ["webchat"],
            error="platform_id must be webchat; a bot's sessions begin with its messages",
        ),
        metadata={"description": "Only `webchat`.", "example": "webchat"},
    )


def _display_name(**options: Any) -> Text:
    """Return a title. ``null`` and blank mean no title."""
    return request_field(
        Text, "The session's title. If it is blank, the next turn generates one.", "Greetings",
        allow_none=True, max_chars="max_display_name_chars", **options,
    )  # fmt: skip


class NewSessionSchema(OwnerQuerySchema):
    """The body of a new session. All fields are optional."""

    display_name = _display_name(load_default=None)
    config_id = optional_text("The config for the session.", "default")


class SessionPatchSchema(OwnerQuerySchema):
    display_name = _display_name(required=True)


class BatchDeleteSchema(OwnerQuerySchema):
    session_ids = BoundedList(
        ma.fields.String(error_messages={"invalid": "session_ids must be a list of strings"}),
        required=True,
        max_items=MAX_BATCH,
        error_messages={"invalid": "session_ids must be a list of strings"},
        metadata={
            "description": f"The sessions' ids, at most {MAX_BATCH}.",
            "example": ["my_session_001"],
        },
    )


class DeletedSessionSchema(ma.Schema):
    session_id = text("The session's id.", "my_session")


class FailedItemSchema(DeletedSessionSchema):
    """A session that was not deleted, and why."""

    code = text("The error code.", "session_not_found")
    reason = text("The error message.", "session not found: my_session")


class BatchDeletedSchema(ma.Schema):
    deleted_count = number("Number of deleted sessions.", 1)
    failed_count = number("Number of sessions that could not be deleted.", 0)
    failed_items = list_of(
        FailedItemSchema, "The sessions that could not be deleted, with the reasons."
    )

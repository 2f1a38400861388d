"""Request and response schemas of sessions."""

from __future__ import annotations

import marshmallow as ma

from ..fields import (
    BoundedList,
    Limit,
    MaybeUsername,
    PageNumber,
    Text,
    Username,
    asked,
    choice,
    missing,
    optional_text,
)
from ..schemas import RequestSchema, flag, list_of, number, text, texts, time
from .message_schemas import MessageSchema

#: Most sessions that one request deletes.
MAX_BATCH = 500


class SessionQuerySchema(RequestSchema):
    """The query of a list of sessions."""

    username = Username()
    page = asked(PageNumber, "From 1; what is below counts as 1.", 1, load_default=1)
    page_size = asked(PageNumber, "Sessions a page, brought into 1 to 100.", 20, load_default=20)
    platform_id = asked(Text, "Only this platform's.", "webchat", load_default="")
    order_by = choice(
        "order_by",
        ("created_at", "updated_at"),
        "`created_at`: newest first. `updated_at`: last used first.",
        default="created_at",
    )


class SessionSchema(ma.Schema):
    """One conversation."""

    session_id = text("Its name.", "my_session")
    platform_id = text("Where it takes place.", "webchat")
    creator = text("Its username.", "alice")
    display_name = text("Its title, made after the first turn.", "Greetings", none=True)
    is_group = number("`1` for a group, else `0`.", 0)
    created_at = time("When it was made; ISO 8601, UTC.")
    updated_at = time("When it was last used; ISO 8601, UTC.", "2026-11-23T16:41:52.192895+00:00")


class SessionPageSchema(ma.Schema):
    """One page of sessions."""

    sessions = list_of(SessionSchema, "The page's sessions.")
    page = number("Which page this is.", 1)
    page_size = number("Most sessions of a page.", 20)
    total = number("Sessions on all pages together.", 1)


class OwnerQuerySchema(RequestSchema):
    """The query of a route that is for the session's owner."""

    username = MaybeUsername()


class SessionDetailQuerySchema(OwnerQuerySchema):
    """The query of one session."""

    history_limit = asked(
        Limit, "Most messages of `history`, brought into 1 to 200.", 50,
        maximum=200, load_default=50,
    )  # fmt: skip
    page = asked(
        PageNumber, "Which page of the history; 1 is its end.", 1,
        load_default=None, allow_none=True,
    )  # fmt: skip
    page_size = asked(
        PageNumber,
        "Most messages of a page, brought into 1 to 1000; it is 1000 where `page` alone is sent.",
        50,
        load_default=None,
        allow_none=True,
    )


class RunSchema(ma.Schema):
    """A turn that runs or waits."""

    run_id = text("Its id.", "7254cd9a-814f-498e-a202-2c1777b1bd2d")
    session_id = text("Its session.", "my_session_001")
    status = text("`running`, or `queued` behind another turn of the session.", "running")
    created_at = time("When it was asked for; ISO 8601, UTC.")
    started_at = time("When it began; `null` while it waits.", none=True)


class NamedSessionSchema(SessionSchema):
    """One conversation, with its config."""

    config_id = text(
        "The config that was chosen for it; `null`: the default.", "default", none=True
    )


class SessionDetailSchema(NamedSessionSchema):
    """One conversation and the end of its history."""

    session = ma.fields.Nested(SessionSchema, metadata={"description": "The same once more."})
    history = list_of(MessageSchema, "A page of its messages, oldest first.")
    total = number("Messages of all pages.", 2)
    page = number("Which page `history` is.", 1)
    page_size = number("Most messages of a page.", 50)
    has_more = flag("Whether there are messages before `history`.", False)
    threads = texts("Always empty.", [])
    next_cursor = number(
        "For `cursor` of its messages, newest first: what came before `history`. "
        "`null`: nothing did.",
        None,
        none=True,
    )
    active_runs = list_of(RunSchema, "Its turns that have not ended, in their order.")
    is_running = flag("Whether `active_runs` has any.", False)


class NewSessionQuerySchema(OwnerQuerySchema):
    """The query of a new session."""

    platform_id = ma.fields.String(
        load_default="webchat",
        validate=ma.validate.OneOf(
            ["webchat"],
            error="platform_id must be webchat; a bot's sessions begin with its messages",
        ),
        metadata={"description": "Only `webchat`.", "example": "webchat"},
    )


class DisplayName(Text):
    """A title; ``null`` and blank are none."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(
            allow_none=True,
            max_chars="max_display_name_chars",
            metadata={
                "description": "Its title. Blank: none, so that the next turn makes one.",
                "example": "Greetings",
                "maxLength": 255,
            },
            **kwargs,
        )


class NewSessionSchema(OwnerQuerySchema):
    """The body of a new session; all of it may be absent."""

    display_name = DisplayName(load_default=None)
    config_id = optional_text("The config that answers in it.", "default")


class SessionPatchSchema(OwnerQuerySchema):
    """What of a session is changed."""

    display_name = DisplayName(
        required=True, error_messages={"required": "Missing key: display_name"}
    )


class BatchDeleteSchema(OwnerQuerySchema):
    """Which sessions are deleted."""

    session_ids = BoundedList(
        ma.fields.String(error_messages={"invalid": "session_ids must be a list of strings"}),
        required=True,
        max_items=MAX_BATCH,
        error_messages=missing("session_ids")
        | {"invalid": "session_ids must be a list of strings"},
        metadata={
            "description": f"Their ids, at most {MAX_BATCH}.",
            "example": ["my_session_001"],
        },
    )


class DeletedSessionSchema(ma.Schema):
    """What was deleted."""

    session_id = text("Its name.", "my_session")


class FailedItemSchema(DeletedSessionSchema):
    """A session that was not deleted, and why."""

    code = text("As of an error.", "session_not_found")
    reason = text("What is wrong with it.", "session not found: my_session")


class BatchDeletedSchema(ma.Schema):
    """What became of the sessions that were to be deleted."""

    deleted_count = number("How many were deleted.", 1)
    failed_count = number("How many were not.", 0)
    failed_items = list_of(FailedItemSchema, "Those that were not, and why.")

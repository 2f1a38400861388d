"""Responses and conversations: what they are asked with, and their answers."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ..fields import NOT_BLANK, AnyObject, Flag, Limit, Text, optional_text
from ..openai.parameters import MAX_TOOLS
from ..openai.schemas import FUNCTION_MEMBERS, FUNCTION_TYPE, passed_on, refused
from .items import SERVER_LABEL
from .parameters import INCLUDED, MAX_KEY_CHARS, MAX_PAIRS, MAX_VALUE_CHARS
from .reading import ITEM_TYPES, MAX_ITEMS

STREAM = {
    "schema": {"description": "Server-sent events."},
    "example": (
        'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
        '"sequence_number":4,"item_id":"msg_7254cd9a814f498ea2022c1777b1bd2d8000",'
        '"output_index":0,"content_index":0,"delta":"Hello","logprobs":[]}\n\n'
    ),
}

_ITEM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {
            "description": "What it is; absent: a message.",
            "enum": [*ITEM_TYPES, None],
            "example": "message",
        },
        "role": {
            "type": "string",
            "description": "Who says a message. The user's last one is answered.",
            "enum": ["user", "assistant", "system", "developer"],
            "example": "user",
        },
        "content": {
            "description": (
                "A string, or parts: `input_text`, `output_text`, and in the message that is "
                "answered `input_image` with a `data:` URL, `input_audio`, `input_file` with "
                "`file_data`, or an attachment's id as `file_id`."
            ),
            "example": "Hello",
        },
    },
}


#: A tool of the caller's.
_FUNCTION: dict[str, Any] = {
    "type": "object",
    "required": ["type", "name"],
    "properties": {"type": FUNCTION_TYPE, **FUNCTION_MEMBERS},
}

#: The config's own tools, whose calls a person may approve.
_SERVER: dict[str, Any] = {
    "type": "object",
    "required": ["type", "server_label"],
    "properties": {
        "type": {
            "type": "string", "description": "The config's own tools.", "enum": ["mcp"],
            "example": "mcp",
        },
        "server_label": {
            "type": "string", "description": "They have this name alone.",
            "enum": [SERVER_LABEL], "example": SERVER_LABEL,
        },
        "require_approval": {
            "description": (
                "`always`: a call that needs a person's approval ends the response with an "
                "`mcp_approval_request`. `never`: it is rejected."
            ),
            "enum": ["always", "never", None],
            "example": "always",
        },
    },
}  # fmt: skip


_CONVERSATION_ID = {
    "type": "string",
    "minLength": 1,
    "description": "The `id` of the conversation.",
    "example": "conv_7254cd9a814f498ea2022c1777b1bd2d",
}


def _free(text: str, example: Any, **schema: Any) -> ma.fields.Raw:
    metadata = {"description": text, "example": example, **schema}
    return ma.fields.Raw(load_default=None, allow_none=True, metadata=metadata)


def _word(example: str) -> ma.fields.Raw:
    return _free("Without effect.", example, type="string", maxLength=MAX_VALUE_CHARS)


def _metadata() -> ma.fields.Raw:
    return _free(
        "Up to 16 pairs of the client's own.", {"topic": "demo"},
        type="object", maxProperties=MAX_PAIRS,
        propertyNames={"minLength": 1, "maxLength": MAX_KEY_CHARS},
        additionalProperties={"type": "string", "maxLength": MAX_VALUE_CHARS},
    )  # fmt: skip


def _username() -> Text:
    return optional_text(
        "The username. Absent: that of what it goes on from, else `openai:` and the beginning of "
        "the key.",
        "alice",
        max_chars="max_username_chars",
    )


class OpenAIResponseRequestSchema(ma.Schema):
    """What a response is asked with. Fields that are not named here are ignored."""

    carries_message = True

    class Meta:
        unknown = ma.EXCLUDE

    model = Text(
        required=True,
        error_messages={"required": "Missing key: model", "null": "Missing key: model"},
        metadata={
            "description": "A config, by its id or its name.",
            "pattern": NOT_BLANK,
            "example": "default",
        },
    )
    input = ma.fields.Raw(
        required=True,
        error_messages={"required": "Missing key: input", "null": "Missing key: input"},
        metadata={
            "description": "What is asked: a string, or items.",
            "oneOf": [
                {"type": "string"},
                {"type": "array", "items": _ITEM, "maxItems": MAX_ITEMS},
            ],
            "example": "Hello",
        },
    )
    instructions = optional_text(
        "Instructions of this response alone, below the config's own prompt.", "Be brief."
    )
    stream = Flag(metadata={"description": "Answer in events.", "default": False, "example": True})
    background = Flag(
        metadata={
            "description": "Answer at once; the response is retrieved later.",
            "default": False,
            "example": False,
        }
    )
    store = Flag(
        metadata={
            "description": "`false`: nothing of the turn stays.", "default": True, "example": True,
        }
    )  # fmt: skip
    previous_response_id = optional_text(
        "The response that this one goes on from.", "resp_7254cd9a814f498ea2022c1777b1bd2d"
    )
    conversation = _free(
        "The conversation that it is added to: its id, or an object with it.",
        "conv_7254cd9a814f498ea2022c1777b1bd2d",
        anyOf=[
            {"type": "string", "minLength": 1},
            {"type": "object", "required": ["id"], "properties": {"id": _CONVERSATION_ID}},
            {"type": "null"},
        ],
    )
    user = _username()
    metadata = _metadata()
    tools = passed_on(
        "Functions that the client runs, beside the config's own tools: a call of one ends the "
        "turn. Of two with the same name the client's is taken. With a tool of the type `mcp` the "
        "client answers questions for approvals of the config's tools.",
        [{"type": "function", "name": "get_weather", "parameters": {"type": "object"}}],
        type="array", items={"anyOf": [_FUNCTION, _SERVER]}, maxItems=MAX_TOOLS,
    )  # fmt: skip
    tool_choice = passed_on(
        "`auto`, `none`, `required`, `allowed_tools`, or one of `tools`. It holds for the first "
        "step of the turn.",
        "auto",
    )
    parallel_tool_calls = passed_on("Whether a step may have several calls.", True, type="boolean")
    text = AnyObject(
        load_default=None,
        allow_none=True,
        metadata={
            "description": (
                "`format`: `text`, `json_object` or `json_schema`. An answer without JSON is an "
                "error; with `strict` it must fit the schema."
            ),
            "example": {"format": {"type": "text"}},
        },
    )
    reasoning = AnyObject(
        load_default=None,
        allow_none=True,
        metadata={
            "description": "`effort` is passed on. Thinking is shown as the config says.",
            "example": {"effort": "low"},
        },
    )
    temperature = passed_on("Passed on.", 0.7, type="number", minimum=0, maximum=2)
    top_p = passed_on("Passed on.", 0.9, type="number", minimum=0, maximum=1)
    max_output_tokens = passed_on(
        "Passed on; at most what the config says.", 1000, type="integer", minimum=1
    )
    truncation = _free(
        "Without effect: the oldest is left out beyond the config's `history_tokens`.", "auto",
        enum=["auto", "disabled", None],
    )  # fmt: skip
    include = _free(
        "What is named there is left out where there is none.", [],
        type="array", items={"enum": list(INCLUDED)}, maxItems=100,
    )  # fmt: skip
    service_tier = _word("auto")
    prompt_cache_key = _word("demo")
    prompt_cache_retention = _word("24h")
    safety_identifier = _word("u1")
    # What would be answered wrongly if it were ignored.
    prompt = refused("Not supported: send `instructions` and `input`.", [])
    max_tool_calls = refused("Not supported: the config limits the steps.", [])
    top_logprobs = passed_on("Not supported.", 0, type="integer", minimum=0, maximum=0)
    context_management = refused("Not supported: `history_tokens` is the limit.", [[]])
    moderation = refused("Not supported.", [])


class ResponseQuerySchema(ma.Schema):
    """How a response is retrieved."""

    class Meta:
        unknown = ma.EXCLUDE

    stream = ma.fields.Boolean(
        load_default=False,
        metadata={"description": "Stream its events.", "default": False, "example": False},
    )
    starting_after = ma.fields.Integer(
        load_default=None,
        validate=ma.validate.Range(min=0, max=2**53, error="starting_after is out of range"),
        error_messages={"invalid": "starting_after must be an integer"},
        metadata={
            "description": "The `sequence_number` of the last event that you have.",
            "example": 4,
        },
    )


class ItemPageSchema(ma.Schema):
    """A page of items."""

    class Meta:
        unknown = ma.EXCLUDE

    limit = Limit(
        100,
        load_default=20,
        metadata={"description": "Most items; brought into 1 to 100.", "example": 20},
    )
    order = ma.fields.String(
        load_default="desc",
        validate=ma.validate.OneOf(("asc", "desc"), error="order must be asc or desc"),
        metadata={"description": "`desc`: the newest first.", "example": "asc"},
    )
    after = optional_text("The `last_id` of the page before; absent: the first page.", "")


class OpenAIItemSchema(ma.Schema):
    """An item: a message, a call or its output, a question for an approval, or thinking."""

    id = ma.fields.String(
        metadata={
            "description": "Its id.", "example": "msg_7254cd9a814f498ea2022c1777b1bd2d8000",
        }
    )  # fmt: skip
    type = ma.fields.String(
        metadata={
            "description": (
                "`message`, `reasoning`, `function_call`, `function_call_output`, `mcp_call`, "
                "`mcp_approval_request` or `mcp_approval_response`."
            ),
            "example": "message",
        }
    )


class OpenAIItemListSchema(ma.Schema):
    """A page of items."""

    object = ma.fields.String(metadata={"description": "Always `list`.", "example": "list"})
    data = ma.fields.List(
        ma.fields.Nested(OpenAIItemSchema(unknown=ma.INCLUDE)),
        metadata={"description": "The items."},
    )
    first_id = ma.fields.String(
        allow_none=True, metadata={"description": "The id of the first one.", "example": None}
    )
    last_id = ma.fields.String(
        allow_none=True,
        metadata={"description": "The id of the last one: the next `after`.", "example": None},
    )
    has_more = ma.fields.Boolean(
        metadata={"description": "Whether there are more.", "example": False}
    )


class OpenAIResponseSchema(ma.Schema):
    """A response. Beside these fields it repeats those of its request."""

    id = ma.fields.String(
        metadata={
            "description": "`resp_` and the run's id.",
            "example": "resp_7254cd9a814f498ea2022c1777b1bd2d",
        }
    )
    object = ma.fields.String(metadata={"description": "Always `response`.", "example": "response"})
    created_at = ma.fields.Integer(
        metadata={"description": "When, in seconds since 1970.", "example": 1795452257}
    )
    status = ma.fields.String(
        metadata={
            "description": (
                "`queued`, `in_progress`, `completed`, `incomplete`, `failed` or `cancelled`."
            ),
            "example": "completed",
        }
    )
    model = ma.fields.String(metadata={"description": "The config.", "example": "default"})
    output = ma.fields.List(
        ma.fields.Nested(OpenAIItemSchema(unknown=ma.INCLUDE)),
        metadata={"description": "The answer."},
    )
    error = ma.fields.Dict(
        allow_none=True,
        metadata={"description": "Why it failed: `code` and `message`.", "example": None},
    )
    incomplete_details = ma.fields.Dict(
        allow_none=True,
        metadata={"description": "`reason`: why it is incomplete.", "example": None},
    )
    usage = ma.fields.Dict(
        allow_none=True,
        metadata={
            "description": "Tokens of all model calls of the turn.",
            "example": {"input_tokens": 20, "output_tokens": 7, "total_tokens": 27},
        },
    )
    session_id = ma.fields.String(
        metadata={
            "description": "The session that the turn is kept in, if it is.",
            "example": "my_session_001",
        }
    )


class OpenAIDeletedResponseSchema(ma.Schema):
    """A response that was deleted."""

    id = ma.fields.String(
        metadata={
            "description": "Its id.", "example": "resp_7254cd9a814f498ea2022c1777b1bd2d",
        }
    )  # fmt: skip
    object = ma.fields.String(metadata={"description": "Always `response`.", "example": "response"})
    deleted = ma.fields.Boolean(metadata={"description": "Always `true`.", "example": True})


class OpenAIConversationRequestSchema(ma.Schema):
    """What a conversation gets."""

    class Meta:
        unknown = ma.EXCLUDE

    metadata = _metadata()


class OpenAINewConversationSchema(OpenAIConversationRequestSchema):
    """What a conversation is made with."""

    carries_message = True

    user = _username()
    items = _free(
        "Up to 20 items that it begins with.", [{"role": "user", "content": "Hello"}],
        type="array", items=_ITEM, maxItems=20,
    )  # fmt: skip


class OpenAIAddedItemsSchema(ma.Schema):
    """Items that are added to a conversation."""

    carries_message = True

    class Meta:
        unknown = ma.EXCLUDE

    items = ma.fields.Raw(
        required=True,
        error_messages={"required": "Missing key: items", "null": "Missing key: items"},
        metadata={
            "description": "Up to 20 items.",
            "type": "array",
            "items": _ITEM,
            "maxItems": 20,
            "example": [{"role": "user", "content": "Hello"}],
        },
    )


class OpenAIConversationSchema(ma.Schema):
    """A conversation."""

    id = ma.fields.String(
        metadata={
            "description": "`conv_` and the session's id.",
            "example": "conv_7254cd9a814f498ea2022c1777b1bd2d",
        }
    )
    object = ma.fields.String(
        metadata={"description": "Always `conversation`.", "example": "conversation"}
    )
    created_at = ma.fields.Integer(
        metadata={"description": "When, in seconds since 1970.", "example": 1795452257}
    )
    metadata = ma.fields.Dict(
        metadata={"description": "The client's own pairs.", "example": {"topic": "demo"}}
    )
    session_id = ma.fields.String(
        metadata={"description": "Its session.", "example": "7254cd9a814f498ea2022c1777b1bd2d"}
    )


class OpenAIDeletedConversationSchema(ma.Schema):
    """A conversation that was deleted."""

    id = ma.fields.String(
        metadata={
            "description": "Its id.", "example": "conv_7254cd9a814f498ea2022c1777b1bd2d",
        }
    )  # fmt: skip
    object = ma.fields.String(
        metadata={
            "description": "Always `conversation.deleted`.",
            "example": "conversation.deleted",
        }
    )
    deleted = ma.fields.Boolean(metadata={"description": "Always `true`.", "example": True})

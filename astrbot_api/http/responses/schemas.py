"""Responses and conversations: what they are asked with, and their answers."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ..fields import (
    Limit,
    Text,
    any_value,
    asked,
    choice,
    optional_flag,
    optional_object,
    optional_text,
    required_text,
    required_value,
)
from ..openai.parameters import MAX_TOOLS
from ..openai.schemas import FUNCTION_MEMBERS, FUNCTION_TYPE, LENGTH, refused
from ..schemas import (
    RequestSchema,
    flag,
    list_of,
    mapping,
    member,
    number,
    object_with,
    one_of,
    text,
)  # fmt: skip
from .items import SERVER_LABEL
from .parameters import INCLUDED, MAX_KEY_CHARS, MAX_PAIRS, MAX_VALUE_CHARS
from .reading import ITEM_TYPES, MAX_ITEMS

#: What a stream shows, as an example.
STREAM_EXAMPLE = (
    'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
    '"sequence_number":4,"item_id":"msg_7254cd9a814f498ea2022c1777b1bd2d8000",'
    '"output_index":0,"content_index":0,"delta":"Hello","logprobs":[]}\n\n'
)
_RESPONSE = "resp_7254cd9a814f498ea2022c1777b1bd2d"
_CONVERSATION = "conv_7254cd9a814f498ea2022c1777b1bd2d"

_ITEM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {
            "description": "What it is; absent: a message.",
            "enum": [*ITEM_TYPES, None],
            "example": "message",
        },
        "role": one_of(
            "Who says a message. The user's last one is answered.",
            "user", "assistant", "system", "developer",
        ),
        "content": {
            "description": (
                "A string, or parts: `input_text`, `output_text`, and in the message that is "
                "answered `input_image` with a `data:` URL, `input_audio`, `input_file` with "
                "`file_data`, or an attachment's id as `file_id`."
            ),
            "example": "Hello",
        },
    },
}  # fmt: skip

#: A tool of the caller's.
_FUNCTION = object_with(("type", "name"), {"type": FUNCTION_TYPE, **FUNCTION_MEMBERS})

#: The config's own tools, whose calls a person may approve.
_SERVER = object_with(
    ("type", "server_label"),
    {
        "type": one_of("The config's own tools.", "mcp"),
        "server_label": one_of("They have this name alone.", SERVER_LABEL),
        "require_approval": {
            "description": (
                "`always`: a call that needs a person's approval ends the response with an "
                "`mcp_approval_request`. `never`: it is rejected."
            ),
            "enum": ["always", "never", None],
            "example": "always",
        },
    },
)

_CONVERSATION_ID = member("string", "The `id` of the conversation.", _CONVERSATION, minLength=1)


def _word(example: str) -> ma.fields.Raw:
    return any_value("Without effect.", example, type="string", maxLength=MAX_VALUE_CHARS)


def _metadata() -> ma.fields.Raw:
    return any_value(
        "Up to 16 pairs of the client's own.", {"topic": "demo"},
        type="object", maxProperties=MAX_PAIRS,
        propertyNames={"minLength": 1, "maxLength": MAX_KEY_CHARS},
        additionalProperties={"type": "string", "maxLength": MAX_VALUE_CHARS},
    )  # fmt: skip


def _username() -> Text:
    return optional_text(
        "The username. Absent: that of what it goes on from, else `openai:` and the beginning of "
        "the key.",
        "alice", max_chars="max_username_chars",
    )  # fmt: skip


class OpenAIResponseRequestSchema(RequestSchema):
    """What a response is asked with. Fields that are not named here are ignored."""

    carries_message = True

    model = required_text("model", "A config, by its id or its name.", "default")
    input = required_value(
        "input",
        "What is asked: a string, or items.",
        "Hello",
        oneOf=[{"type": "string"}, {"type": "array", "items": _ITEM, "maxItems": MAX_ITEMS}],
    )
    instructions = optional_text(
        "Instructions of this response alone, below the config's own prompt.", "Be brief."
    )
    stream = optional_flag("Answer in events.", default=False, example=True)
    background = optional_flag(
        "Answer at once; the response is retrieved later.", default=False, example=False
    )
    store = optional_flag("`false`: nothing of the turn stays.", default=True, example=True)
    previous_response_id = optional_text("The response that this one goes on from.", _RESPONSE)
    conversation = any_value(
        "The conversation that it is added to: its id, or an object with it.",
        _CONVERSATION,
        anyOf=[
            {"type": "string", "minLength": 1},
            {"type": "object", "required": ["id"], "properties": {"id": _CONVERSATION_ID}},
            {"type": "null"},
        ],
    )
    user = _username()
    metadata = _metadata()
    tools = any_value(
        "Functions that the client runs, beside the config's own tools: a call of one ends the "
        "turn. Of two with the same name the client's is taken. With a tool of the type `mcp` the "
        "client answers questions for approvals of the config's tools.",
        [{"type": "function", "name": "get_weather", "parameters": {"type": "object"}}],
        type="array", items={"anyOf": [_FUNCTION, _SERVER]}, maxItems=MAX_TOOLS,
    )  # fmt: skip
    tool_choice = any_value(
        "`auto`, `none`, `required`, `allowed_tools`, or one of `tools`. It holds for the first "
        "step of the turn.",
        "auto",
    )
    parallel_tool_calls = any_value("Whether a step may have several calls.", True, type="boolean")
    text = optional_object(
        "`format`: `text`, `json_object` or `json_schema`. An answer without JSON is an error; "
        "with `strict` it must fit the schema.",
        {"format": {"type": "text"}},
    )
    reasoning = optional_object(
        "`effort` is passed on. Thinking is shown as the config says.", {"effort": "low"}
    )
    temperature = any_value("Passed on.", 0.7, type="number", minimum=0, maximum=2)
    top_p = any_value("Passed on.", 0.9, type="number", minimum=0, maximum=1)
    max_output_tokens = any_value(
        "Passed on; at most what the config says.", 1000, type="integer", **LENGTH
    )
    truncation = any_value(
        "Without effect: the oldest is left out beyond the config's `history_tokens`.", "auto",
        enum=["auto", "disabled", None],
    )  # fmt: skip
    include = any_value(
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
    top_logprobs = any_value("Not supported.", 0, type="integer", minimum=0, maximum=0)
    context_management = refused("Not supported: `history_tokens` is the limit.", [[]])
    moderation = refused("Not supported.", [])


class OpenAICompactRequestSchema(RequestSchema):
    """What is compacted. Fields that are not named here are ignored."""

    carries_message = True

    model = required_text("model", "A config, by its id or its name.", "default")
    input = any_value(
        "The conversation: a string, or items. Absent: that of `previous_response_id`.",
        [{"role": "user", "content": "Hello"}],
        oneOf=[
            {"type": "string"},
            {"type": "array", "items": _ITEM, "maxItems": MAX_ITEMS - 1},
            {"type": "null"},
        ],
    )
    instructions = optional_text(
        "Instructions for the summary, below the config's own prompt.", "Keep all names."
    )
    previous_response_id = optional_text("The response whose thread is compacted.", _RESPONSE)
    user = _username()


class ResponseQuerySchema(RequestSchema):
    """How a response is retrieved."""

    stream = ma.fields.Boolean(
        load_default=False,
        metadata={"description": "Stream its events.", "default": False, "example": False},
    )
    starting_after = asked(
        ma.fields.Integer,
        "The `sequence_number` of the last event that you have.",
        4,
        load_default=None,
        validate=ma.validate.Range(min=0, max=2**53, error="starting_after is out of range"),
        error_messages={"invalid": "starting_after must be an integer"},
    )


class ItemPageSchema(RequestSchema):
    """A page of items."""

    limit = asked(Limit, "Most items; brought into 1 to 100.", 20, maximum=100, load_default=20)
    order = choice(
        "order", ("asc", "desc"), "`desc`: the newest first.", default="desc", example="asc"
    )
    after = optional_text("The `last_id` of the page before; absent: the first page.", "")


class OpenAIItemSchema(ma.Schema):
    """An item: a message, a call or its output, a question for an approval, thinking, a summary."""

    id = text("Its id.", "msg_7254cd9a814f498ea2022c1777b1bd2d8000")
    type = text(
        "`message`, `reasoning`, `function_call`, `function_call_output`, `mcp_call`, "
        "`mcp_approval_request`, `mcp_approval_response` or `compaction`.",
        "message",
    )


def _items(description: str) -> ma.fields.List[Any]:
    return list_of(OpenAIItemSchema(unknown=ma.INCLUDE), description)


class OpenAIItemListSchema(ma.Schema):
    """A page of items."""

    object = text("Always `list`.", "list")
    data = _items("The items.")
    first_id = text("The id of the first one.", None, none=True)
    last_id = text("The id of the last one: the next `after`.", None, none=True)
    has_more = flag("Whether there are more.", False)


class OpenAIResponseSchema(ma.Schema):
    """A response. Beside these fields it repeats those of its request."""

    id = text("`resp_` and the run's id.", _RESPONSE)
    object = text("Always `response`.", "response")
    created_at = number("When, in seconds since 1970.", 1795452257)
    status = text(
        "`queued`, `in_progress`, `completed`, `incomplete`, `failed` or `cancelled`.", "completed"
    )
    model = text("The config.", "default")
    output = _items("The answer.")
    error = mapping("Why it failed: `code` and `message`.", None, none=True)
    incomplete_details = mapping("`reason`: why it is incomplete.", None, none=True)
    usage = mapping(
        "Tokens of all model calls of the turn.",
        {"input_tokens": 20, "output_tokens": 7, "total_tokens": 27},
        none=True,
    )
    session_id = text("The session that the turn is kept in, if it is.", "my_session_001")


class OpenAICompactedResponseSchema(ma.Schema):
    """A conversation in fewer words: the next `input` begins with `output`."""

    id = text("Its id. It cannot be retrieved.", _RESPONSE)
    object = text("Always `response.compaction`.", "response.compaction")
    created_at = number("When, in seconds since 1970.", 1795452257)
    output = _items("The messages of the user in `input`, and one item of the type `compaction`.")
    usage = mapping(
        "Tokens of the summary.",
        {"input_tokens": 20, "output_tokens": 7, "total_tokens": 27},
        none=True,
    )


class OpenAIDeletedResponseSchema(ma.Schema):
    """A response that was deleted."""

    id = text("Its id.", _RESPONSE)
    object = text("Always `response`.", "response")
    deleted = flag("Always `true`.", True)


class OpenAIConversationRequestSchema(RequestSchema):
    """What a conversation gets."""

    metadata = _metadata()


class OpenAINewConversationSchema(OpenAIConversationRequestSchema):
    """What a conversation is made with."""

    carries_message = True
    user = _username()
    items = any_value(
        "Up to 20 items that it begins with.", [{"role": "user", "content": "Hello"}],
        type="array", items=_ITEM, maxItems=20,
    )  # fmt: skip


class OpenAIAddedItemsSchema(RequestSchema):
    """Items that are added to a conversation."""

    carries_message = True

    items = required_value(
        "items", "Up to 20 items.", [{"role": "user", "content": "Hello"}],
        type="array", items=_ITEM, maxItems=20,
    )  # fmt: skip


class OpenAIConversationSchema(ma.Schema):
    """A conversation."""

    id = text("`conv_` and the session's id.", _CONVERSATION)
    object = text("Always `conversation`.", "conversation")
    created_at = number("When, in seconds since 1970.", 1795452257)
    metadata = mapping("The client's own pairs.", {"topic": "demo"})
    session_id = text("Its session.", "7254cd9a814f498ea2022c1777b1bd2d")


class OpenAIDeletedConversationSchema(ma.Schema):
    """A conversation that was deleted."""

    id = text("Its id.", _CONVERSATION)
    object = text("Always `conversation.deleted`.", "conversation.deleted")
    deleted = flag("Always `true`.", True)

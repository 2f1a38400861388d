"""Request schemas of responses and conversations."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ..fields import (
    Limit,
    Text,
    any_value,
    optional_flag,
    optional_object,
    optional_text,
    query_choice,
    query_flag,
    request_field,
    required_text,
    required_value,
)
from ..openai.parameters import MAX_TOOLS
from ..openai.schemas import (
    FUNCTION_MEMBERS,
    FUNCTION_TYPE,
    TOOL_NAME,
    ModelCallSchema,
    Refused,
    passed,
)
from ..schemas import RequestSchema, enum_of, member, object_schema
from .echo import MAX_KEY_CHARS, MAX_PAIRS, MAX_VALUE_CHARS
from .item_parsing import ITEM_TYPES
from .items import SERVER_LABEL
from .parameters import INCLUDED
from .reading import MAX_ITEMS
from .schemas import CONVERSATION_ID, RESPONSE_ID

_ITEM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {
            "description": "The item type. By default `message`.",
            "enum": [*ITEM_TYPES, None],
            "example": "message",
        },
        "role": enum_of(
            "Author of a message. The last message of the user is answered.",
            "user", "assistant", "system", "developer",
        ),
        "content": {
            "description": (
                "A string or a list of parts: `input_text`, `output_text`, `input_image` with a "
                "`data:` URL, `input_audio`, and `input_file` with `file_data`. A file can also "
                "be an attachment's id in `file_id`."
            ),
            "example": "Hello",
        },
    },
}  # fmt: skip

#: A tool of the client.
_FUNCTION = object_schema(("type", "name"), {"type": FUNCTION_TYPE, **FUNCTION_MEMBERS})

#: A group of functions. Their calls have its name as ``namespace``.
_NAMESPACE = object_schema(
    ("type", "name", "tools"),
    {
        "type": enum_of("A group of functions.", "namespace"),
        "name": {**TOOL_NAME, "description": "Name of the group."},
        "description": member(["string", "null"], "What the group is for.", "The CRM."),
        "tools": member("array", "The functions.", [], items=_FUNCTION, maxItems=MAX_TOOLS),
    },
)

#: The config's own tools, with approval by a person.
_SERVER = object_schema(
    ("type", "server_label"),
    {
        "type": enum_of("The config's own tools.", "mcp"),
        "server_label": enum_of("The only supported label.", SERVER_LABEL),
        "require_approval": {
            "description": (
                "With `always`, a call that needs approval ends the response with an "
                "`mcp_approval_request`. With `never`, the call is rejected."
            ),
            "enum": ["always", "never", None],
            "example": "always",
        },
    },
)

_CONVERSATION_ID = member("string", "The `id` of the conversation.", CONVERSATION_ID, minLength=1)


def _word(example: str) -> ma.fields.Raw:
    return any_value(
        "Accepted, but without effect.", example, type="string", maxLength=MAX_VALUE_CHARS
    )


def _metadata() -> ma.fields.Raw:
    return any_value(
        "Up to 16 key-value pairs of the client.", {"topic": "demo"},
        type="object", maxProperties=MAX_PAIRS,
        propertyNames={"minLength": 1, "maxLength": MAX_KEY_CHARS},
        additionalProperties={"type": "string", "maxLength": MAX_VALUE_CHARS},
    )  # fmt: skip


def _username() -> Text:
    return optional_text(
        "The username. By default that of the continued response or conversation, else the key's, "
        "else `openai:` and the beginning of the key.",
        "alice", max_chars="max_username_chars",
    )  # fmt: skip


class OpenAIResponseRequestSchema(ModelCallSchema):
    input = required_value(
        "The input: a string, or a list of items.",
        "Hello",
        oneOf=[{"type": "string"}, {"type": "array", "items": _ITEM, "maxItems": MAX_ITEMS}],
    )
    instructions = optional_text(
        "Instructions for this response only, after the config's own prompt.", "Be brief."
    )
    stream = optional_flag("Whether to stream events.", default=False, example=True)
    background = optional_flag(
        "Whether to return at once and run in the background. Retrieve the response later.",
        default=False,
        example=False,
    )
    store = optional_flag("Whether to store the turn.", default=True, example=True)
    previous_response_id = optional_text("Id of the response to continue.", RESPONSE_ID)
    conversation = any_value(
        "The conversation to add the response to: its id, or an object with its id.",
        CONVERSATION_ID,
        anyOf=[
            {"type": "string", "minLength": 1},
            {"type": "object", "required": ["id"], "properties": {"id": _CONVERSATION_ID}},
            {"type": "null"},
        ],
    )
    user = _username()
    metadata = _metadata()
    tools = any_value(
        "Functions that run on the client, in addition to the config's tools. A call of one ends "
        "the turn. A function replaces a config's tool of the same name. With a tool of the type "
        "`mcp`, the client answers approval requests for the config's tools.",
        [{"type": "function", "name": "get_weather", "parameters": {"type": "object"}}],
        type="array", items={"anyOf": [_FUNCTION, _NAMESPACE, _SERVER]}, maxItems=MAX_TOOLS,
    )  # fmt: skip
    tool_choice = any_value(
        "`auto`, `none`, `required`, `allowed_tools`, or one of `tools`. Applies to the first "
        "step of the turn.",
        "auto",
    )
    text = optional_object(
        "`format`: `text`, `json_object` or `json_schema`. With the JSON formats, an answer that "
        "is not JSON is an error. With `strict` it must match the schema.",
        {"format": {"type": "text"}},
    )
    reasoning = optional_object(
        "`effort` is passed to the model. The config decides whether reasoning is shown.",
        {"effort": "low"},
    )
    max_output_tokens = passed("max_tokens", 1000, "Passed to the model, up to the config's limit.")
    truncation = Refused(
        "Accepted, but without effect: the config's `history_tokens` limits the history, oldest "
        "messages are dropped first.", ["auto", "disabled"], "send auto or disabled", "auto",
    )  # fmt: skip
    include = any_value(
        "Accepted, but without effect.", [],
        type="array", items={"enum": list(INCLUDED)}, maxItems=100,
    )  # fmt: skip
    service_tier = _word("auto")
    prompt_cache_key = _word("demo")
    prompt_cache_retention = _word("24h")
    safety_identifier = _word("u1")
    prompt = Refused(
        "Not supported: send `instructions` and `input`.", [], "send instructions and input"
    )
    max_tool_calls = Refused(
        "Not supported: the config limits the steps.", [], "the config limits the steps of a turn"
    )
    top_logprobs = Refused("Not supported.", [0], "leave it out")
    context_management = Refused(
        "Not supported: `history_tokens` limits the history.", [[]],
        "the config limits the history by history_tokens",
    )  # fmt: skip
    moderation = Refused("Not supported.", [], "leave it out")


class OpenAICompactRequestSchema(RequestSchema):
    carries_message = True

    model = required_text("Id or name of a config.", "default")
    input = any_value(
        "The conversation: a string or a list of items. By default the one of "
        "`previous_response_id`.",
        [{"role": "user", "content": "Hello"}],
        oneOf=[
            {"type": "string"},
            {"type": "array", "items": _ITEM, "maxItems": MAX_ITEMS - 1},
            {"type": "null"},
        ],
    )
    instructions = optional_text(
        "Instructions for the summary, after the config's own prompt.", "Keep all names."
    )
    previous_response_id = optional_text(
        "Id of the last response of the conversation to compact.", RESPONSE_ID
    )
    user = _username()


class ResponseQuerySchema(RequestSchema):
    stream = query_flag("Whether to stream the events.")
    starting_after = request_field(
        ma.fields.Integer,
        "The `sequence_number` of the last event that you received.",
        4,
        load_default=None,
        validate=ma.validate.Range(min=0, max=2**53, error="starting_after is out of range"),
    )


class ItemPageSchema(RequestSchema):
    limit = request_field(
        Limit, "Maximum number of items, clamped to 1 to 100.", 20, maximum=100, load_default=20
    )
    order = query_choice(
        "order", ("asc", "desc"), "`desc` for newest first.", default="desc", example="asc"
    )
    after = optional_text("The `last_id` of the previous page. By default the first page.", "")


class OpenAIConversationRequestSchema(RequestSchema):
    metadata = _metadata()


class OpenAINewConversationSchema(OpenAIConversationRequestSchema):
    carries_message = True
    user = _username()
    items = any_value(
        "Up to 20 initial items.", [{"role": "user", "content": "Hello"}],
        type="array", items=_ITEM, maxItems=20,
    )  # fmt: skip


class OpenAIAddedItemsSchema(RequestSchema):
    carries_message = True

    items = required_value("Up to 20 items.", [{"role": "user", "content": "Hello"}],
        type="array", items=_ITEM, maxItems=20,
    )  # fmt: skip

"""Chat completions: what they are asked with, as far as it is read, and their answers."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ..fields import (
    any_value,
    optional_flag,
    optional_object,
    optional_text,
    required_text,
    required_value,
)
from ..schemas import RequestSchema, list_of, mapping, member, number, object_with, one_of, text
from .parameters import MAX_TOOLS
from .reading import MAX_MESSAGES, ROLES

#: Which call a message answers.
TOOL_CALL_ID = member(
    ["string", "null"], "The call that a message of the role `tool` answers.", "call_1"
)

#: The name of a tool, and what else it may have, where a protocol names it as AG-UI does.
TOOL_NAME = member("string", "How it is called.", "get_weather", pattern="^[A-Za-z0-9_-]{1,64}$")
TOOL_MEMBERS = {
    "description": member(
        ["string", "null"], "When the model should call it.", "The weather of a city."
    ),
    "parameters": member(
        ["object", "null"],
        "Its arguments, as a JSON schema.",
        {"type": "object", "properties": {"city": {"type": "string"}}},
    ),
}

_MESSAGE = object_with(
    ("role",),
    {
        "role": {
            **one_of("Who says it. The user's last message is answered.", *ROLES),
            "example": "user",
        },
        "content": {
            "description": (
                "A string, or parts: `text`, and in the last message `image_url` with a `data:` "
                "URL, `input_audio`, `file` with `file_data` or an attachment's id as `file_id`."
            ),
            "example": "Hello",
        },
        "tool_calls": member(
            ["array", "null"],
            "Calls of the request's own tools that the assistant made.",
            [],
            items={"type": "object"},
        ),
        "tool_call_id": TOOL_CALL_ID,
    },
)


def refused(description: str, values: list[Any]) -> ma.fields.Raw:
    """Return a field that takes a value without effect alone."""
    return any_value(description, None, **_list_values(values))


def _list_values(values: list[Any]) -> dict[str, Any]:
    """Return a schema of values; of a list and a boolean in words that generators can read."""
    if values == [False]:
        return {"anyOf": [{"const": False}, {"type": "null"}]}
    if not values or not isinstance(values[0], list):
        return {"enum": [*values, None]}
    (only,) = values
    size = {"minItems": len(only), "maxItems": len(only)}
    return {"type": "array", "items": {"enum": only} if only else {}, **size}


#: A text that ends an answer.
_STOP = {"type": "string", "minLength": 1, "maxLength": 1000}


def _member(kind: str, description: str, example: Any) -> dict[str, Any]:
    """Return the schema of a member that may be left out."""
    return member([kind, "null"], description, example)


#: What has the name of a function, or of a form.
_NAMED = object_with(
    ("name",),
    {"name": {**TOOL_NAME, "description": "Its name."}},
    description="By its name.",
    example={"name": "get_weather"},
)

#: What a limit of tokens may be.
LENGTH = {"minimum": 1, "maximum": 2**31 - 1}

#: What a function is, of the caller's.
FUNCTION_MEMBERS: dict[str, Any] = {
    **_NAMED["properties"],
    "description": _member("string", "What it is for.", "The weather of a city."),
    "parameters": _member("object", "A JSON schema.", {"type": "object"}),
    "strict": _member("boolean", "Passed on.", False),
}
FUNCTION_TYPE = one_of("Always `function`.", "function")

#: A tool of the caller's.
_TOOL = object_with(
    ("type", "function"),
    {"type": FUNCTION_TYPE, "function": {**_NAMED, "properties": FUNCTION_MEMBERS}},
)

#: A form of answers that has a schema.
_JSON_FORMAT = object_with(
    ("type", "json_schema"),
    {
        "type": one_of("Always `json_schema`.", "json_schema"),
        "json_schema": {
            **_NAMED,
            "properties": {
                **_NAMED["properties"],
                "schema": _member("object", "A JSON schema.", {"type": "object"}),
                "strict": _member("boolean", "Whether an answer must fit.", True),
            },
        },
    },
)


class CompletionRequestSchema(RequestSchema):
    """What a chat completion is asked with. Fields that are not named here are ignored."""

    carries_message = True

    model = required_text("model", "A config, by its id or its name.", "default")
    messages = required_value(
        "messages",
        "The conversation. What comes before the last message is the context of this turn; "
        "`system` and `developer` stand below the config's own prompt.",
        [{"role": "user", "content": "Hello"}],
        type="array", items=_MESSAGE, minItems=1, maxItems=MAX_MESSAGES,
    )  # fmt: skip
    stream = optional_flag("Answer in chunks.", default=False, example=True)
    stream_options = optional_object(
        "`include_usage`: one more chunk with `usage` before the end.", {"include_usage": True}
    )
    user = optional_text(
        "The username. Absent: `openai:` and the beginning of the key.",
        "alice", max_chars="max_username_chars",
    )  # fmt: skip
    session_id = optional_text(
        "Not OpenAI's: talk in this session. Its history is the context then, and of `messages` "
        "only the last one is read. Also as `metadata.session_id`.",
        "my_session_001", max_chars="max_session_id_chars",
    )  # fmt: skip
    metadata = optional_object("Only `session_id` in it is read.", {"session_id": "my_session_001"})
    store = optional_flag(
        "`true`: the turn is kept, in a new session that the answer names as `session_id`. "
        "Otherwise nothing of it stays, unless it names a session.",
        default=False,
        example=False,
    )
    tools = any_value(
        "Tools that the client runs, beside those of the config: a call of one ends the turn with "
        "`finish_reason` `tool_calls`. Of two with the same name the client's is taken.",
        [{"type": "function", "function": {"name": "get_weather"}}],
        anyOf=[{"type": "array", "items": _TOOL, "maxItems": MAX_TOOLS}, {"type": "null"}],
    )  # fmt: skip
    tool_choice = any_value(
        "`auto`, `none`, `required`, or one of `tools`. It holds for the first step of the turn.",
        "auto",
        anyOf=[
            {"enum": ["none", "auto", "required", None]},
            {
                "type": "object",
                "required": ["function"],
                "properties": {
                    "type": FUNCTION_TYPE,
                    "function": _NAMED,
                },
            },
        ],
    )
    parallel_tool_calls = any_value("Whether a step may have several calls.", True, type="boolean")
    response_format = any_value(
        "`text`, `json_object` or `json_schema`. An answer without JSON is a `provider_error`; "
        "with `strict` it must fit the schema.",
        {"type": "text"},
        anyOf=[
            {
                "type": "object",
                "required": ["type"],
                "properties": {"type": one_of("The form.", "text", "json_object")},
            },
            _JSON_FORMAT,
            {"type": "null"},
        ],
    )  # fmt: skip
    temperature = any_value("Passed on.", 0.7, type="number", minimum=0, maximum=2)
    top_p = any_value("Passed on.", 0.9, type="number", minimum=0, maximum=1)
    stop = any_value(
        "Passed on: a string, or a list of up to 16.", ["END"],
        anyOf=[
            _STOP, {"type": "array", "items": _STOP, "minItems": 1, "maxItems": 16},
            {"type": "null"},
        ],
    )  # fmt: skip
    max_tokens = any_value(
        "Passed on; at most what the config says.", 1000, type="integer", **LENGTH
    )
    max_completion_tokens = any_value("As `max_tokens`.", 1000, type="integer", **LENGTH)
    seed = any_value("Passed on.", 7, type="integer")
    frequency_penalty = any_value("Passed on.", 0, type="number", minimum=-2, maximum=2)
    presence_penalty = any_value("Passed on.", 0, type="number", minimum=-2, maximum=2)
    logit_bias = any_value(
        "Passed on: numbers of tokens, with -100 to 100.", {},
        type="object", maxProperties=2000, additionalProperties=False,
        patternProperties={"^[0-9]{1,9}$": {"type": "number", "minimum": -100, "maximum": 100}},
    )  # fmt: skip
    reasoning_effort = any_value("Passed on.", "low", type="string", pattern="^[a-z_]{1,20}$")
    verbosity = any_value("Passed on.", "low", type="string", pattern="^[a-z_]{1,20}$")
    # What would be answered wrongly if it were ignored.
    n = refused("Only 1.", [1])
    functions = refused("Only empty: send `tools`.", [[]])
    function_call = refused("Not supported: send `tool_choice`.", ["auto", "none"])
    logprobs = refused("Not supported.", [False])
    top_logprobs = refused("Not supported.", [])
    audio = refused("Not supported.", [])
    modalities = refused("Only text.", [["text"]])
    web_search_options = refused("Not supported: the config's tools may search.", [])


class ModelSchema(ma.Schema):
    """A config, as a model."""

    id = text("The config's id.", "default")
    object = text("Always `model`.", "model")
    created = number("Always 0.", 0)
    owned_by = text("Always `astrbot-api`.", "astrbot-api")


class ModelListSchema(ma.Schema):
    """Every config, as a model."""

    object = text("Always `list`.", "list")
    data = list_of(ModelSchema, "The models.")


class ChoiceSchema(ma.Schema):
    """The one answer."""

    index = number("Always 0.", 0)
    message = mapping(
        "`role`, `content`; `tool_calls` for the client, `reasoning_content` where there was "
        "thinking, `attachments` where tools made files.",
        {"role": "assistant", "content": "Hello! How can I help you?"},
    )
    finish_reason = text("`stop`, `length`, `content_filter` or `tool_calls`.", "stop")


class CompletionSchema(ma.Schema):
    """A chat completion."""

    id = text("`chatcmpl-` and the run's id.", "chatcmpl-7254cd9a-814f-498e-a202-2c1777b1bd2d")
    object = text("Always `chat.completion`.", "chat.completion")
    created = number("When, in seconds since 1970.", 1795452257)
    model = text("The config.", "default")
    session_id = text("The session that the turn is kept in, if it is.", "my_session_001")
    choices = list_of(ChoiceSchema, "The answer.")
    usage = mapping(
        "Tokens of all model calls of the turn.",
        {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27},
    )


class OpenAIFaultSchema(ma.Schema):
    """What went wrong."""

    message = text("What is wrong and what to do about it.", "no")
    type = text("What kind of error it is.", "invalid_request_error")
    param = text("Always `null`.", None, none=True)
    code = text("A stable word to match.", "missing_field")


class OpenAIErrorSchema(ma.Schema):
    """An error, as OpenAI's clients read it."""

    error = ma.fields.Nested(OpenAIFaultSchema, metadata={"description": "The error."})

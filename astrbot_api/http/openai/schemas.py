"""Chat completions: what they are asked with, as far as it is read, and their answers."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ..fields import NOT_BLANK, AnyObject, Flag, Text
from .parameters import MAX_TOOLS
from .reading import MAX_MESSAGES, ROLES

_MESSAGE: dict[str, Any] = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {
            "type": "string",
            "description": "Who says it. The user's last message is answered.",
            "enum": list(ROLES),
            "example": "user",
        },
        "content": {
            "description": (
                "A string, or parts: `text`, and in the last message `image_url` with a `data:` "
                "URL, `input_audio`, `file` with `file_data` or an attachment's id as `file_id`."
            ),
            "example": "Hello",
        },
        "tool_calls": {
            "description": "Calls of the request's own tools that the assistant made.",
            "type": ["array", "null"],
            "items": {"type": "object"},
            "example": [],
        },
        "tool_call_id": {
            "description": "The call that a message of the role `tool` answers.",
            "type": ["string", "null"],
            "example": "call_1",
        },
    },
}


def passed_on(text: str, example: Any, **schema: Any) -> ma.fields.Raw:
    """Return a field that the model's endpoint gets as it is."""
    metadata = {"description": text, "example": example, **schema}
    return ma.fields.Raw(load_default=None, allow_none=True, metadata=metadata)


def refused(text: str, values: list[Any]) -> ma.fields.Raw:
    """Return a field that takes a value without effect alone."""
    metadata = {"description": text, "example": None, **_list_values(values)}
    return ma.fields.Raw(load_default=None, allow_none=True, metadata=metadata)


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


def _one(text: str, *values: Any) -> dict[str, Any]:
    """Return the schema of a member that has one of some values."""
    return {"description": text, "enum": list(values), "example": values[0]}


def _member(text: str, kind: str, example: Any) -> dict[str, Any]:
    """Return the schema of a member that may be left out."""
    return {"type": [kind, "null"], "description": text, "example": example}


#: What has the name of a function, or of a form.
_NAMED: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "description": "By its name.",
    "example": {"name": "get_weather"},
    "properties": {
        "name": {
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]{1,64}$",
            "description": "Its name.",
            "example": "get_weather",
        }
    },
}

#: What a function is, of the caller's.
FUNCTION_MEMBERS: dict[str, Any] = {
    **_NAMED["properties"],
    "description": _member("What it is for.", "string", "The weather of a city."),
    "parameters": _member("A JSON schema.", "object", {"type": "object"}),
    "strict": _member("Passed on.", "boolean", False),
}

FUNCTION_TYPE = _one("Always `function`.", "function")

#: A tool of the caller's.
_TOOL = {
    "type": "object",
    "required": ["type", "function"],
    "properties": {
        "type": FUNCTION_TYPE,
        "function": {**_NAMED, "properties": FUNCTION_MEMBERS},
    },
}

#: A form of answers that has a schema.
_JSON_FORMAT = {
    "type": "object",
    "required": ["type", "json_schema"],
    "properties": {
        "type": _one("Always `json_schema`.", "json_schema"),
        "json_schema": {
            **_NAMED,
            "properties": {
                **_NAMED["properties"],
                "schema": _member("A JSON schema.", "object", {"type": "object"}),
                "strict": _member("Whether an answer must fit.", "boolean", True),
            },
        },
    },
}


class CompletionRequestSchema(ma.Schema):
    """What a chat completion is asked with. Fields that are not named here are ignored."""

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
    messages = ma.fields.Raw(
        required=True,
        error_messages={"required": "Missing key: messages", "null": "Missing key: messages"},
        metadata={
            "description": (
                "The conversation. What comes before the last message is the context of this "
                "turn; `system` and `developer` stand below the config's own prompt."
            ),
            "type": "array",
            "items": _MESSAGE,
            "minItems": 1,
            "maxItems": MAX_MESSAGES,
            "example": [{"role": "user", "content": "Hello"}],
        },
    )
    stream = Flag(metadata={"description": "Answer in chunks.", "default": False, "example": True})
    stream_options = AnyObject(
        load_default=None,
        allow_none=True,
        metadata={
            "description": "`include_usage`: one more chunk with `usage` before the end.",
            "example": {"include_usage": True},
        },
    )
    user = Text(
        load_default="",
        allow_none=True,
        max_chars="max_username_chars",
        metadata={
            "description": "The username. Absent: `openai:` and the beginning of the key.",
            "example": "alice",
        },
    )
    session_id = Text(
        load_default="",
        allow_none=True,
        max_chars="max_session_id_chars",
        metadata={
            "description": (
                "Not OpenAI's: talk in this session. Its history is the context then, and of "
                "`messages` only the last one is read. Also as `metadata.session_id`."
            ),
            "example": "my_session_001",
        },
    )
    metadata = AnyObject(
        load_default=None,
        allow_none=True,
        metadata={
            "description": "Only `session_id` in it is read.",
            "example": {"session_id": "my_session_001"},
        },
    )
    store = Flag(
        metadata={
            "description": (
                "`true`: the turn is kept, in a new session that the answer names as "
                "`session_id`. Otherwise nothing of it stays, unless it names a session."
            ),
            "default": False,
            "example": False,
        }
    )
    tools = passed_on(
        "Tools that the client runs, beside those of the config: a call of one ends the turn with "
        "`finish_reason` `tool_calls`. Of two with the same name the client's is taken.",
        [{"type": "function", "function": {"name": "get_weather"}}],
        anyOf=[{"type": "array", "items": _TOOL, "maxItems": MAX_TOOLS}, {"type": "null"}],
    )  # fmt: skip
    tool_choice = passed_on(
        "`auto`, `none`, `required`, or one of `tools`. It holds for the first step of the turn.",
        "auto",
        anyOf=[
            {"enum": ["none", "auto", "required", None]},
            {
                "type": "object",
                "required": ["function"],
                "properties": {
                    "type": _one("Always `function`.", "function"),
                    "function": _NAMED,
                },
            },
        ],
    )
    parallel_tool_calls = passed_on("Whether a step may have several calls.", True, type="boolean")
    response_format = passed_on(
        "`text`, `json_object` or `json_schema`. An answer without JSON is a `provider_error`; "
        "with `strict` it must fit the schema.",
        {"type": "text"},
        anyOf=[
            {
                "type": "object",
                "required": ["type"],
                "properties": {"type": _one("The form.", "text", "json_object")},
            },
            _JSON_FORMAT,
            {"type": "null"},
        ],
    )  # fmt: skip
    temperature = passed_on("Passed on.", 0.7, type="number", minimum=0, maximum=2)
    top_p = passed_on("Passed on.", 0.9, type="number", minimum=0, maximum=1)
    stop = passed_on(
        "Passed on: a string, or a list of up to 16.", ["END"],
        anyOf=[
            _STOP, {"type": "array", "items": _STOP, "minItems": 1, "maxItems": 16},
            {"type": "null"},
        ],
    )  # fmt: skip
    max_tokens = passed_on(
        "Passed on; at most what the config says.", 1000, type="integer", minimum=1
    )
    max_completion_tokens = passed_on("As `max_tokens`.", 1000, type="integer", minimum=1)
    seed = passed_on("Passed on.", 7, type="integer")
    frequency_penalty = passed_on("Passed on.", 0, type="number", minimum=-2, maximum=2)
    presence_penalty = passed_on("Passed on.", 0, type="number", minimum=-2, maximum=2)
    logit_bias = passed_on(
        "Passed on: numbers of tokens, with -100 to 100.", {},
        type="object", maxProperties=2000, additionalProperties=False,
        patternProperties={"^[0-9]{1,9}$": {"type": "number", "minimum": -100, "maximum": 100}},
    )  # fmt: skip
    reasoning_effort = passed_on("Passed on.", "low", type="string", pattern="^[a-z_]{1,20}$")
    verbosity = passed_on("Passed on.", "low", type="string", pattern="^[a-z_]{1,20}$")
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

    id = ma.fields.String(metadata={"description": "The config's id.", "example": "default"})
    object = ma.fields.String(metadata={"description": "Always `model`.", "example": "model"})
    created = ma.fields.Integer(metadata={"description": "Always 0.", "example": 0})
    owned_by = ma.fields.String(
        metadata={"description": "Always `astrbot-api`.", "example": "astrbot-api"}
    )


class ModelListSchema(ma.Schema):
    """Every config, as a model."""

    object = ma.fields.String(metadata={"description": "Always `list`.", "example": "list"})
    data = ma.fields.List(ma.fields.Nested(ModelSchema), metadata={"description": "The models."})


class ChoiceSchema(ma.Schema):
    """The one answer."""

    index = ma.fields.Integer(metadata={"description": "Always 0.", "example": 0})
    message = ma.fields.Dict(
        metadata={
            "description": (
                "`role`, `content`; `tool_calls` for the client, `reasoning_content` where there "
                "was thinking, `attachments` where tools made files."
            ),
            "example": {"role": "assistant", "content": "Hello! How can I help you?"},
        }
    )
    finish_reason = ma.fields.String(
        metadata={
            "description": "`stop`, `length`, `content_filter` or `tool_calls`.",
            "example": "stop",
        }
    )


class CompletionSchema(ma.Schema):
    """A chat completion."""

    id = ma.fields.String(
        metadata={
            "description": "`chatcmpl-` and the run's id.",
            "example": "chatcmpl-7254cd9a-814f-498e-a202-2c1777b1bd2d",
        }
    )
    object = ma.fields.String(
        metadata={"description": "Always `chat.completion`.", "example": "chat.completion"}
    )
    created = ma.fields.Integer(
        metadata={"description": "When, in seconds since 1970.", "example": 1795452257}
    )
    model = ma.fields.String(metadata={"description": "The config.", "example": "default"})
    session_id = ma.fields.String(
        metadata={
            "description": "The session that the turn is kept in, if it is.",
            "example": "my_session_001",
        }
    )
    choices = ma.fields.List(
        ma.fields.Nested(ChoiceSchema), metadata={"description": "The answer."}
    )
    usage = ma.fields.Dict(
        metadata={
            "description": "Tokens of all model calls of the turn.",
            "example": {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27},
        }
    )


class OpenAIFaultSchema(ma.Schema):
    """What went wrong."""

    message = ma.fields.String(
        metadata={"description": "What is wrong and what to do about it.", "example": "no"}
    )
    type = ma.fields.String(
        metadata={
            "description": "What kind of error it is.",
            "example": "invalid_request_error",
        }
    )
    param = ma.fields.String(
        allow_none=True, metadata={"description": "Always `null`.", "example": None}
    )
    code = ma.fields.String(
        metadata={"description": "A stable word to match.", "example": "missing_field"}
    )


class OpenAIErrorSchema(ma.Schema):
    """An error, as OpenAI's clients read it."""

    error = ma.fields.Nested(OpenAIFaultSchema, metadata={"description": "The error."})

"""Request and response schemas of chat completions and models."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import request

from ..fields import (
    any_value,
    optional_flag,
    optional_object,
    optional_text,
    required_text,
    required_value,
)
from ..schemas import RequestSchema, enum_of, list_of, mapping, member, number, object_schema, text
from .parameters import MAX_TOOLS, PASSED
from .reading import MAX_MESSAGES, ROLES

#: Id of the call that a message answers.
TOOL_CALL_ID = member(
    ["string", "null"], "Id of the call that a message with the role `tool` answers.", "call_1"
)

#: Name and further members of a tool, for protocols whose tools have AG-UI's format.
TOOL_NAME = member("string", "Name of the tool.", "get_weather", pattern="^[A-Za-z0-9_-]{1,64}$")
TOOL_MEMBERS = {
    "description": member(
        ["string", "null"], "When the model should call it.", "The weather of a city."
    ),
    "parameters": member(
        ["object", "null"],
        "JSON schema of the arguments.",
        {"type": "object", "properties": {"city": {"type": "string"}}},
    ),
}

_MESSAGE = object_schema(
    ("role",),
    {
        "role": {
            **enum_of("Author of the message. The last message of the user is answered.", *ROLES),
            "example": "user",
        },
        "content": {
            "description": (
                "A string, or a list of parts: `text`, and in the user's messages also "
                "`image_url` with a `data:` URL, `input_audio`, and `file` with `file_data` or an "
                "attachment's id in `file_id`."
            ),
            "example": "Hello",
        },
        "tool_calls": member(
            ["array", "null"],
            "The assistant's calls of the request's tools.",
            [],
            items={"type": "object"},
        ),
        "tool_call_id": TOOL_CALL_ID,
        "name": member(["string", "null"], "Name of the speaker, if there are several.", "Ann"),
    },
)


def passed(name: str, example: Any, description: str = "Passed to the model.") -> ma.fields.Raw:
    """Return a field that is passed to the model; see :data:`.parameters.PASSED`."""
    return any_value(description, example, **PASSED[name].schema)


class Refused(ma.fields.Raw):
    """A field that is rejected, because ignoring it would give a wrong answer.

    :param values: Allowed values, which have no effect.
    :param remedy: End of the error for other values.
    """

    def __init__(
        self, description: str, values: list[Any], remedy: str, example: Any = None
    ) -> None:
        metadata = {"description": description, "example": example, **_list_values(values)}
        super().__init__(load_default=None, allow_none=True, metadata=metadata)
        self._values, self._remedy = values, remedy

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        # In JSON, 0 and false differ.
        if (type(value) is bool, value) not in [(type(one) is bool, one) for one in self._values]:
            raise ma.ValidationError(f"{attr} is not supported: {self._remedy}")
        return value


def _list_values(values: list[Any]) -> dict[str, Any]:
    """Return a schema that allows only these values, in keywords that code generators support."""
    if values and values[0] is False:  # [0] is equal to [False]
        return {"anyOf": [{"type": "boolean", "const": False}, {"type": "null"}]}
    if not values or not isinstance(values[0], list):
        return {"enum": [*values, None]}
    (only,) = values
    size = {"minItems": len(only), "maxItems": len(only)}
    return {"type": "array", "items": {"enum": only} if only else {}, **size}


def _member(kind: str, description: str, example: Any) -> dict[str, Any]:
    """Return the schema of an optional member."""
    return member([kind, "null"], description, example)


#: An object with the name of a function or of a format.
_NAMED = object_schema(
    ("name",),
    {"name": {**TOOL_NAME, "description": "Name of the function or format."}},
    description="The function, by name.",
    example={"name": "get_weather"},
)

#: Members of a caller's function.
FUNCTION_MEMBERS: dict[str, Any] = {
    **_NAMED["properties"],
    "description": _member("string", "Purpose of the function.", "The weather of a city."),
    "parameters": _member("object", "A JSON schema.", {"type": "object"}),
    "strict": _member("boolean", "Passed to the model.", False),
}
FUNCTION_TYPE = enum_of("Always `function`.", "function")

#: A caller's tool.
_TOOL = object_schema(
    ("type", "function"),
    {"type": FUNCTION_TYPE, "function": {**_NAMED, "properties": FUNCTION_MEMBERS}},
)

#: An answer format with a schema.
_JSON_FORMAT = object_schema(
    ("type", "json_schema"),
    {
        "type": enum_of("Always `json_schema`.", "json_schema"),
        "json_schema": {
            **_NAMED,
            "properties": {
                **_NAMED["properties"],
                "schema": _member("object", "A JSON schema.", {"type": "object"}),
                "strict": _member("boolean", "Whether an answer must match the schema.", True),
            },
        },
    },
)


class ModelCallSchema(RequestSchema):
    """Fields of all requests to a model."""

    carries_message = True

    model = required_text("Id or name of a config.", "default")
    parallel_tool_calls = passed(
        "parallel_tool_calls", True, "Whether a step may call several tools."
    )
    temperature = passed("temperature", 0.7)
    top_p = passed("top_p", 0.9)
    frequency_penalty = passed("frequency_penalty", 0)
    presence_penalty = passed("presence_penalty", 0)


class CompletionRequestSchema(ModelCallSchema):
    @ma.pre_load
    def read_deployment(self, data: Any, **_: Any) -> Any:
        """Take the model from the path of Azure's clients, who may send another one or null."""
        named = (request.view_args or {}).get("deployment")
        return {**data, "model": named} if named and isinstance(data, dict) else data

    messages = required_value(
        "The conversation. The messages before the last one are the context of the turn. "
        "`system` and `developer` messages come after the config's own prompt.",
        [{"role": "user", "content": "Hello"}],
        type="array", items=_MESSAGE, minItems=1, maxItems=MAX_MESSAGES,
    )  # fmt: skip
    stream = optional_flag("Whether to stream chunks.", default=False, example=True)
    stream_options = optional_object(
        "With `include_usage`, a chunk with `usage` comes before the end.", {"include_usage": True}
    )
    user = optional_text(
        "The username. By default the key's username, or `openai:` and the beginning of the key.",
        "alice", max_chars="max_username_chars",
    )  # fmt: skip
    session_id = optional_text(
        "Extension of OpenAI's API: the session of the turn. The session's history is the "
        "context, and only the last message of `messages` is read. `metadata.session_id` has the "
        "same effect.",
        "my_session_001", max_chars="max_session_id_chars",
    )  # fmt: skip
    metadata = optional_object(
        "Only the member `session_id` is read.", {"session_id": "my_session_001"}
    )
    store = optional_flag(
        "With `true`, the turn is stored in a new session, whose id is returned as `session_id`. "
        "Otherwise the turn is stored only if the request names a session.",
        default=False,
        example=False,
    )
    tools = any_value(
        "Tools that run on the client, in addition to the config's tools. A call of one ends the "
        "turn with `finish_reason` `tool_calls`. A tool replaces a config's tool of the same "
        "name.",
        [{"type": "function", "function": {"name": "get_weather"}}],
        anyOf=[{"type": "array", "items": _TOOL, "maxItems": MAX_TOOLS}, {"type": "null"}],
    )  # fmt: skip
    tool_choice = any_value(
        "`auto`, `none`, `required`, `allowed_tools`, or one of `tools`. Applies to the first "
        "step of the turn.",
        "auto",
        anyOf=[
            {"enum": ["none", "auto", "required", None]},
            {
                "type": "object",
                "required": ["type", "allowed_tools"],
                "properties": {
                    "type": enum_of("Always `allowed_tools`.", "allowed_tools"),
                    "allowed_tools": member(
                        "object",
                        "`tools` by name, and a `mode`: `auto` or `required`.",
                        {"mode": "auto", "tools": []},
                        required=["tools"],
                        properties={
                            "tools": member("array", "The allowed tools.", [], items={}),
                            "mode": member(
                                ["string", "null"],
                                "As `tool_choice`.",
                                "auto",
                                enum=["auto", "required", "none", None],
                            ),
                        },
                    ),
                },
            },
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
    response_format = any_value(
        "`text`, `json_object` or `json_schema`. With the JSON formats, an answer that is not "
        "JSON is a `provider_error`. With `strict` it must match the schema.",
        {"type": "text"},
        anyOf=[
            {
                "type": "object",
                "required": ["type"],
                "properties": {"type": enum_of("The answer format.", "text", "json_object")},
            },
            _JSON_FORMAT,
            {"type": "null"},
        ],
    )  # fmt: skip
    stop = passed("stop", ["END"], "Passed to the model: a string, or a list of up to 16.")
    max_tokens = passed("max_tokens", 1000, "Passed to the model, up to the config's limit.")
    max_completion_tokens = passed("max_completion_tokens", 1000, "Same as `max_tokens`.")
    seed = passed("seed", 7)
    logit_bias = passed(
        "logit_bias", {}, "Passed to the model: token ids with numbers from -100 to 100."
    )
    reasoning_effort = passed("reasoning_effort", "low")
    verbosity = passed("verbosity", "low")
    n = Refused("Only 1 is allowed.", [1], "an agent gives only one answer; leave it out")
    functions = Refused("Not supported: send `tools`.", [[]], "send tools")
    function_call = Refused(
        "Not supported: send `tool_choice`.", ["auto", "none"], "send tool_choice"
    )
    logprobs = Refused("Not supported.", [False], "leave it out")
    top_logprobs = Refused("Not supported.", [0], "leave it out")
    audio = Refused("Not supported.", [], "leave it out")
    modalities = Refused("Only text is supported.", [["text"]], "leave it out, or send only text")
    web_search_options = Refused(
        "Not supported: add a search tool to the config.", [],
        "leave it out; add a search tool to the config",
    )  # fmt: skip


class ModelSchema(ma.Schema):
    """A config as a model."""

    id = text("Id of the config.", "default")
    object = text("Always `model`.", "model")
    created = number("Always 0.", 0)
    owned_by = text("Always `astrbot-api`.", "astrbot-api")
    type = text("Always `base`.", "base")
    capabilities = mapping(
        "What a model can do, as in Mistral's API.",
        {"completion_chat": True, "function_calling": True},
    )


class ModelListSchema(ma.Schema):
    """All configs as models."""

    object = text("Always `list`.", "list")
    data = list_of(ModelSchema, "The models.")


class ChoiceSchema(ma.Schema):
    index = number("Always 0.", 0)
    message = mapping(
        "`role` and `content`. Also `tool_calls` for calls of the client's tools, "
        "`reasoning_content` for reasoning, and `attachments` for files made by tools.",
        {"role": "assistant", "content": "Hello! How can I help you?"},
    )
    finish_reason = text("`stop`, `length`, `content_filter` or `tool_calls`.", "stop")


class CompletionSchema(ma.Schema):
    id = text(
        "The id: `chatcmpl-` and the run's id.", "chatcmpl-7254cd9a-814f-498e-a202-2c1777b1bd2d"
    )
    object = text("Always `chat.completion`.", "chat.completion")
    created = number("Time of creation, in seconds since 1970.", 1795452257)
    model = text("Id or name of the config.", "default")
    system_fingerprint = text("Always `astrbot-api`.", "astrbot-api")
    session_id = text("The session of the turn, if the turn is stored.", "my_session_001")
    choices = list_of(ChoiceSchema, "The answer, as a list with one choice.")
    usage = mapping(
        "Tokens used by all model calls of the turn.",
        {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27},
    )


class OpenAIFaultSchema(ma.Schema):
    message = text("The error, and what to do about it.", "no")
    type = text("Type of the error.", "invalid_request_error")
    param = text("Always `null`.", None, none=True)
    code = text("Error code for programs. It does not change.", "missing_field")


class OpenAIErrorSchema(ma.Schema):
    """An error in OpenAI's format."""

    error = ma.fields.Nested(OpenAIFaultSchema, metadata={"description": "The error."})

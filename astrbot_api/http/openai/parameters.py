"""Parameters of the model call in a request: tools, answer format, sampling.

Each field is validated and passed to the model's endpoint, or rejected by name. A field that would
change the answer is never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator

from ...agent.arguments import count_members, find_fault, find_schema_fault, make_validator
from ...agent.provider import ToolSpec
from ...errors import refuse
from ...runtime.bounded_json import load_json

#: Maximum number of tools in one request. Source: the limit of OpenAI's chat completions.
MAX_TOOLS = 128

#: Maximum number of members in all tool schemas, and in the schema of an answer. Enough for some
#: thousand properties.
_MAX_SCHEMA_MEMBERS = 20_000

#: Maximum number of texts of ``stop``, the only list that is passed.
_MAX_STOPS = 16

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of the model call of one request.

    :param fields: Further fields of the request to the model's endpoint.
    :param check_text: Returns the fault in an answer's format, or an empty string.
    """

    tools: list[ToolSpec] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    check_text: Callable[[str], str] = lambda text: ""


def read_parameters(body: Mapping[str, Any]) -> Parameters:
    """Return the parameters of the model call in a body.

    :raises ApiError: ``invalid_request``, with the name of the field.
    """
    fields = read_passed(body, PASSED)
    tools = read_tools(body.get("tools"), _read_tool)
    choice, tools = read_choice(body.get("tool_choice"), tools, _find_name)
    if choice is not None:
        fields["tool_choice"] = choice
    form, check_text = _read_format(body.get("response_format"))
    if form is not None:
        fields["response_format"] = form
    return Parameters(tools, fields, check_text)


def read_passed(body: Mapping[str, Any], passed: Mapping[str, ModelParameter]) -> dict[str, Any]:
    """Return the validated fields that are passed to the model's endpoint.

    :raises ApiError: ``invalid_request``.
    """
    fields = {}
    for name, parameter in passed.items():
        value = body.get(name)
        if value is None or value == []:  # some clients send empty lists for absent values
            continue
        # jsonschema checks all items of a list in an alternative, also beyond "maxItems".
        too_long = isinstance(value, list) and len(value) > _MAX_STOPS
        if too_long or not parameter.validator.is_valid(value):
            raise refuse(f"{name} must be {parameter.expected}")
        # In JSON, 20.0 is an integer, too. Some endpoints do not accept it.
        fields[name] = int(value) if parameter.schema.get("type") == "integer" else value
    return fields


@dataclass(frozen=True, slots=True)
class ModelParameter:
    """A field that is passed to the model's endpoint unchanged.

    :param expected: The allowed values in words, for the error.
    :param schema: JSON schema of its value, which the OpenAPI document shows, too.
    """

    expected: str
    schema: dict[str, Any]
    validator: Draft202012Validator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "validator", Draft202012Validator(self.schema))


def _number(low: int, high: int) -> ModelParameter:
    schema = {"type": "number", "minimum": low, "maximum": high}
    return ModelParameter(f"a number from {low} to {high}", schema)


TOKEN_LIMIT = ModelParameter(
    "an integer of at least 1", {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
)
WORD = ModelParameter("a word, for example low", {"type": "string", "pattern": "^[a-z_]{1,20}$"})
_STOP = {"type": "string", "minLength": 1, "maxLength": 1000}
_STOPS = {"type": "array", "items": _STOP, "maxItems": _MAX_STOPS}
_BIAS = {"type": "number", "minimum": -100, "maximum": 100}

#: Fields that are passed to the model's endpoint unchanged.
PASSED: dict[str, ModelParameter] = {
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "stop": ModelParameter(
        f"a string or a list of up to {_MAX_STOPS} strings, all of them non-empty",
        {"anyOf": [_STOP, _STOPS, {"type": "null"}]},
    ),
    "max_tokens": TOKEN_LIMIT,
    "max_completion_tokens": TOKEN_LIMIT,
    # Not -(2**63): a smaller number is parsed as a float, which is rounded to it.
    "seed": ModelParameter(
        "an integer", {"type": "integer", "minimum": 1 - 2**63, "maximum": 2**63 - 1}
    ),
    "frequency_penalty": _number(-2, 2),
    "presence_penalty": _number(-2, 2),
    "logit_bias": ModelParameter(
        "an object of token ids with numbers from -100 to 100",
        {
            "type": "object", "maxProperties": 2000, "additionalProperties": False,
            "patternProperties": {"^[0-9]{1,9}$": _BIAS},
        },
    ),
    "reasoning_effort": WORD,
    "verbosity": WORD,
    "parallel_tool_calls": ModelParameter("true or false", {"type": "boolean"}),
}  # fmt: skip


def read_tools(tools: Any, read: Callable[[Any, str], ToolSpec]) -> list[ToolSpec]:
    """Return the caller's tools.

    :param read: Parses one tool. Its second argument is the tool's place in the request.
    :raises ApiError: ``invalid_request``.
    """
    if tools is None:
        return []
    if not isinstance(tools, list) or len(tools) > MAX_TOOLS:
        raise refuse(f"tools must be a list of at most {MAX_TOOLS} tools")
    _check_size(tools, "tools")
    found = [read(tool, f"tools[{at}]") for at, tool in enumerate(tools)]
    names = [spec["function"]["name"] for spec in found]
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise refuse(f"tools has the name {twice} twice; give each tool a unique name")
    return found


def _read_tool(tool: Any, where: str) -> ToolSpec:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type") != "function":
        raise refuse(f"{where} must have the type function, and a function")
    return read_function(function, f"{where}.function")


def read_function(function: Mapping[str, Any], where: str) -> ToolSpec:
    """Return a tool from its name, description, parameters and ``strict``.

    :raises ApiError: ``invalid_request``.
    """
    name, description = function.get("name"), function.get("description")
    parameters = function.get("parameters")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise refuse(f"{where}.name must have 1 to 64 letters, digits, _ and -")
    if description is not None and not isinstance(description, str):
        raise refuse(f"{where}.description must be a string")
    if parameters is None:
        parameters = {"type": "object", "properties": {}}
    _check_schema(parameters, f"{where}.parameters")
    _check_strict(function, where)
    spec = {"name": name, "description": description or "", "parameters": parameters}
    if isinstance(function.get("strict"), bool):
        spec["strict"] = function["strict"]
    return {"type": "function", "function": spec}


def read_choice(
    choice: Any, tools: list[ToolSpec], find_name: Callable[[Mapping[str, Any]], Any]
) -> tuple[Any, list[ToolSpec]]:
    """Return the ``tool_choice`` for the model if it has one, and the tools that it allows.

    :param find_name: Returns the name of a function in the request's format.
    :raises ApiError: ``invalid_request``.
    """
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        form = choice.get("allowed_tools", choice)  # only chat completions have this member
        allowed = form.get("tools") if isinstance(form, dict) else None
        if not isinstance(allowed, list):
            raise refuse("tool_choice must have a list of the allowed tools")
        names = [find_name(one) for one in allowed if isinstance(one, dict)]
        tools = [spec for spec in tools if spec["function"]["name"] in names]
        choice = form.get("mode", "auto")
    if choice == "none":
        return None, []
    if choice is None or (choice == "auto" and not tools):
        return None, tools
    if not tools:
        raise refuse("tool_choice needs tools; send tools, or leave out tool_choice")
    if choice in ("auto", "required"):
        return choice, tools
    if isinstance(choice, dict) and choice.get("type", "function") == "function":
        name = find_name(choice)
        if name in [spec["function"]["name"] for spec in tools]:
            return {"type": "function", "function": {"name": name}}, tools
    raise refuse("tool_choice must be none, auto, required or allowed_tools, or name one of tools")


def _find_name(tool: Mapping[str, Any]) -> Any:
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else None


def _read_format(form: Any) -> tuple[dict[str, Any] | None, Callable[[str], str]]:
    """Return the answer format for the model, and a check of the answer."""
    kind = form.get("type") if isinstance(form, dict) else None
    if form is not None and kind not in FORMS:
        raise refuse("response_format.type must be text, json_object or json_schema")
    given = form.get("json_schema") if form else None
    return read_format(kind, given, "response_format", "response_format.json_schema")


#: Types of an answer format.
FORMS = ("text", "json_object", "json_schema")


def read_format(
    kind: str | None, given: Any, name_of_form: str, where: str
) -> tuple[dict[str, Any] | None, Callable[[str], str]]:
    """Return the ``response_format`` for the model, and a check of the answer.

    :param kind: One of :data:`FORMS`, or None if the request has no format.
    :param given: Name and schema of a ``json_schema`` format.
    :param name_of_form: Name of the format's field in errors; ``where`` is the name of ``given``.
    :raises ApiError: ``invalid_request``.
    """
    if kind in (None, "text"):
        return None, lambda text: ""
    if kind == "json_object":
        return {"type": kind}, lambda text: _check_answer(text, None, name_of_form)
    if not isinstance(given, dict):
        raise refuse(f"{where} must be an object")
    name, schema = given.get("name"), given.get("schema")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise refuse(f"{where}.name must have letters, digits, _ and -")
    _check_strict(given, where)
    kept = {key: given[key] for key in ("name", "description", "schema", "strict") if key in given}
    validator = None
    if schema is not None:
        _check_schema(schema, f"{where}.schema")
        validator = make_validator(schema) if given.get("strict") else None
    form = {"type": kind, "json_schema": kept}
    return form, lambda text: _check_answer(text, validator, name_of_form)


def _check_schema(schema: Any, where: str) -> None:
    if not isinstance(schema, dict):
        raise refuse(f"{where} must be an object")
    _check_size(schema, where)
    if fault := find_schema_fault(schema):
        raise refuse(f"{where} is not a JSON schema: {fault[:200]}")


def _check_size(schema: Any, where: str) -> None:
    if count_members(schema, _MAX_SCHEMA_MEMBERS) > _MAX_SCHEMA_MEMBERS:
        raise refuse(
            f"{where} has more than {_MAX_SCHEMA_MEMBERS} members in its lists and objects; "
            "make it smaller"
        )


def _check_strict(given: Mapping[str, Any], where: str) -> None:
    if not isinstance(given.get("strict"), bool | None):
        raise refuse(f"{where}.strict must be true or false")


def _check_answer(text: str, validator: Any, field: str) -> str:
    """Return the fault in a structured answer, or an empty string."""
    try:
        value = load_json(text)
    except ValueError:
        return f"The model's answer is not JSON, which {field} requires."
    fault = "" if validator is None else find_fault(validator, value)
    return f"The model's answer does not match {field}: {fault[:200]}" if fault else ""

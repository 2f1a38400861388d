"""Parameters of a response's model call, and the request fields that a response repeats.

As in :mod:`..openai.parameters`, each field is validated and passed on, or rejected by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from ...agent.provider import ToolSpec
from ...errors import refuse
from ..openai.parameters import (
    FORMS,
    PASSED,
    TOKEN_LIMIT,
    WORD,
    Parameters,
    Refused,
    read_format,
    read_function,
    read_passed,
    read_tools,
    refuse_others,
)
from .items import SERVER_LABEL

#: Maximum number of pairs in ``metadata``, and maximum length of a key and of a value. Source:
#: OpenAI's limits.
MAX_PAIRS, MAX_KEY_CHARS, MAX_VALUE_CHARS = 16, 64, 512

#: Maximum size of the repeated request fields, in bytes of JSON. They are stored with each
#: response, and each stream sends them three times.
MAX_ECHO_BYTES = 512 * 1024

#: Accepted values of ``include``. They add nothing to a response.
INCLUDED = (
    "reasoning.encrypted_content", "message.input_image.image_url", "file_search_call.results",
    "web_search_call.results", "web_search_call.action.sources",
    "computer_call_output.output.image_url", "code_interpreter_call.outputs",
)  # fmt: skip

_PASSED = {name: PASSED[name] for name in ("temperature", "top_p", "parallel_tool_calls")}

#: Fields that have another name in the request to the model.
_RENAMED = {"max_output_tokens": "max_tokens", "effort": "reasoning_effort"}

_REFUSED: dict[str, Refused] = {
    "prompt": ((None,), "send instructions and input"),
    "max_tool_calls": ((None,), "the config limits the steps of a turn"),
    "top_logprobs": ((None, 0), "leave it out"),
    "context_management": ((None, []), "the config limits the history by history_tokens"),
    "moderation": ((None,), "leave it out"),
    "truncation": ((None, "auto", "disabled"), "send auto or disabled"),
}

#: Accepted members of a tool of the type ``mcp``. All others must be empty.
_OF_SERVER = ("type", "server_label", "require_approval", "server_description")

_WITHOUT_EFFECT = (
    "service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
)  # fmt: skip


def read_parameters(body: Mapping[str, Any]) -> Parameters:
    """Return the parameters of the model call.

    :raises ApiError: ``invalid_request``, with the name of the field.
    """
    refuse_others(body, _REFUSED)
    for at, one in enumerate(_list(body, "include")):
        if one not in INCLUDED:
            raise refuse(f"include[{at}] is not supported: leave it out")
    fields = read_passed(body, _PASSED)
    found = read_passed(body, {"max_output_tokens": TOKEN_LIMIT})
    found |= read_passed(_object(body, "reasoning"), {"effort": WORD})
    fields |= {_RENAMED[name]: value for name, value in found.items()}
    text = _object(body, "text")
    fields |= read_passed(text, {"verbosity": WORD})
    given = body.get("tools")
    if isinstance(given, list):
        given = [one for at, one in enumerate(given) if not _is_server(one, f"tools[{at}]")]
    tools = read_tools(given, _read_tool)
    choice, tools = _read_choice(body.get("tool_choice"), tools)
    if choice is not None:
        fields["tool_choice"] = choice
    form = _object(text, "format", "text.")
    kind = form.get("type") if form else None
    if form and kind not in FORMS:
        raise refuse("text.format.type must be text, json_object or json_schema")
    asked, check_text = read_format(kind, form, "text.format", "text.format")
    if asked is not None:
        fields["response_format"] = asked
    return Parameters(tools, fields, check_text)


def read_metadata(body: Mapping[str, Any]) -> dict[str, str]:
    """Return the validated ``metadata``.

    :raises ApiError: ``invalid_request``.
    """
    found = _object(body, "metadata")
    if len(found) > MAX_PAIRS:
        raise refuse(f"metadata has {len(found)} pairs; at most {MAX_PAIRS} are allowed")
    for key, value in found.items():
        if not isinstance(value, str) or len(value) > MAX_VALUE_CHARS:
            raise refuse(
                f"metadata.{key[:MAX_KEY_CHARS]} must be a string of at most {MAX_VALUE_CHARS} "
                "characters"
            )
        if not 0 < len(key) <= MAX_KEY_CHARS:
            raise refuse(f"metadata must have keys of 1 to {MAX_KEY_CHARS} characters")
    return dict(found)


def asks_for_approvals(tools: Any) -> bool:
    """Return whether the client can answer approval requests for the config's tools."""
    return any(
        one["type"] == "mcp" and (one.get("require_approval") or "always") == "always"
        for one in tools or ()
    )


def echo_request(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request's fields that the response object repeats."""
    tools: list[dict[str, Any]] = [
        {
            "type": "mcp", "server_label": SERVER_LABEL,
            "require_approval": tool.get("require_approval") or "always",
        }
        if tool["type"] == "mcp"
        else {
            "type": "function", "name": tool["name"], "description": tool.get("description"),
            "parameters": tool.get("parameters"), "strict": tool.get("strict") is True,
        }
        for tool in body.get("tools") or ()
    ]  # fmt: skip
    text = _without_none(body.get("text"))
    text["format"] = text.get("format") or {"type": "text"}
    reasoning = {"effort": None, "summary": None, **_without_none(body.get("reasoning"))}
    parallel = body.get("parallel_tool_calls")
    return {
        "model": body["model"],
        "instructions": body.get("instructions") or None,
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": None,
        "parallel_tool_calls": True if parallel is None else parallel,
        "reasoning": {key: reasoning[key] for key in ("effort", "summary")},
        "temperature": body.get("temperature"),
        "text": {key: text[key] for key in ("format", "verbosity") if key in text},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": tools,
        "top_logprobs": 0,
        "top_p": body.get("top_p"),
        "truncation": body.get("truncation") or "disabled",
        "user": body.get("user") or None,
        "metadata": read_metadata(body),
        "background": body.get("background") is True,
        **{name: _short(body, name) for name in _WITHOUT_EFFECT},
    }


def _is_server(tool: Any, where: str) -> bool:
    """Return whether a tool stands for the config's own tools, in OpenAI's format of an MCP server.

    :raises ApiError: ``invalid_request`` for any other server, since only the config names servers.
    """
    if not isinstance(tool, dict) or tool.get("type") != "mcp":
        return False
    if tool.get("server_label") != SERVER_LABEL:
        raise refuse(
            f"{where}.server_label must be {SERVER_LABEL}, which stands for the config's tools; "
            "add other servers to the config"
        )
    if tool.get("require_approval") not in (None, "always", "never"):
        raise refuse(
            f"{where}.require_approval must be always or never; the config selects the tools "
            "that need approval"
        )
    other = next((name for name, value in tool.items() if name not in _OF_SERVER and value), None)
    if other is not None:
        raise refuse(f"{where}.{other[:40]} is not supported: leave it out")
    return True


def check_echo(request: Mapping[str, Any]) -> None:
    """Reject a request whose repeated fields are too long.

    :param request: Result of :func:`echo_request`.
    :raises ApiError: ``invalid_request``.
    """
    if len(orjson.dumps(request)) > MAX_ECHO_BYTES:
        raise refuse(
            f"instructions, tools and text have more than {MAX_ECHO_BYTES} bytes as JSON; send "
            "long texts in input"
        )


def _read_tool(tool: Any, where: str) -> ToolSpec:
    if not isinstance(tool, dict):
        raise refuse(f"{where} must be an object")
    kind = tool.get("type")
    if kind != "function":
        name = kind[:40] if isinstance(kind, str) else "this type"
        raise refuse(
            f"{where}.type must be function: {name} is not supported; the config's tools run on "
            "the server"
        )
    return read_function(tool, where)


def _read_choice(choice: Any, tools: list[ToolSpec]) -> tuple[Any, list[ToolSpec]]:
    """Return the ``tool_choice`` for the model, and the tools that it allows."""
    names = [spec["function"]["name"] for spec in tools]
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("tools")
        if not isinstance(allowed, list):
            raise refuse("tool_choice.tools must be a list")
        wanted = [one.get("name") if isinstance(one, dict) else None for one in allowed]
        tools = [spec for spec in tools if spec["function"]["name"] in wanted]
        choice = choice.get("mode", "auto")
    if choice == "none":
        return None, []
    if choice is None or (choice == "auto" and not tools):
        return None, tools
    if not tools:
        raise refuse("tool_choice needs tools; send tools, or leave out tool_choice")
    if choice in ("auto", "required"):
        return choice, tools
    if isinstance(choice, dict) and choice.get("type") == "function":
        name = choice.get("name")
        if name in names:
            return {"type": "function", "function": {"name": name}}, tools
    raise refuse("tool_choice must be none, auto, required or allowed_tools, or name one of tools")


def _object(body: Mapping[str, Any], name: str, where: str = "") -> Mapping[str, Any]:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refuse(f"{where}{name} must be an object")
    return value


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > 100:
        raise refuse(f"{name} must be a list of at most 100 values")
    return value


def _without_none(value: Any) -> dict[str, Any]:
    return {key: one for key, one in (value or {}).items() if one is not None}


def _short(body: Mapping[str, Any], name: str) -> Any:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > MAX_VALUE_CHARS):
        raise refuse(f"{name} must be a string of at most {MAX_VALUE_CHARS} characters")
    return value

"""Parameters of a response's model call.

As in :mod:`..openai.parameters`, each field is validated and passed on, or rejected by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...agent.provider import ToolSpec
from ...errors import refuse
from ..openai.parameters import (
    FORMS,
    NAME,
    PASSED,
    TOKEN_LIMIT,
    WORD,
    Parameters,
    read_choice,
    read_format,
    read_function,
    read_passed,
    read_tools,
)
from .items import SERVER_LABEL, join_name

#: Accepted values of ``include``. They add nothing to a response.
INCLUDED = (
    "reasoning.encrypted_content", "message.input_image.image_url", "file_search_call.results",
    "web_search_call.results", "web_search_call.action.sources",
    "computer_call_output.output.image_url", "code_interpreter_call.outputs",
)  # fmt: skip

_PASSED = {
    name: PASSED[name]
    for name in (
        "temperature", "top_p", "frequency_penalty", "presence_penalty", "parallel_tool_calls",
    )
}  # fmt: skip

#: Fields that have another name in the request to the model.
_RENAMED = {"max_output_tokens": "max_tokens", "effort": "reasoning_effort"}

#: Accepted members of a tool of the type ``mcp``. All others must be empty.
_OF_SERVER = ("type", "server_label", "require_approval", "server_description")


def read_parameters(body: Mapping[str, Any]) -> Parameters:
    """Return the parameters of the model call.

    :raises ApiError: ``invalid_request``, with the name of the field.
    """
    included = [] if body.get("include") is None else body["include"]
    if not isinstance(included, list) or len(included) > 100:
        raise refuse("include must be a list of at most 100 values")
    for at, one in enumerate(included):
        if one not in INCLUDED:
            raise refuse(f"include[{at}] is not supported: leave it out")
    fields = read_passed(body, _PASSED)
    found = read_passed(body, {"max_output_tokens": TOKEN_LIMIT})
    found |= read_passed(read_object(body, "reasoning"), {"effort": WORD})
    fields |= {_RENAMED[name]: value for name, value in found.items()}
    text = read_object(body, "text")
    fields |= read_passed(text, {"verbosity": WORD})
    given, places = body.get("tools"), {}
    if isinstance(given, list):
        placed = list(_iter_functions(given))
        given = [tool for tool, _ in placed]
        places = {f"tools[{at}]": place for at, (_, place) in enumerate(placed)}
    tools = read_tools(given, lambda tool, at: _read_tool(tool, places[at]))
    choice, tools = read_choice(body.get("tool_choice"), tools, _find_name)
    if choice is not None:
        fields["tool_choice"] = choice
    form = read_object(text, "format", "text.")
    kind = form.get("type") if form else None
    if form and kind not in FORMS:
        raise refuse("text.format.type must be text, json_object or json_schema")
    asked, check_text = read_format(kind, form, "text.format", "text.format")
    if asked is not None:
        fields["response_format"] = asked
    return Parameters(tools, fields, check_text)


def _iter_functions(tools: list[Any]) -> Iterator[tuple[Any, str]]:
    """Yield the client's functions, also those of namespaces, with their places.

    :raises ApiError: ``invalid_request``.
    """
    for at, tool in enumerate(tools):
        where = f"tools[{at}]"
        if _is_server(tool, where):
            continue
        if not isinstance(tool, dict) or tool.get("type") != "namespace":
            yield tool, where
            continue
        name, inner, about = tool.get("name"), tool.get("tools"), tool.get("description")
        if not isinstance(name, str) or not NAME.fullmatch(name) or not isinstance(inner, list):
            raise refuse(f"{where} must have a name of 1 to 64 letters, digits, _ and -, and tools")
        if not isinstance(about, str | None):
            raise refuse(f"{where}.description must be a string")
        for index, one in enumerate(inner):
            if isinstance(one, dict) and isinstance(one.get("name"), str) and one["name"]:
                one = {**one, "name": join_name(name, one["name"])}
                own = one.get("description")
                if index == 0 and about and isinstance(own, str | None):  # once: it can be long
                    one["description"] = f"{about}\n\n{own or ''}".strip()
            yield one, f"{where}.tools[{index}]"


def asks_for_approvals(tools: Any) -> bool:
    """Return whether the client can answer approval requests for the config's tools."""
    return any(
        one["type"] == "mcp" and (one.get("require_approval") or "always") == "always"
        for one in tools or ()
    )


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


def _find_name(tool: Mapping[str, Any]) -> str:
    return join_name(tool.get("namespace"), str(tool.get("name")))


def read_object(body: Mapping[str, Any], name: str, where: str = "") -> Mapping[str, Any]:
    """Return an object of the request, or an empty one if it is absent.

    :param where: Prefix of the name in the message.
    :raises ApiError: ``invalid_request``.
    """
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refuse(f"{where}{name} must be an object")
    return value

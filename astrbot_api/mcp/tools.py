"""Tools of an agent that call the tools and resources of an MCP server."""

from __future__ import annotations

import hashlib
import logging
import mimetypes
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..agent.tools import Tool, ToolContext
from ..config.mcp import McpServerConfig
from ..errors import ToolError
from ..runtime.decoding import decode_base64
from ..runtime.threads import let_others_run

log = logging.getLogger(__name__)

_MAX_NAME_CHARS = 128


#: Sends a request to one server: :meth:`.link.Link.call` without its key.
Ask = Callable[..., dict[str, Any]]

#: Maximum number of resources in the description of ``read_resource``.
_MAX_NAMED = 20

#: Maximum length of the result of ``list_resources``, in characters.
_MAX_LIST_CHARS = 20_000


def make_tools(server: McpServerConfig, state: Mapping[str, Any], ask: Ask) -> tuple[Tool, ...]:
    """Return the tools of a server. Skip and log invalid tools.

    A server with resources also gets the tool ``read_resource``. With many resources, it gets
    ``list_resources`` too.

    :param state: A ``state`` message, see :mod:`.wire`.
    """
    tools: list[Tool] = []
    names: set[str] = set()
    for one in state["tools"]:
        let_others_run()  # checking a schema takes a millisecond
        try:
            name = name_tool(server.name, one["name"])
            if name in names:  # different names can become equal in name_tool()
                name = _add_hash(name, one["name"])
            names.add(name)
            hints = one.get("hints", ())
            trusted = hints if server.trust_hints else ()
            tools.append(
                Tool(
                    name,
                    one["description"],
                    _bind(one["name"], ask),
                    one["parameters"],
                    server.timeout_s,
                    needs_approval="destructive" in trusted,
                    retry="safe" if "safe" in trusted else "never",
                    sequence=server.name,
                    reads_only="reads_only" in hints,
                )
            )
        except Exception as error:  # a server's list may be invalid in many ways
            reason = str(error).partition("\n")[0]
            log.error(
                "MCP server %s: skipped tool %.100r: %s", server.name, one.get("name"), reason
            )
    if resources := state.get("resources"):
        for tool in _make_resource_tools(server, resources, ask):
            # The server may have a tool of this name.
            taken = tool.name in names
            tools.append(replace(tool, name=f"{tool.name}_by_uri") if taken else tool)
    return tuple(tools)


def _make_resource_tools(
    server: McpServerConfig, resources: Sequence[Mapping[str, Any]], ask: Ask
) -> Iterator[Tool]:
    """Yield the tools that read and list a server's resources."""
    lines = [_show_resource(one) for one in resources]
    many = len(lines) > _MAX_NAMED
    more = f"; {server.name}.list_resources lists all {len(lines)}" if many else ""
    named = "\n".join(one[:300] for one in lines[:_MAX_NAMED])

    def read(arguments: Mapping[str, Any], context: ToolContext) -> str:
        answer = ask({"uri": arguments["uri"]}, context.cancel)
        return "\n".join(_show(part, context) for part in answer["content"])

    def list_all(arguments: Mapping[str, Any], context: ToolContext) -> str:
        word = str(arguments.get("containing", "")).lower()
        return "\n".join(one for one in lines if word in one.lower())[:_MAX_LIST_CHARS]

    yield Tool(
        f"{server.name}.read_resource",
        f"Read a resource of {server.name} by its URI{more}.\n{named}",
        read,
        _URI_ONLY,
        server.timeout_s,
        retry="safe",
        sequence=server.name,
        reads_only=True,
    )
    if many:
        text = f"List the resources of {server.name}, or those containing a word."
        yield Tool(f"{server.name}.list_resources", text, list_all, _WORD_ONLY, retry="safe")


_URI_ONLY = {
    "type": "object",
    "properties": {
        "uri": {"type": "string", "description": "The URI. Replace the {names} of a template."}
    },
    "required": ["uri"],
}
_WORD_ONLY = {"type": "object", "properties": {"containing": {"type": "string"}}}


def _show_resource(one: Mapping[str, Any]) -> str:
    said = ": ".join(filter(None, (one["name"], one["description"])))
    template = " (template)" if one.get("template") else ""
    return f"{one['uri']}{template} {said}".replace("\n", " ")


def name_tool(server: str, tool: str) -> str:
    """Return ``server.tool`` with valid characters and length."""
    name = f"{server}.{re.sub(r'[^A-Za-z0-9_.-]', '_', tool)}"
    if len(name) <= _MAX_NAME_CHARS:
        return name
    return _add_hash(name, tool)


def _add_hash(name: str, tool: str) -> str:
    return f"{name[: _MAX_NAME_CHARS - 9]}_{hashlib.sha256(tool.encode()).hexdigest()[:8]}"


def _bind(tool: str, ask: Ask) -> Callable[[Mapping[str, Any], ToolContext], str]:
    def call(arguments: Mapping[str, Any], context: ToolContext) -> str:
        request = {"tool": tool, "arguments": arguments}
        answer = ask(request, context.cancel, context.report_progress)
        parts = answer["content"]
        if answer["is_error"]:
            texts = [part["text"] for part in parts if part["type"] == "text"]
            raise ToolError("\n".join(texts) or "the tool failed without a reason")
        return "\n".join(_show(part, context) for part in parts)

    return call


def _find_extension(mime: str) -> str:
    """Return the extension of a MIME type, or an empty string."""
    found = mimetypes.guess_extension(mime)
    # Python lacks common types, such as audio/wav and, in some versions, image/webp.
    media = re.fullmatch(r"(?:image|audio|video)/([a-z0-9]{2,5})", mime)
    return found or (f".{media[1]}" if media else "")


def _show(part: Mapping[str, Any], context: ToolContext) -> str:
    """Return the model's text for a part of a result, and send a file to the user."""
    if part["type"] == "text":
        text: str = part["text"]
        return text
    name, mime = part["name"], part["mime"]
    if "." not in name:
        name += _find_extension(mime)
    try:
        content = decode_base64(part["data"])
    except ValueError:
        return f"[{name}: {mime}, cannot be read]"
    try:
        context.send_file(content, name)
    except ToolError as error:
        return f"[{name}: {mime}, {len(content)} bytes; not shown to the user: {error}]"
    return f"[{name}: {mime}, {len(content)} bytes; it was shown to the user]"

"""Lists of tools as the SDK takes them.

The SDK refuses a whole list for one tool that is not as the specification has it. Each tool is
looked at by itself here; what is no tool is left out and logged.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import mcp_types

log = logging.getLogger(__name__)

#: What a tool may have beside its name and its parameters.
_FURTHER = ("title", "description", "annotations", "icons", "execution", "_meta")


class RepairedTransport:
    """A transport of the SDK's ``Client`` that repairs the lists which come through it.

    :param server: Name of the server, for the log.
    """

    def __init__(self, server: str, inner: Any) -> None:
        self._server = server
        self._inner = inner

    async def __aenter__(self) -> Any:
        read, write = await self._inner.__aenter__()
        return _RepairedStream(self._server, read), write

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        ended: bool | None = await self._inner.__aexit__(*exc_info)
        return ended


class _RepairedStream:
    def __init__(self, server: str, inner: Any) -> None:
        self._server = server
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def receive(self) -> Any:
        return self._repair(await self._inner.receive())

    def __aiter__(self) -> _RepairedStream:
        return self

    async def __anext__(self) -> Any:
        return self._repair(await self._inner.__anext__())

    async def __aenter__(self) -> _RepairedStream:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        ended: bool | None = await self._inner.__aexit__(*exc_info)
        return ended

    def _repair(self, item: Any) -> Any:
        result = getattr(getattr(item, "message", None), "result", None)
        if isinstance(result, dict) and isinstance(result.get("tools"), list):
            result["tools"] = repair_tools(self._server, result["tools"])
        return item


def repair_tools(server: str, tools: list[Any]) -> list[dict[str, Any]]:
    """Return those of a list that are tools, each as the specification has it."""
    repaired = []
    for tool in tools:
        name = tool.get("name") if isinstance(tool, Mapping) else None
        if not isinstance(name, str) or not name:
            log.error("MCP server %s: a tool is left out: it has no name", server)
            continue
        repaired.append(_repair_tool(name, tool))
    return repaired


def _repair_tool(name: str, tool: Mapping[str, Any]) -> dict[str, Any]:
    repaired = {"name": name, "inputSchema": _repair_schema(tool.get("inputSchema"))}
    for key in _FURTHER:
        if tool.get(key) is None:
            continue
        try:
            mcp_types.Tool.model_validate({**repaired, key: tool[key]}, by_name=False)
        except ValueError:
            continue  # a tool is of use without it
        repaired[key] = tool[key]
    output = tool.get("outputSchema")
    if isinstance(output, Mapping) and _repair_schema(output) == output:
        repaired["outputSchema"] = output
    return repaired


def _repair_schema(schema: Any) -> dict[str, Any]:
    """Return a schema whose root is an object; the rest is the workers' to judge."""
    if not isinstance(schema, Mapping):
        return {"type": "object"}
    repaired = {**schema, "type": "object"}
    if not isinstance(repaired.get("$schema", ""), str):
        del repaired["$schema"]
    properties = repaired.get("properties")
    if isinstance(properties, Mapping):
        repaired["properties"] = {
            key: one for key, one in properties.items() if isinstance(one, (Mapping, bool))
        }
    else:
        repaired.pop("properties", None)
    required = repaired.get("required")
    if isinstance(required, list):
        repaired["required"] = [one for one in required if isinstance(one, str)]
    else:
        repaired.pop("required", None)
    return repaired

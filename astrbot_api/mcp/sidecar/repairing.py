"""Repair of server responses, so that the SDK accepts them.

The SDK rejects a whole list for one invalid entry, and a whole result for one invalid part. This
module checks each entry. It repairs invalid entries, or drops and logs them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import mcp_types
import orjson
from pydantic import TypeAdapter

from ..wire import MAX_PARTS, encode
from .calling import QUESTIONS

log = logging.getLogger(__name__)

#: Optional fields of a tool.
_FURTHER = ("title", "description", "annotations", "icons", "execution", "_meta")

_BLOCK: TypeAdapter[Any] = TypeAdapter(mcp_types.ContentBlock)
_ANY: TypeAdapter[Any] = TypeAdapter(Any)


def read_messages(line: bytes) -> list[Any]:
    """Return the JSON-RPC messages of a line: one, or those of a batch.

    What the SDK rejects is parsed leniently: it may contain a byte order mark, invalid UTF-8,
    control characters, half of a surrogate pair, ``NaN`` and deep nesting. A message may lack
    ``jsonrpc``, or have an ``id`` such as 1.0, a ``result`` that is no object, or an ``error`` that
    is null, a text, or an object without code or message.

    :raises ValueError: when the line has no message.
    """
    try:
        return [mcp_types.jsonrpc_message_adapter.validate_json(line)]
    except ValueError:
        pass
    try:
        text = line.decode("utf-8-sig", "replace")
        value = json.loads(encode(json.loads(text, strict=False)))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    batch = value[:MAX_PARTS] if isinstance(value, list) else [value]
    found = [_read_message(one) for one in batch]
    if not found:
        raise ValueError("no message")
    return found


def _read_message(value: Any) -> Any:
    if not isinstance(value, dict) or not value.keys() & {"method", "result", "error"}:
        raise ValueError("no message")
    known = {key: one for key, one in value.items() if one is not None or key == "id"}
    if isinstance(value.get("id"), float):
        known["id"] = int(value["id"])
    if "error" in known:
        given = known["error"] if isinstance(known["error"], dict) else {"message": known["error"]}
        message, code = given.get("message", given), given.get("code")
        known["error"] = {
            "code": code if isinstance(code, int) else mcp_types.INTERNAL_ERROR,
            "message": message if isinstance(message, str) else json.dumps(message),
        }
    elif "result" in value and not isinstance(value["result"], dict):
        known["result"] = {"content": value["result"]}
    return mcp_types.jsonrpc_message_adapter.validate_python({"jsonrpc": "2.0", **known})


@asynccontextmanager
async def repair_transport(
    server: str, inner: Any, on_question: Callable[[str], None], on_end: Callable[[], None]
) -> AsyncIterator[Any]:
    """Open a transport of the SDK's ``Client``, and repair its incoming results.

    :param on_question: Called with the method of a request that this client does not support.
    :param on_end: Called when the server has closed its stream of messages.
    """
    async with inner as (read, write):
        yield _RepairedStream(server, read, on_question, on_end), write


@dataclass(eq=False)
class _RepairedStream:
    _server: str
    _inner: Any
    _on_question: Callable[[str], None]
    _on_end: Callable[[], None]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __aiter__(self) -> _RepairedStream:
        return self

    async def __anext__(self) -> Any:
        try:
            item = await self._inner.__anext__()
        except StopAsyncIteration:
            self._on_end()
            raise
        return self._repair(item)

    async def __aenter__(self) -> _RepairedStream:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        ended: bool | None = await self._inner.__aexit__(*exc_info)
        return ended

    def _repair(self, item: Any) -> Any:
        message = getattr(item, "message", None)
        method = getattr(message, "method", "")
        if method in QUESTIONS:
            self._on_question(method)
        result = getattr(message, "result", None)
        if isinstance(result, dict):
            repair_result(self._server, result)
        return item


def repair_result(server: str, result: dict[str, Any]) -> None:
    """Repair a result in place, so that one invalid part does not invalidate the others."""
    # Required since 2026-07-28. Hand-written servers omit them, and this client caches nothing.
    result.setdefault("resultType", "complete")
    result |= {"ttlMs": 0, "cacheScope": "private"}
    if "protocolVersion" in result:  # hand-written servers do not always say who they are
        info = result.get("serverInfo")
        known = info if isinstance(info, Mapping) else {}
        result["serverInfo"] = {"name": server, "version": "", **known}
    for key in ("content", "contents", "messages"):
        if isinstance(result.get(key), list):
            # The others are never used. To check 200,000 would block all servers for seconds.
            del result[key][MAX_PARTS:]
    if isinstance(result.get("tools"), list):
        result["tools"] = repair_tools(server, result["tools"])
    for key, model in _LISTED.items():
        if isinstance(result.get(key), list):
            result[key] = _keep_valid(server, key, result[key], model)
    if isinstance(result.get("messages"), list):
        result["messages"] = [
            {
                "role": one["role"] if one.get("role") in ("user", "assistant") else "user",
                "content": _repair_block(one.get("content")),
            }
            for one in result["messages"]
            if isinstance(one, Mapping)
        ]
    if result.keys() & {"content", "structuredContent", "isError", "toolResult"}:
        _repair_call_result(result)


_LISTED: dict[str, Any] = {
    "resources": mcp_types.Resource,
    "resourceTemplates": mcp_types.ResourceTemplate,
    "prompts": mcp_types.Prompt,
}


def _keep_valid(server: str, key: str, entries: list[Any], model: Any) -> list[Any]:
    """Return the valid entries, without their invalid fields."""
    kept = []
    for entry in entries:
        repaired = entry
        if isinstance(entry, Mapping) and not _is_valid(model, entry):
            fields = {name: value for name, value in entry.items() if value is not None}
            bare = {name: fields[name] for name in ("name", "uri", "uriTemplate") if name in fields}
            bare.setdefault("name", bare.get("uri", bare.get("uriTemplate")))
            more = {
                name: one for name, one in fields.items() if _is_valid(model, {**bare, name: one})
            }
            repaired = {**bare, **more}
        if _is_valid(model, repaired):
            kept.append(repaired)
        else:
            log.error("MCP server %s: skipped an invalid entry of its %s", server, key)
    return kept


def _is_valid(model: Any, value: Any) -> bool:
    try:
        model.model_validate(value, by_name=False)
    except ValueError:
        return False
    return True


def _repair_call_result(result: dict[str, Any]) -> None:
    """Repair a tool's result in place: its content becomes a list of valid blocks."""
    content = result.get("content", result.pop("toolResult", None))
    if content is None:
        content = []
    blocks = content if isinstance(content, list) else [content]
    result["content"] = [_repair_block(one) for one in blocks if one is not None]
    structured = result.get("structuredContent")
    if "structuredContent" in result and not isinstance(structured, Mapping):
        del result["structuredContent"]  # must be an object before 2026-07-28
        if structured is not None and not result["content"]:
            result["content"] = [_repair_block(structured)]
    error = result.get("isError", False)
    result["isError"] = error.lower() == "true" if isinstance(error, str) else bool(error)


def _repair_block(block: Any) -> Any:
    """Return a valid block. Other values become a text block with their JSON."""
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if isinstance(block, Mapping):
        fields = {name: value for name, value in block.items() if value is not None}
        bare = {
            name: value for name, value in fields.items() if name not in ("annotations", "_meta")
        }
        for candidate in (fields, bare) if "type" in fields else ():
            try:
                _BLOCK.validate_python(candidate, by_name=False)
            except ValueError:
                continue
            return candidate
        if isinstance(fields.get("text"), str):
            return {"type": "text", "text": fields["text"]}
        if media := _find_media(fields):
            return media
    try:
        text = orjson.dumps(block).decode()
    except TypeError:
        text = str(block)
    return {"type": "text", "text": text}


#: MIME types of media without one. The bytes decide in the end.
_MIME = {"image": "image/png", "audio": "audio/wav"}

_MEDIA_FIELDS = ("source", "image_url", "input_audio")


def _find_media(block: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an image or sound without MIME type, or in the formats of Anthropic and OpenAI."""
    kind = str(block.get("type")).removeprefix("input_").removesuffix("_url")
    if kind not in _MIME:
        return None
    inner: Any = next((block[key] for key in _MEDIA_FIELDS if key in block), {})
    source = inner if isinstance(inner, Mapping) else {"url": inner}
    found = {**source, **block}
    data = next((found[key] for key in ("data", "base64", "url") if found.get(key)), None)
    mimes = (found.get(key) for key in ("mimeType", "mime_type", "media_type"))
    mime = next((one for one in mimes if isinstance(one, str)), _MIME[kind])
    return {"type": kind, "data": data, "mimeType": mime} if isinstance(data, str) else None


def repair_tools(server: str, tools: list[Any]) -> list[dict[str, Any]]:
    """Return valid tools. Skip and log those without a name, and those that only run as a task.

    Source: Model Context Protocol 2025-11-25, tasks, tool-level negotiation.
    """
    repaired = []
    for tool in tools:
        name = tool.get("name") if isinstance(tool, Mapping) else None
        if not isinstance(name, str) or not name:
            log.error("MCP server %s: skipped a tool without a name", server)
            continue
        execution = tool.get("execution")
        if isinstance(execution, Mapping) and execution.get("taskSupport") == "required":
            log.warning("MCP server %s: skipped tool %.100r: it only runs as a task", server, name)
            continue
        try:
            _ANY.dump_json([[[[[tool]]]]])  # the SDK serializes the whole response
        except ValueError:
            log.error("MCP server %s: skipped tool %.100r: it is nested too deeply", server, name)
            continue
        repaired.append(_repair_tool(name, tool))
    return repaired


def _repair_tool(name: str, tool: Mapping[str, Any]) -> dict[str, Any]:
    repaired = {"name": name, "inputSchema": _repair_schema(tool.get("inputSchema"))}
    for key in _FURTHER:
        if tool.get(key) is None:
            continue
        try:
            mcp_types.Tool.model_validate({**repaired, key: tool[key]})
        except ValueError:
            continue  # the tool is usable without the field
        repaired[key] = tool[key]
    # Drop outputSchema, because the SDK would reject results that do not match it.
    return repaired


def _repair_schema(schema: Any) -> dict[str, Any]:
    """Return a schema with an object at its root. The workers check the rest."""
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

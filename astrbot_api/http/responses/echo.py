"""The fields of a request that its response repeats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from ...errors import refuse
from .items import SERVER_LABEL
from .parameters import read_object

#: Maximum number of pairs in ``metadata``, and maximum length of a key and of a value. Source:
#: OpenAI's limits.
MAX_PAIRS, MAX_KEY_CHARS, MAX_VALUE_CHARS = 16, 64, 512

#: Maximum size of the repeated request fields, in bytes of JSON. They are stored with each
#: response, and each stream sends them three times.
_MAX_ECHO_BYTES = 512 * 1024

_WITHOUT_EFFECT = ("prompt_cache_key", "prompt_cache_retention", "safety_identifier")


def echo_request(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request's fields that the response object repeats.

    Strict clients want OpenAI's defaults instead of null: the schema of Open Responses has no null
    for numbers and ``service_tier``. Source: https://www.openresponses.org/reference

    :raises ApiError: ``invalid_request`` if they are too long, or not valid.
    """
    text, reasoning = body["text"] or {}, body["reasoning"] or {}
    verbosity = {"verbosity": text["verbosity"]} if text.get("verbosity") else {}
    echo = {
        "model": body["model"],
        "instructions": body.get("instructions") or None,
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": None,
        "parallel_tool_calls": _or_default(body.get("parallel_tool_calls"), True),
        "reasoning": {key: reasoning.get(key) for key in ("effort", "summary")},
        "temperature": _or_default(body.get("temperature"), 1.0),
        "frequency_penalty": body.get("frequency_penalty") or 0.0,
        "presence_penalty": body.get("presence_penalty") or 0.0,
        "text": {"format": text.get("format") or {"type": "text"}, **verbosity},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": [_echo_tool(one) for one in body.get("tools") or ()],
        "top_logprobs": 0,
        "top_p": _or_default(body.get("top_p"), 1.0),
        "truncation": body.get("truncation") or "disabled",
        "user": body.get("user") or None,
        "metadata": read_metadata(body),
        "background": body.get("background") is True,
        "service_tier": _short(body, "service_tier") or "default",
        **{name: _short(body, name) for name in _WITHOUT_EFFECT},
    }
    if len(orjson.dumps(echo)) > _MAX_ECHO_BYTES:
        raise refuse(
            f"instructions, tools and text have more than {_MAX_ECHO_BYTES} bytes as JSON; send "
            "long texts in input"
        )
    return echo


def _echo_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool["type"] == "mcp":
        return {
            "type": "mcp", "server_label": SERVER_LABEL,
            "require_approval": tool.get("require_approval") or "always",
        }  # fmt: skip
    if tool["type"] == "namespace":
        return {
            "type": "namespace", "name": tool["name"], "description": tool.get("description") or "",
            "tools": [_echo_tool(one) for one in tool["tools"]],
        }  # fmt: skip
    return {
        "type": "function", "name": tool["name"], "description": tool.get("description"),
        "parameters": tool.get("parameters"), "strict": tool.get("strict") is True,
    }  # fmt: skip


def read_metadata(body: Mapping[str, Any]) -> dict[str, str]:
    """Return the validated ``metadata``.

    :raises ApiError: ``invalid_request``.
    """
    found = read_object(body, "metadata")
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


def _or_default(value: Any, default: Any) -> Any:
    return default if value is None else value


def _short(body: Mapping[str, Any], name: str) -> Any:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > MAX_VALUE_CHARS):
        raise refuse(f"{name} must be a string of at most {MAX_VALUE_CHARS} characters")
    return value

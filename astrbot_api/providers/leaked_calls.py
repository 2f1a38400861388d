"""Tool calls that an endpoint left in the text of its answer.

An endpoint without a parser for its model's format, or with a faulty one, passes the model's tags
on as text. Known formats: JSON (Qwen, Hermes), ``<function=…>`` (Qwen3-Coder), ``<arg_key>`` (GLM)
and ``<invoke …>`` (DeepSeek, MiniMax).
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Container, Iterator
from typing import Any

from ..agent.provider import ToolCallDelta

#: Tags around calls. DeepSeek begins all tags of the last one with a mark.
_MARK = "｜DSML｜"
_TAGS = ("tool_call", "function_calls", "minimax:tool_call", f"{_MARK}function_calls")

#: Maximum length of the calls, in characters.
_MAX_CHARS = 50_000

_FUNCTION = re.compile(r'<(?:invoke name=|function=)"?')
_PARAMETER = re.compile(r'<(?:parameter name=|parameter=|arg_key>)"?')
_NAME = re.compile(r'[^"<>\s]*')


def find_leaked_calls(text: str, names: Container[str]) -> tuple[int, list[ToolCallDelta]]:
    """Return the calls at the end of an answer, and the number of characters that they take there.

    Calls that are quoted, or with a name of no tool, are text.
    """
    end = text.rstrip()
    tag = next((one for one in _TAGS if end.endswith(f"</{one}>")), "")
    at = text.find(f"<{tag}>", max(0, len(end) - _MAX_CHARS)) if tag else -1
    if at < 0 or text.count("```", 0, at) % 2:
        return 0, []
    found = [
        ToolCallDelta(index, f"call_{uuid.uuid4().hex[:24]}", name, arguments)
        for index, (name, arguments) in enumerate(_read_calls(end[at:], tag))
    ]
    if not found or any(one.name not in names for one in found):
        return 0, []
    return len(text) - at, found


def _read_calls(text: str, tag: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the arguments of each call."""
    for block in text.split(f"<{tag}>")[1:]:
        inner = block.partition(f"</{tag}>")[0].replace(_MARK, "").strip()
        if inner[:1] == "{":
            yield _read_json(inner)
            continue
        for one in _FUNCTION.split(inner)[1:] if inner[:1] == "<" else [inner]:
            yield _read_name(one), _read_parameters(one)


def _read_json(text: str) -> tuple[str, str]:
    try:
        call: Any = json.loads(text, strict=False)
        arguments = call.get("arguments", call.get("parameters", {}))
        given = arguments if isinstance(arguments, str) else json.dumps(arguments)
        return str(call.get("name")), given
    except (ValueError, RecursionError):
        return "", ""


def _read_parameters(text: str) -> str:
    found = {}
    for one in _PARAMETER.split(text)[1:]:
        name = _read_name(one)
        rest = one[len(name) :].removeprefix("</arg_key>").partition(">")[2]
        found[name] = re.split("</(?:parameter|arg_value)>", rest, maxsplit=1)[0].strip("\n")
    return json.dumps(found)


def _read_name(text: str) -> str:
    name = _NAME.match(text)
    return name[0] if name else ""

"""Choice of the change that can fix a rejected request.

This module sends no request. :mod:`.quirks` has the patterns of error texts, and
:mod:`.request_adapter` applies the changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import quirks
from .plain_schemas import has_place, simplify_tool

#: Required fields of a request.
_NEEDED = frozenset({"model", "messages", "stream"})

#: Maximum length of an error text that is searched, in characters.
_MAX_CHARS = 8000

#: With a balance for fewer tokens, the answer would be cut off: the caller gets the error.
_MIN_AFFORDABLE = 500

#: Fields that limit the length of the answer.
_MAX_TOKENS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class Fix:
    """A change of the request.

    :param kind: Name of the change, see :class:`~.request_adapter.RequestAdapter`.
    :param name: The field or tool that the error names, if any.
    :param limit: For ``too_long``, the share of the conversation that fits, between 0 and 1.
        For other kinds, such as ``max_tokens``, the largest accepted value.
    """

    kind: str
    name: str = ""
    limit: float = 0.0


def find_fixes(status: int, text: str, body: Mapping[str, Any]) -> Iterator[Fix]:
    """Yield changes after which the endpoint may accept the request, the most likely first.

    :param text: The endpoint's error text, unchanged.
    """
    text = text[:_MAX_CHARS]
    if quirks.is_misread_call(text) or quirks.is_moderated(text):
        return
    if status == 402:
        yield from _find_affordable(text)
        return
    too_long = status == 413 or quirks.is_too_long(text)
    if status == 429 and not re.search(r"request too large", text, re.IGNORECASE):
        return
    if status not in (400, 404, 413, 415, 422, 429) and status < 500:
        return
    if quirks.SHORT_IDS.search(text):
        yield Fix("short_ids")
    yield from _find_max_tokens(text, body)
    if status == 413 and sum(has_images([one]) for one in body["messages"]) > 1:
        yield Fix("old_media")
    if too_long and not _find_tool(text, body.get("tools") or ()):
        yield Fix("too_long", limit=_find_share(text))
    if status >= 500 and not quirks.MEANT.search(text):
        return
    if body.get("stream") and quirks.NO_STREAM.search(text):
        yield Fix("no_stream")
    if quirks.WANTS_SIGNATURE.search(text):
        yield Fix("signature")
    if quirks.WANTS_REASONING.search(text):
        yield Fix("reasoning")
    if quirks.WANTS_RESPONSES.search(text):
        yield Fix("responses")
    if "tools" in body and quirks.NO_EFFORT.search(text):
        yield Fix("no_effort")
    if quirks.REFUSED.search(text):
        for name in body:
            if _is_distinct(name) and _names(text, name):
                yield Fix("field", name)
    yield from _find_in_tools(text, body)
    yield from _find_in_messages(text, body["messages"])
    if quirks.UNKNOWN_FIELD.search(text):
        yield from _find_unknown_fields(text, body)
    if quirks.STALE.search(text):
        yield Fix("stale")


def _find_max_tokens(text: str, body: Mapping[str, Any]) -> Iterator[Fix]:
    """Yield changes of the answer's length limit."""
    if quirks.WANTS_MAX_TOKENS.search(text) and not any(name in body for name in _MAX_TOKENS):
        yield Fix("wants_max_tokens")
    if re.search(r"use '?\"?`?max_completion_tokens", text, re.IGNORECASE) and "max_tokens" in body:
        yield Fix("max_completion_tokens")
    name = next((one for one in reversed(_MAX_TOKENS) if one in body and _names(text, one)), "")
    asked = body.get(name)
    if not name or not isinstance(asked, int):
        return
    lower = [one for one in map(int, re.findall(r"\d{2,9}", text)) if one < asked]
    if _CONTEXT.search(text):
        room = _find_room(text, asked)
        if room:
            yield Fix("max_tokens", limit=room)
    elif lower:
        yield Fix("max_tokens", limit=max(lower))
    elif name == "max_completion_tokens" and quirks.UNKNOWN_FIELD.search(text):
        yield Fix("old_max_tokens")


def _find_affordable(text: str) -> Iterator[Fix]:
    """Yield a shorter answer. OpenRouter reserves the price of the longest possible one."""
    found = re.search(r"can only afford (\d{1,9})", text)
    if found and int(found[1]) >= _MIN_AFFORDABLE:
        yield Fix("affordable", limit=int(found[1]))


#: Words of errors about a conversation and its answer together.
_CONTEXT = re.compile(r"context[_ ](length|limit)|max_new_tokens", re.IGNORECASE)

#: The model's limit for both. Source: Anthropic; vLLM, OpenRouter, SGLang; TGI.
_BOTH = re.compile(
    r"\d \+ \d+ > (\d{1,9})|context[_ ](?:length|limit)[^\d]{0,30}(\d{1,9})\b(?! \+)"
    r"|must be <= (\d{1,9})",
    re.IGNORECASE,
)


def _find_room(text: str, asked: int) -> int:
    """Return the length of an answer that fits behind a short conversation, or 0.

    A conversation of more than half of the limit is shortened instead.
    """
    found = _BOTH.search(text)
    limit = int(next(filter(None, found.groups()))) if found else 0
    numbers = set(map(int, re.findall(r"\d{2,9}", text))) - {asked, limit}
    used = max((one for one in numbers if limit - asked < one < limit), default=limit)
    return int((limit - used) * 0.9) if used <= limit // 2 else 0


def _find_in_tools(text: str, body: Mapping[str, Any]) -> Iterator[Fix]:
    tools = body.get("tools") or ()
    if not tools and quirks.WANTS_TOOLS.search(text):
        yield Fix("calls_as_text")
    unnamed = any(one["role"] == "tool" and not one.get("name") for one in body["messages"])
    if unnamed and quirks.WANTS_TOOL_NAME.search(text) and not re.search(r"tools[.\[]", text):
        yield Fix("tool_names")
    said = quirks.leave_out_echo(text)
    if long := quirks.LONG_DESCRIPTION.search(said):
        yield Fix("description", limit=int(long[1]))
    many = quirks.TOO_MANY_TOOLS.search(said)
    if many and 0 < (limit := int(next(filter(None, many.groups())))) < len(tools):
        yield Fix("max_tools", limit=limit)
    yield from _find_in_schemas(text, tools)
    patterns = (quirks.NO_TOOLS, quirks.NO_PARSER, quirks.BAD_SCHEMA)
    if tools and any(one.search(text) for one in patterns):
        yield Fix("no_tools")


def _find_in_schemas(text: str, tools: Sequence[Mapping[str, Any]]) -> Iterator[Fix]:
    tool = _find_tool(text, tools)
    strict = any("strict" in one.get("function", ()) for one in tools)
    if strict and (tool or re.search(r"\bstrict\b", text)):
        yield Fix("no_strict")
    refused = [one for one in tools if name_of(one) == tool] if tool else tools
    is_refused = tool or quirks.NO_GRAMMAR.search(text) or quirks.BAD_SCHEMA.search(text)
    if is_refused and any(simplify_tool(one) != one for one in refused):
        yield Fix("plain_schemas")
    if tool:
        yield Fix("tool", tool)
    elif place := quirks.SCHEMA_PLACE.search(text):
        for one in tools:
            if name_of(one) and has_place(one, place[1] or place[2]):
                yield Fix("tool", name_of(one))


def _find_in_messages(text: str, messages: Sequence[Mapping[str, Any]]) -> Iterator[Fix]:
    if any(isinstance(one.get("content"), list) for one in messages):
        if limit := _find_image_limit(text):
            yield Fix("max_images", limit=limit)
        unsupported = re.search(r"(does|do|is) not support|n't support", text)
        if quirks.BAD_FORMAT.search(text) or (quirks.BAD_IMAGE.search(text) and not unsupported):
            yield Fix("bad_media")
        for kind, pattern in (("no_images", quirks.NO_IMAGES), ("no_audio", quirks.NO_AUDIO)):
            if pattern.search(text):
                yield Fix(kind)
        if quirks.NO_PARTS.search(text):
            yield Fix("no_media")
    if any(one["role"] in ("system", "developer") for one in messages) and quirks.NO_SYSTEM.search(
        text
    ):
        yield Fix("no_system")
    ends = [one["role"] for one in messages[-1:]]
    if ends == ["assistant"] and quirks.NO_PREFILL.search(text):
        yield Fix("no_prefill")
    if quirks.ALTERNATE.search(text):
        yield Fix("strict_roles")
    steps = [one for one in messages if one.get("tool_calls")]
    if steps and quirks.UNTHOUGHT.search(text):
        yield Fix("unthought")
    if steps and quirks.WANTS_OBJECT.search(text):
        yield Fix("object_results")
    if steps and quirks.WANTS_TEXT.search(text):
        yield Fix("no_null")
        yield Fix("filled")


def _find_image_limit(text: str) -> int:
    """Return the number of images that the endpoint accepts, or 0 if the error is about others."""
    found = quirks.IMAGE_LIMIT.search(text) if quirks.TOO_MANY_IMAGES.search(text) else None
    return int(next(filter(None, found.groups()))) if found else 0


def _find_unknown_fields(text: str, body: Mapping[str, Any]) -> Iterator[Fix]:
    for name in body:
        if name not in _NEEDED and _names(text, name):
            yield Fix("field", name)
    for message in body["messages"]:
        for name in message:
            if name not in ("role", "content", "tool_calls", "tool_call_id") and _names(text, name):
                yield Fix("message_field", name)
        for call in message.get("tool_calls") or ():
            for name in call:
                if name not in ("id", "type", "function") and _names(text, name):
                    yield Fix("call_field", name)


def _is_distinct(name: str) -> bool:
    """Return whether a field's name is not an ordinary word, so that it may be dropped.

    ``response_format`` is never dropped, because the answer would have the wrong format.
    """
    return ("_" in name or name == "temperature") and name != "response_format"


#: Alternative names of a field in error texts.
_INNER_NAMES = {
    "stream_options": "|include_usage",
    # Ollama; Gemini; OpenRouter.
    "reasoning_effort": "|think value|not support thinking|thinking level"
    "|only works in thinking mode|reasoning is mandatory",
}


def _names(text: str, name: str) -> bool:
    """Return whether a text names a field, also with spaces or in camel case."""
    loose = re.escape(name).replace("_", "[_ ]?") + _INNER_NAMES.get(name, "")
    flags = re.IGNORECASE if "_" in name else 0
    return bool(re.search(rf"(?<![A-Za-z0-9_])(?:{loose})(?![A-Za-z0-9_])", text, flags))


def name_of(tool: Mapping[str, Any]) -> str:
    """Return a tool's name, or an empty string for an endpoint's own tool without a function."""
    return str((tool.get("function") or {}).get("name") or "")


def _find_tool(text: str, tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of the rejected tool, or an empty string if the text names none."""
    if not tools or not quirks.SCHEMA.search(text):
        return ""
    names = list(map(name_of, tools))
    # Longest first, because a name may be part of another name.
    for name in sorted(filter(None, names), key=len, reverse=True):
        if re.search(rf"['\"`]{re.escape(name)}['\"`]", text):
            return name
    place = next(filter(None, (one.search(text) for one in quirks.TOOL_PLACES)), None)
    if place and int(place[1]) < len(names):
        return names[int(place[1])]
    named = re.search(r"(?:tool|function)\s+([A-Za-z0-9_-]{1,64})", text)
    return named[1] if named and named[1] in names else ""


def _find_share(text: str) -> float:
    """Return the share of the request that fits, or 0 if the error names no numbers."""
    found = quirks.LIMIT.search(text)
    if found is None:
        return 0.0
    limit = int((found[1] or found[2]).replace(",", ""))
    numbers = (int(one.replace(",", "")) for one in re.findall(r"\b\d[\d,]{2,12}\b", text))
    # Far larger numbers are times and ids.
    asked = max((one for one in numbers if limit < one < 20 * limit), default=0)
    return limit / asked if asked else 0.0


def has_images(messages: Sequence[Mapping[str, Any]]) -> bool:
    contents = (one["content"] for one in messages if isinstance(one.get("content"), list))
    return any(part.get("type") == "image_url" for content in contents for part in content)

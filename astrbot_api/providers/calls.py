"""Puts the tool calls of one answer together.

Endpoints send them in pieces, or whole; without an index, or all under index 0;
without ids, or with one id twice; with a name in pieces, or in every piece.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..agent.provider import ToolCallDelta
from .attached import merge_fields

#: Members of a call that are understood; all others go back as they came.
_KNOWN = frozenset(
    {"index", "id", "type", "function", "custom", "name", "arguments", "input", "parameters"}
)

#: Where the arguments stand: OpenAI, Anthropic, models that write what they were shown.
_ARGUMENTS = ("arguments", "input", "parameters")

_KNOWN_IN_FUNCTION = frozenset({"name", *_ARGUMENTS})


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


class CallCollector:
    """Takes pieces of calls and gives each call once, whole.

    :param names: The tools that the model was offered.
    """

    def __init__(self, names: Container[str] = ()) -> None:
        self._names = names
        self._calls: list[_Call] = []
        self._place_of: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, piece: Mapping[str, Any]) -> None:
        """Take one member of ``tool_calls``, or one ``function_call``."""
        function = _find_function(piece)
        name, call_id = _text(function.get("name")), _text(piece.get("id"))
        arguments = _to_json_text(_find_arguments(function))
        call = self._find(_read_index(piece.get("index")), call_id, name, arguments)
        if call.id and call.id == call_id and arguments and arguments == call.arguments:
            return  # a last chunk that repeats the whole call
        call.id = call.id or call_id
        _add_name(call, name)
        if _replaces(call.arguments, arguments, bool(call_id or name)):
            call.arguments = arguments
        else:
            call.arguments += arguments
        extra = {key: value for key, value in piece.items() if key not in _KNOWN}
        more = {key: value for key, value in function.items() if key not in _KNOWN_IN_FUNCTION}
        if more:
            extra["function"] = more
        if extra:
            merge_fields(call.extra, extra)

    def finish(self) -> tuple[list[ToolCallDelta], list[dict[str, Any]]]:
        """Return the calls, each with an id of its own, and the unknown fields of each."""
        found: list[ToolCallDelta] = []
        extras: list[dict[str, Any]] = []
        seen: set[str] = set()
        for call in self._calls:
            for at, arguments in enumerate(_split_objects(_whole(call.arguments))):
                call_id = _whole(call.id)
                if at or not call_id or call_id in seen:
                    call_id = f"call_{uuid.uuid4().hex[:24]}"
                seen.add(call_id)
                name = _find_name(_whole(call.name), self._names)
                found.append(ToolCallDelta(len(found), call_id, name, arguments))
                extras.append({} if at else call.extra)
        return found, extras

    def _find(self, index: int | None, call_id: str, name: str, arguments: str) -> _Call:
        """Return the call to which a piece belongs, or begin a new one."""
        known = self._find_known(index, call_id, name)
        if known is not None and not _begins_another(known, call_id, name, arguments):
            return known
        made = _Call()
        self._calls.append(made)
        if index is not None:
            self._place_of[index] = len(self._calls) - 1
        return made

    def _find_known(self, index: int | None, call_id: str, name: str) -> _Call | None:
        if index is not None:
            place = self._place_of.get(index)
            return None if place is None else self._calls[place]
        for call in self._calls:
            if call_id and call.id == call_id:
                return call
        return None if call_id or name or not self._calls else self._calls[-1]


def _find_function(piece: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what has the name and the arguments of a call, maybe the call itself."""
    for key in ("function", "custom"):
        function = piece.get(key)
        if isinstance(function, dict):
            return function
    return {key: piece[key] for key in ("name", *_ARGUMENTS) if key in piece}


def _find_arguments(function: Mapping[str, Any]) -> Any:
    return next((function[key] for key in _ARGUMENTS if function.get(key) is not None), None)


def _replaces(before: str, now: str, named: bool) -> bool:
    """Return whether a piece of arguments is all of them, and no piece.

    Some relays begin each call with ``{}``; others send all that has come so far, with the
    name or the id of the call each time.
    """
    if before.strip() == "{}":
        return now.lstrip()[:1] == "{" and not named
    return named and before[:1] == "{" and len(now) > len(before) and now.startswith(before)


def _find_name(name: str, names: Container[str]) -> str:
    """Return the tool that a model means: some write a namespace, a number or a token with it."""
    if name in names:
        return name
    short = name.partition("<|")[0].strip()
    short = re.sub(r":\d+$", "", re.sub(r"^(functions|default_api|tools)[.:]", "", short))
    return short if short in names else name


def _read_index(value: Any) -> int | None:
    """Return the index of a call; some endpoints write it as a text or as ``0.0``."""
    try:
        return int(float(value)) if isinstance(value, (int, float, str)) else None
    except (ValueError, OverflowError):
        return None


def _begins_another(call: _Call, call_id: str, name: str, arguments: str) -> bool:
    """Return whether a piece under the index of a call is the beginning of another one."""
    if name and call_id and call.id and call_id != call.id:
        return True
    if call_id and call_id == call.id:
        return False
    return bool(name and arguments) and _is_object(call.arguments)


def _add_name(call: _Call, name: str) -> None:
    """Add a piece of a name; one that is repeated, or grows from its beginning, is no piece."""
    if name.startswith(call.name):
        call.name = name
    elif not call.arguments:
        call.name += name


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text, strict=False), dict)
    except (ValueError, RecursionError):
        return False


def _split_objects(text: str) -> list[str]:
    """Return the arguments of each call that an endpoint has merged into one."""
    if "}" not in text.rstrip()[:-1]:
        return [text]
    try:
        found = list(_iter_objects(text))
    except (ValueError, RecursionError):
        return [text]
    return list(dict.fromkeys(found)) or [text]


def _iter_objects(text: str) -> Iterator[str]:
    """Yield the JSON objects that a text consists of.

    :raises ValueError: when there is anything else in it.
    """
    decoder, at = json.JSONDecoder(strict=False), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        value, end = decoder.raw_decode(text, at)
        if not isinstance(value, dict):
            raise ValueError("not an object")
        yield text[at:end]
        at = end


def _to_json_text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _whole(text: str) -> str:
    """Join the surrogate pairs of a text; a half without its other is U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

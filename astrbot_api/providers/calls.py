"""Assembly of the tool calls of one answer.

Some endpoints send calls in pieces, others whole. Indexes may be missing or
all 0. Ids may be missing or repeated. Names may be split or repeated.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from itertools import islice
from typing import Any

from ..agent.provider import ToolCallDelta
from ..errors import ProviderError
from ..event_lines import join_surrogates
from .attached import MAX_CHARS, join_pieces, merge_fields
from .shapes import to_text

#: Fields of a call that are parsed. Other fields are sent back unchanged.
_KNOWN = frozenset(
    {"index", "id", "type", "function", "custom", "name", "arguments", "input", "parameters"}
)

#: Fields of the arguments: OpenAI, Anthropic, models that copy a tool's schema.
_ARGUMENTS = ("arguments", "input", "parameters")

_KNOWN_IN_FUNCTION = frozenset({"name", *_ARGUMENTS})

#: Limits of one answer. A model in a loop writes calls, or the arguments of one, without end.
_MAX_CALLS = 1000
_MAX_CHARS = 2_000_000

#: Maximum length of an id. Gateways put Gemini's signatures into ids. A longer one is replaced.
_MAX_ID_CHARS = 100_000

#: Maximum length of a name.
_MAX_NAME_CHARS = 1000

#: Arguments up to this length may still be an empty object and spaces.
_EMPTY_CHARS = 100


@dataclass(slots=True)
class _Call:
    """A call that arrives in pieces. Adding strings would take quadratic time.

    :ivar end: The last character of the arguments that is no space.
    """

    id: str = ""
    name: str = ""
    arguments: StringIO = field(default_factory=StringIO)
    end: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def add(self, arguments: str) -> None:
        self.arguments.write(arguments)
        self.end = arguments.rstrip()[-1:] or self.end

    def repeats(self, arguments: str) -> bool:
        return len(arguments) == self.arguments.tell() and arguments == self.arguments.getvalue()

    def is_object(self) -> bool:
        if self.end != "}":
            return False
        try:
            return isinstance(json.loads(self.arguments.getvalue(), strict=False), dict)
        except (ValueError, RecursionError):
            return False


class CallCollector:
    """Assembles complete calls from their pieces.

    :param names: Names of the tools in the request.
    """

    def __init__(self, names: Container[str]) -> None:
        self._names = names
        self._calls: list[_Call] = []
        self._call_of: dict[int | str, _Call] = {}  # by index or id
        self._parsed_chars = 0
        self._chars = 0  # of all arguments
        self._extra_chars = 0  # of all unknown fields

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, piece: Mapping[str, Any]) -> None:
        """Add one item of ``tool_calls``, or one ``function_call``.

        :raises ProviderError: for too many calls, or too long ones.
        """
        function = _find_function(piece)
        name = to_text(function.get("name"))[:_MAX_NAME_CHARS]
        call_id = to_text(piece.get("id"))
        if len(call_id) > _MAX_ID_CHARS:
            call_id = ""
        given = (function[key] for key in _ARGUMENTS if function.get(key) is not None)
        arguments = to_json_text(next(given, None))
        call = self._find(read_index(piece.get("index")), call_id, name, arguments)
        if call.id and call.id == call_id and arguments and call.repeats(arguments):
            return  # some endpoints repeat the whole call in the last chunk
        if call_id and not call.id:
            call.id = call_id
            self._chars += len(call_id)
            self._call_of.setdefault(call_id, call)
        _add_name(call, name)
        self._chars -= call.arguments.tell()
        if _replaces(call.arguments, arguments, bool(call_id or name)):
            call.arguments = StringIO()
        call.add(arguments)
        self._chars += call.arguments.tell()
        _check_size(len(self._calls), self._chars)
        extra = {key: value for key, value in piece.items() if key not in _KNOWN}
        more = {key: value for key, value in function.items() if key not in _KNOWN_IN_FUNCTION}
        if more:
            extra["function"] = more
        if extra and self._extra_chars < MAX_CHARS:
            self._extra_chars += merge_fields(call.extra, extra)

    def finish(self) -> tuple[list[ToolCallDelta], list[dict[str, Any]]]:
        """Return the calls with unique ids, and the unknown fields of each call.

        :raises ProviderError: for too many calls.
        """
        found: list[ToolCallDelta] = []
        extras: list[dict[str, Any]] = []
        seen: set[str] = set()
        for call in self._calls:
            for at, arguments in enumerate(
                _split_objects(join_surrogates(call.arguments.getvalue()))
            ):
                call_id = join_surrogates(call.id)
                if at or not call_id or call_id in seen:
                    call_id = f"call_{uuid.uuid4().hex[:24]}"
                seen.add(call_id)
                name = _find_name(join_surrogates(call.name), self._names)
                found.append(ToolCallDelta(len(found), call_id, name, arguments))
                _check_size(len(found), 0)
                extras.append({} if at else join_pieces(call.extra))
        return found, extras

    def _find(self, index: int | None, call_id: str, name: str, arguments: str) -> _Call:
        """Return the call that a piece belongs to, or add a new call."""
        known = self._find_known(index, call_id, name)
        if known is not None and not self._begins_another(known, call_id, name, arguments):
            return known
        made = _Call()
        self._calls.append(made)
        if index is not None:
            self._call_of[index] = made
        return made

    def _find_known(self, index: int | None, call_id: str, name: str) -> _Call | None:
        if index is not None:
            known = self._call_of.get(index)
            if known is not None and known.id != call_id:  # pieces of several calls alternate
                known = self._call_of.get(call_id, known)
            return known
        if call_id in self._call_of:
            return self._call_of[call_id]
        last = self._calls[-1] if self._calls else None
        return None if name or (call_id and last and last.id) else last

    def _begins_another(self, call: _Call, call_id: str, name: str, arguments: str) -> bool:
        """Return whether a piece with a known index starts another call."""
        if name and call_id and call.id and call_id != call.id:
            return True
        if call_id and call_id == call.id:
            return False
        if name != call.name and name in self._names and call.name in self._names:
            return True  # two calls without arguments
        # Parsing at each piece would take quadratic time.
        if not name or arguments.lstrip()[:1] != "{" or self._parsed_chars > _MAX_CHARS:
            return False
        self._parsed_chars += call.arguments.tell()
        return call.is_object()


def _check_size(calls: int, chars: int) -> None:
    if calls > _MAX_CALLS or chars > _MAX_CHARS:
        raise ProviderError(
            "The model wrote tool calls without end: more than "
            f"{_MAX_CALLS} calls, or {_MAX_CHARS} characters of arguments, in one answer."
        )


def _find_function(piece: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object with the name and arguments of a call, maybe the call itself."""
    for key in ("function", "custom"):
        function = piece.get(key)
        if isinstance(function, dict):
            return function
    return {key: piece[key] for key in ("name", *_ARGUMENTS) if key in piece}


def _replaces(before: StringIO, now: str, named: bool) -> bool:
    """Return whether a piece replaces the arguments received before it.

    Some relays start each call with ``{}``. Others repeat the name or id of the call and all
    arguments so far in each piece.
    """
    chars = before.tell()
    if chars <= _EMPTY_CHARS and before.getvalue().strip() == "{}":
        return now.lstrip()[:1] == "{" and not named
    return named and len(now) > chars and now[:1] == "{" and now.startswith(before.getvalue())


def _find_name(name: str, names: Container[str]) -> str:
    """Return the tool's name without a namespace, number or token that some models add."""
    if name in names:
        return name
    short = name.partition("<|")[0].strip()
    short = re.sub(r":\d+$", "", re.sub(r"^(functions|default_api|tools)[.:]", "", short))
    return short if short in names else name


def read_index(value: Any) -> int | None:
    """Return the index of a call. Some endpoints send a string or ``0.0``."""
    try:
        return int(float(value)) if isinstance(value, (int, float, str)) else None
    except (ValueError, OverflowError):
        return None


def _add_name(call: _Call, name: str) -> None:
    """Add a piece of a name, or replace the name if the piece repeats it from its start."""
    if name.startswith(call.name):
        call.name = name
    elif not call.arguments.tell() and len(call.name) < _MAX_NAME_CHARS:
        call.name += name


def _split_objects(text: str) -> list[str]:
    """Split the arguments of several calls that an endpoint merged into one call."""
    if "}" not in text.rstrip()[:-1]:
        return [text]
    try:
        found = list(islice(_iter_objects(text), _MAX_CALLS + 1))
    except (ValueError, RecursionError):
        return [text]
    return list(dict.fromkeys(found)) or [text]


def _iter_objects(text: str) -> Iterator[str]:
    """Yield the JSON objects of a text in order.

    :raises ValueError: when the text contains anything else.
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


def to_json_text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return ""

"""The tools of one turn, and running their calls.

A failure (unknown name, invalid arguments, an exception, a timeout) becomes the call's result for
the model, and the turn continues.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import orjson

from ..config.agents import ToolSettings
from ..errors import RunCancelled, ToolError
from ..runtime.bounded_json import load_json
from ..runtime.tracing import current_span, working_on
from .abandonable import AbandonableCalls, CallTimedOut, TooManyAbandoned
from .provider import ToolSpec
from .tool_limits import ToolBudget
from .tools import Tool, ToolContext

log = logging.getLogger(__name__)

#: Maximum number of tools that endpoints accept. Source: OpenAI's API reference, "tools".
MAX_TOOLS = 128

_DEFAULT_LIMITS = ToolSettings()


class Toolbox:
    """The tools of one turn.

    :param tools: Tools. The first of two with the same name wins.
    :param allow: Patterns (``*``, ``mcp.*``) of the names to offer.
    :param deny: Patterns of the names to exclude, even if allowed.
    :param approve: Patterns of the tools whose calls a person must approve.
    :param key_allow: Patterns of the turn's API key. Both must allow a tool.
    :param timeout_s: Time limit of a call, unless the tool has its own.
    :param max_chars: Maximum length of a result. Longer results are truncated.
    :param max_tools: Maximum number of tools to offer, since endpoints refuse more.
    :param limits: The config's limits of a turn, reduced to the key's.
    :param asides: Runs the calls. It belongs to the application, to count abandoned calls over all
        turns.
    """

    def __init__(
        self,
        tools: Iterable[Tool] = (),
        *,
        allow: Sequence[str] = ("*",),
        deny: Sequence[str] = (),
        approve: Sequence[str] = (),
        key_allow: Sequence[str] = ("*",),
        timeout_s: float = 60.0,
        max_chars: int = 20_000,
        max_tools: int = MAX_TOOLS,
        limits: ToolSettings = _DEFAULT_LIMITS,
        asides: AbandonableCalls | None = None,
    ) -> None:
        self._tools: dict[str, Tool] = {}
        rules = tuple(allow), tuple(deny), tuple(key_allow)
        for tool in tools:
            named = not tool.by_name_only or tool.name in allow
            if named and is_allowed(tool.name, *rules):
                self._tools.setdefault(tool.name, tool)
        #: Names of the tools beyond the limit, in order.
        self.left_out = tuple(self._tools)[max_tools:]
        for name in self.left_out:
            del self._tools[name]
        self._max_tools = max_tools
        self._offered = tuple(self._tools)
        #: Usage of the turn's calls.
        self.budget = ToolBudget(limits)
        self._approve = approve
        self._timeout_s = timeout_s
        self._max_chars = max_chars
        self._asides = asides or AbandonableCalls()

    def to_specs(self, caller_tools: Sequence[ToolSpec] = ()) -> list[ToolSpec]:
        """Return all descriptions for the model: the tools in order, then those of the caller.

        Errors about unknown tools then list these names.

        :param caller_tools: They replace tools of the same name, and count towards ``max_tools``.
        """
        replaced = {spec["function"]["name"] for spec in caller_tools}
        own = [tool.to_spec() for name, tool in self._tools.items() if name not in replaced]
        specs = [*own[: max(0, self._max_tools - len(caller_tools))], *caller_tools]
        self._offered = tuple(spec["function"]["name"] for spec in specs)
        return specs

    def may_repeat(self, name: str) -> bool:
        """Return whether a call of a tool may be repeated after its result was lost."""
        tool = self._tools.get(name)
        # A missing tool has no effects.
        return tool is None or tool.retry == "safe"

    def must_wait(self, name: str, earlier: str) -> bool:
        """Return whether a call must wait for an earlier call of the same step."""
        tool, other = self._tools.get(name), self._tools.get(earlier)
        if tool is None or other is None or not tool.sequence:
            return False
        return tool.sequence == other.sequence and not (tool.reads_only and other.reads_only)

    def needs_approval(self, name: str, arguments: str) -> bool:
        """Return whether a person must approve a call. Impossible calls need no approval."""
        tool = self._tools.get(name)
        if tool is None or not (tool.needs_approval or _matches(name, self._approve)):
            return False
        values = _read(tool, arguments)
        return values is not None and not tool.find_fault(values)

    def count_earlier_call(self, name: str, arguments: str, result: str) -> None:
        """Count a call that another worker made in this turn."""
        tool = self._tools.get(name)
        values = _read(tool, arguments) if tool else None
        if values is not None and not self.budget.refuse(name, values):
            self.budget.count(name, values, result, 0.0)

    def run(self, name: str, arguments: str, context: ToolContext, call_id: str = "") -> str:
        """Run one call and return the result for the model.

        :param arguments: JSON text of the arguments from the model.
        :param call_id: The call's id, for its idempotency key.
        :raises RunCancelled: if the turn is cancelled meanwhile.
        """
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join(self._offered) or "none"
            return f"error: there is no tool named {name}; the tools are: {known}"
        values = _read(tool, arguments)
        if values is None:
            return "error: the arguments are not a JSON object"
        if fault := tool.find_fault(values):
            return _shorten(f"error: bad arguments: {fault}", self._max_chars)
        if why := self.budget.refuse(tool.name, values):
            return f"error: {why}"
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool.name}
        begun = context.span.begin(f"execute_tool {tool.name}", "INTERNAL", attributes)
        started = time.monotonic()
        with working_on(begun) as span:
            result = self._call(tool, values, context.to_call(call_id, span))
        result = _shorten(result, self._max_chars)
        return self.budget.count(tool.name, values, result, time.monotonic() - started)

    def _call(self, tool: Tool, values: dict[str, Any], context: ToolContext) -> str:
        """Run the tool aside, so that a tool that never returns cannot block the turn."""
        timeout_s = self._timeout_s if tool.timeout_s is None else tool.timeout_s
        try:
            result = self._asides.run(
                f"the tool {tool.name}",
                lambda cancel: tool.call(values, replace(context, cancel=cancel)),
                timeout_s=timeout_s,
                cancel=context.cancel,
            )
            return _as_text(result)
        except (CallTimedOut, TooManyAbandoned, ToolError) as error:
            if not isinstance(error, ToolError):
                log.error("%s", error)
            current_span().fail(type(error).__name__)
            return f"error: {error}"
        except Exception as error:
            context.cancel.raise_if_cancelled()
            if not isinstance(error, RunCancelled):
                log.exception("tool %s failed", tool.name)
            current_span().fail(type(error).__name__)
            return f"error: the tool {tool.name} failed: {type(error).__name__}"


def _read(tool: Tool, arguments: str) -> dict[str, Any] | None:
    """Return a call's arguments for a tool, or None if they are not a JSON object."""
    try:
        return tool.read_arguments(parse_arguments(arguments))
    except ValueError:
        return None


def parse_arguments(text: str) -> dict[str, Any]:
    """Parse a call's arguments. An empty text means no arguments.

    Some models encode the object twice, or leave raw line breaks in its strings.

    :raises ValueError: if the text is not a JSON object.
    """
    value: Any = text
    for _ in range(3):
        if not isinstance(value, str):
            break
        value = _load_lenient(value) if value.strip() else {}
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _load_lenient(text: str) -> Any:
    fenced = re.match(r"\s*+```(?:json)?(?=\s)", text)
    if fenced and text.rstrip().endswith("```"):
        text = text[fenced.end() :].rstrip().removesuffix("```").strip()
    try:
        return load_json(text)
    except orjson.JSONDecodeError:
        pass
    try:
        value = json.loads(text, strict=False, parse_constant=lambda name: None)
        # Events and databases reject half of a surrogate pair, and long integers.
        return orjson.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


@lru_cache(maxsize=4096)  # each turn asks for each tool
def is_allowed(
    name: str, allow: tuple[str, ...], deny: tuple[str, ...], key_allow: tuple[str, ...]
) -> bool:
    """Return whether patterns allow a name; see :class:`Toolbox`."""
    return _matches(name, allow) and _matches(name, key_allow) and not _matches(name, deny)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return "*" in patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _as_text(result: Any) -> str:
    if not isinstance(result, str):
        try:
            return orjson.dumps(result, _to_json_type, orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:
            # orjson has neither integers of more than 64 bits nor half of a surrogate pair.
            result = json.dumps(result, default=_to_json_type, ensure_ascii=False)
    # Events and databases reject half of a surrogate pair.
    return str(result.encode("utf-8", "replace").decode())


def _to_json_type(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, Decimal | PurePath):
        return str(value)
    raise TypeError(f"a tool's result cannot contain {type(value).__name__}; return text or JSON")


def _shorten(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    return f"{text[:max_chars]}\n[cut: the result has {len(text)} characters]"

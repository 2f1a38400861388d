"""Tools: what the model may call, and how a call is carried out.

Whatever goes wrong (an unknown name, arguments that are not JSON or do not
fit the schema, an exception, a call that takes too long) is told to the model
as the tool's result, and the turn goes on.
"""

from __future__ import annotations

import fnmatch
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from .cancel import Cancellation
from .provider import ToolSpec

log = logging.getLogger(__name__)

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of the turn that calls it."""

    username: str
    session_id: str
    config_id: str
    cancel: Cancellation


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call.

    :param name: Unique; letters, digits, ``_``, ``-`` and ``.``.
    :param description: Tells the model when to call it.
    :param call: Takes the arguments and the context, returns the result as
        text. It runs in a thread of its own (a greenlet under gevent), so it
        may block in network calls, but not compute for long.
    :param parameters: JSON schema of the arguments, an object.
    """

    name: str
    description: str
    call: Callable[[Mapping[str, Any], ToolContext], str]
    parameters: Mapping[str, Any] = field(default_factory=lambda: dict(_NO_PARAMETERS))

    def __post_init__(self) -> None:
        try:
            Draft202012Validator.check_schema(self.parameters)
        except SchemaError as error:
            raise ValueError(f"tool {self.name}: bad parameters: {error.message}") from error

    def to_spec(self) -> ToolSpec:
        """Return the description that a model is given."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": dict(self.parameters),
            },
        }


class Toolbox:
    """The tools of one turn.

    :param allow: Patterns (``*``, ``mcp.*``) of the names that are offered.
    :param deny: Patterns that win over ``allow``.
    """

    def __init__(
        self,
        tools: Iterable[Tool] = (),
        *,
        allow: Sequence[str] = ("*",),
        deny: Sequence[str] = (),
        timeout_s: float = 60.0,
        max_chars: int = 20_000,
    ) -> None:
        self._tools = {
            tool.name: tool
            for tool in tools
            if _matches(tool.name, allow) and not _matches(tool.name, deny)
        }
        self._timeout_s = timeout_s
        self._max_chars = max_chars

    def to_specs(self) -> list[ToolSpec]:
        """Return what the model is told of the tools, in order."""
        return [tool.to_spec() for tool in self._tools.values()]

    def run(self, name: str, arguments: str, context: ToolContext) -> str:
        """Carry out one call and return what the model is told.

        :param arguments: JSON text of the arguments, as the model wrote it.
        :raises RunCancelled: when the turn is cancelled meanwhile.
        """
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return f"error: there is no tool named {name}; the tools are: {known}"
        try:
            values = parse_arguments(arguments)
        except ValueError:
            return "error: the arguments are not a JSON object"
        fault = _find_fault(tool, values)
        if fault:
            return f"error: bad arguments: {fault}"
        return _shorten(self._call(tool, values, context), self._max_chars)

    def _call(self, tool: Tool, values: dict[str, Any], context: ToolContext) -> str:
        """Run the tool aside, so that one that never returns cannot hold the turn."""
        done = threading.Event()
        outcome: list[str] = []

        def work() -> None:
            try:
                outcome.append(_as_text(tool.call(values, context)))
            except Exception as error:
                log.exception("tool %s failed", tool.name)
                outcome.append(f"error: the tool {tool.name} failed: {type(error).__name__}")
            finally:
                done.set()

        threading.Thread(target=work, name=f"tool-{tool.name}", daemon=True).start()
        with context.cancel.on_cancel(done.set):
            finished = done.wait(self._timeout_s)
        if outcome:
            return outcome[0]
        context.cancel.raise_if_cancelled()
        if not finished:
            log.error("tool %s did not answer within %g s", tool.name, self._timeout_s)
        return f"error: the tool {tool.name} did not answer within {self._timeout_s:g} s"


def parse_arguments(text: str) -> dict[str, Any]:
    """Read a call's arguments; nothing at all means none.

    :raises ValueError: when the text is not a JSON object.
    """
    value = orjson.loads(text) if text.strip() else {}
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _find_fault(tool: Tool, values: dict[str, Any]) -> str:
    errors = Draft202012Validator(tool.parameters).iter_errors(values)
    first = next(iter(sorted(errors, key=lambda one: list(map(str, one.path)))), None)
    if first is None:
        return ""
    where = ".".join(map(str, first.path))
    return f"{where}: {first.message}" if where else first.message


def _as_text(result: Any) -> str:
    return result if isinstance(result, str) else orjson.dumps(result).decode()


def _shorten(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    return f"{text[:max_chars]}\n[cut: the result has {len(text)} characters]"

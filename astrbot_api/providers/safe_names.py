"""Tool names as OpenAI-compatible endpoints take them.

They take letters, digits, ``_`` and ``-`` only, 64 at most, in the list of
tools and in the calls of a conversation (Source: OpenAI's API reference,
chat completions, ``tools[].function.name``). Ours may have dots, as
``server.tool`` has, and may be longer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..agent.provider import Delta, ModelMessage, ModelOptions, Provider, ToolCallDelta, ToolSpec

_MAX_CHARS = 64
_SAFE = re.compile(r"[A-Za-z0-9_-]{1,64}")


def to_safe_name(name: str) -> str:
    """Return the name for the endpoint; the same for the same name.

    A dot becomes ``__``. What else is changed gets a mark that keeps two
    names apart.
    """
    if _SAFE.fullmatch(name):
        return name
    safe = _replace(name)
    if len(safe) <= _MAX_CHARS and re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        return safe
    return _mark(name)


def _replace(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name.replace(".", "__"))


def _mark(name: str) -> str:
    mark = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{_replace(name)[: _MAX_CHARS - 9]}_{mark}"


class SafeNames:
    """A provider before which every tool's name is made safe, and after which it is not.

    :param provider: Sees safe names only.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def stream(
        self, messages: Sequence[ModelMessage], tools: Sequence[ToolSpec], options: ModelOptions
    ) -> Iterator[Delta]:
        """Yield the answer, its calls under the names that the tools have here."""
        names: dict[str, str] = {}
        offered = [_rename_spec(spec, names) for spec in tools]
        given = [_rename_calls(message) for message in messages]
        deltas = self._provider.stream(given, offered, options)
        try:
            for delta in deltas:
                if isinstance(delta, ToolCallDelta) and delta.name in names:
                    delta = replace(delta, name=names[delta.name])
                yield delta
        finally:
            close = getattr(deltas, "close", None)  # any iterator will do; not all have it
            if close is not None:
                close()


def _rename_spec(spec: ToolSpec, names: dict[str, str]) -> ToolSpec:
    """Return the tool under a safe name that no other one has; note it in ``names``."""
    name = spec["function"]["name"]
    safe = to_safe_name(name)
    if safe in names:
        safe = _mark(name)
    names[safe] = name
    if safe == name:
        return spec
    return {**spec, "function": {**spec["function"], "name": safe}}


def _rename_calls(message: ModelMessage) -> ModelMessage:
    calls = message.get("tool_calls")
    if not calls or all(_SAFE.fullmatch(call["function"]["name"]) for call in calls):
        return message
    renamed = [
        {**call, "function": {**call["function"], "name": to_safe_name(call["function"]["name"])}}
        for call in calls
    ]
    return {**message, "tool_calls": renamed}

"""Tool names that OpenAI-compatible endpoints accept.

Endpoints accept up to 64 letters, digits, ``_`` and ``-`` in tools and tool calls.
Source: OpenAI's API reference, chat completions, ``tools[].function.name``. Gemini and Moonshot
reject all tools if one begins with a digit or ``-``. Names on this server may be longer and
contain dots, for example ``server.tool``.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..agent.provider import (
    Delta,
    Finished,
    ModelMessage,
    ModelOptions,
    Provider,
    Rewind,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
)
from .leaked_calls import find_leaked_calls

log = logging.getLogger(__name__)

#: Logged when an answer ends with a call that is not made.
_LEAKED = (
    "an answer ended with a tool call as text: enable the tool parser of the model's endpoint, or "
    "set calls_in_text = true in the config's [provider]"
)

_MAX_CHARS = 64
_SAFE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def to_safe_name(name: str) -> str:
    """Return a valid name for the endpoint. The result depends on the name alone.

    Dots become ``__``. Any other change adds a hash, so that different names stay different.
    """
    if _SAFE.fullmatch(name):
        return name
    safe = name.replace(".", "__")
    return safe if _SAFE.fullmatch(safe) else _mark(name)


def _mark(name: str) -> str:
    mark = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", name.replace(".", "__"))
    safe = safe if _SAFE.match(safe) else f"n{safe}"
    return f"{safe[: _MAX_CHARS - 9]}_{mark}"


class SafeNames:
    """Renames tools for the wrapped provider, and restores the names in its answers.

    :param makes_leaked: Calls that the endpoint left in the text are made. Otherwise who can make
        the model repeat a text, such as the author of a web page, could call the tools.
    """

    def __init__(self, provider: Provider, *, makes_leaked: bool = False) -> None:
        self._provider = provider
        self._makes_leaked = makes_leaked

    def stream(
        self, messages: Sequence[ModelMessage], tools: Sequence[ToolSpec], options: ModelOptions
    ) -> Iterator[Delta]:
        """Yield the answer, with the original tool names in its calls."""
        names: dict[str, str] = {}
        offered = [_rename_spec(spec, names) for spec in tools]
        given = [_rename_calls(one) if "tool_calls" in one else one for one in messages]
        choice = options.extra.get("tool_choice")
        if isinstance(choice, Mapping) and "function" in choice:
            [choice] = _rename_all([choice])
            options = replace(options, extra={**options.extra, "tool_choice": choice})
        deltas = self._provider.stream(given, offered, options)
        said: list[str] = []
        has_calls = False
        try:
            for delta in deltas:
                if isinstance(delta, TextDelta):
                    said.append(delta.text)
                elif isinstance(delta, ToolCallDelta):
                    has_calls = True
                    delta = _restore(delta, names)
                elif isinstance(delta, Rewind):
                    text = "".join(said)
                    said = [text[: len(text) - delta.chars]]
                elif isinstance(delta, Finished) and names and delta.reason != "length":
                    chars, leaked = find_leaked_calls("".join(said), names)
                    if leaked and not (has_calls or self._makes_leaked):
                        log.warning(_LEAKED)
                    elif leaked:
                        yield Rewind(chars)
                        yield from () if has_calls else (_restore(one, names) for one in leaked)
                        delta = replace(delta, reason="tool_calls")
                yield delta
        finally:
            close = getattr(deltas, "close", None)  # not every iterator has it
            if close is not None:
                close()


def _restore(delta: ToolCallDelta, names: Mapping[str, str]) -> ToolCallDelta:
    return replace(delta, name=names[delta.name]) if delta.name in names else delta


def _rename_spec(spec: ToolSpec, names: dict[str, str]) -> ToolSpec:
    """Return the tool with a unique safe name, and add that name to ``names``."""
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
    return {**message, "tool_calls": _rename_all(calls)}


def _rename_all(calls: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**call, "function": {**call["function"], "name": to_safe_name(call["function"]["name"])}}
        for call in calls
    ]

"""Prompts of MCP servers, which users call as commands: ``/server.prompt argument``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..agent.cancel import Cancellation
from ..config.mcp import McpServerConfig
from ..errors import ToolError
from .tools import Ask, name_tool

#: Longer texts are split at blanks only. shlex takes quadratic time (measured, 21 s for 800,000
#: characters).
_MAX_QUOTED_CHARS = 10_000

_NAMED = re.compile(r"([^\s=]+)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt of a server.

    :param name: ``server.prompt``, in lower case.
    :param help: Description and arguments.
    :param fill: Takes the user's arguments as one text, and the cancellation. Returns the text for
        the model. Raises :class:`~astrbot_api.errors.ToolError` with a text for the user.
    """

    name: str
    help: str
    fill: Callable[[str, Cancellation], str]


def make_prompts(
    server: McpServerConfig, described: Sequence[Mapping[str, Any]], ask: Ask
) -> tuple[Prompt, ...]:
    """Return the prompts of a server. Of two prompts with one name, the first is used.

    :param described: Prompts with ``name``, ``description`` and ``arguments``.
    """
    prompts: dict[str, Prompt] = {}
    for one in described:
        name = name_tool(server.name, one["name"]).lower()
        usage = _describe_usage(one["arguments"])
        text = " ".join(filter(None, (one["description"].partition("\n")[0], usage)))
        fill = _bind(one, f"/{name} {usage}".rstrip(), ask)
        prompts.setdefault(name, Prompt(name, text, fill))
    return tuple(prompts.values())


def read_arguments(
    text: str, described: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, str], list[str]]:
    """Return a prompt's arguments, and the names of missing required arguments.

    ``name=value`` sets an argument by name. Other words fill the remaining arguments in order,
    and the last argument gets all remaining words.
    """
    names = [one["name"] for one in described]
    found: dict[str, str] = {}
    rest: list[str] = []
    for word in _split(text):
        named = _NAMED.fullmatch(word)
        if named and named[1] in names:
            found[named[1]] = named[2]
        else:
            rest.append(word)
    free = [name for name in names if name not in found]
    for at, name in enumerate(free):
        words = rest[at:] if at == len(free) - 1 else rest[at : at + 1]
        if words:
            found[name] = " ".join(words)
    missing = [one["name"] for one in described if one["required"] and not found.get(one["name"])]
    return found, missing


def _split(text: str) -> list[str]:
    if len(text) <= _MAX_QUOTED_CHARS:
        with suppress(ValueError):  # an unbalanced quote, for example an apostrophe
            return shlex.split(text)
    return text.split()


def _describe_usage(described: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(
        one["name"] if one["required"] else f"[{one['name']}]" for one in described[:10]
    )


def _bind(described: Mapping[str, Any], usage: str, ask: Ask) -> Callable[[str, Cancellation], str]:
    def fill(text: str, cancel: Cancellation) -> str:
        arguments, missing = read_arguments(text, described["arguments"])
        if missing:
            raise ToolError(f"Missing: {', '.join(missing)}. Usage: {usage}")
        request = {"prompt": described["name"], "arguments": arguments}
        return _join(ask(request, cancel)["content"])

    return fill


def _join(parts: Sequence[Mapping[str, Any]]) -> str:
    """Join the messages of a prompt to one text for the model."""
    one_speaker = all(part["role"] == "user" for part in parts)
    texts = [
        part["text"] if part["type"] == "text" else f"[{part['name']}: {part['mime']}, not shown]"
        for part in parts
    ]
    if one_speaker:
        return "\n\n".join(texts)
    said = zip(parts, texts, strict=True)
    return "\n\n".join(f"{part['role'].capitalize()}: {text}" for part, text in said)

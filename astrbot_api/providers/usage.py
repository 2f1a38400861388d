"""Token counts of an answer, under the field names of various endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..agent.provider import Usage

#: OpenAI, Anthropic, Gemini, the AI SDK.
_INPUT = ("prompt_tokens", "input_tokens", "promptTokenCount", "promptTokens")
_OUTPUT = ("completion_tokens", "output_tokens", "candidatesTokenCount", "completionTokens")
_TOTAL = ("total_tokens", "totalTokenCount", "totalTokens")

#: Moonshot, DeepSeek, Anthropic, Gemini.
_CACHED = (
    "cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens",
    "cachedContentTokenCount",
)  # fmt: skip
_DETAILS = ("prompt_tokens_details", "input_tokens_details")

_WRITTEN = "cache_creation_input_tokens"

_NAMES = frozenset((*_INPUT, *_OUTPUT))
_READ = frozenset((*_NAMES, *_TOTAL, *_CACHED, *_DETAILS, _WRITTEN))


class UsageCollector:
    """Collects the token counts of one answer.

    A later count replaces an earlier one, unless the later one is zero.
    """

    def __init__(self) -> None:
        self._counts: dict[str, Any] = {}

    def add(self, usage: Any) -> None:
        """Add a ``usage`` object or an object that contains one. Ignore other values."""
        if isinstance(usage, dict):
            usage = usage.get("usage", usage)  # Groq's x_groq
            if isinstance(usage, dict) and _NAMES.intersection(usage):
                known = self._counts
                known.update(
                    (key, usage[key])
                    for key in _READ & usage.keys()
                    if usage[key] or key not in known
                )

    def finish(self) -> Usage | None:
        """Return the counts, or None if the endpoint sent none."""
        return read_usage(self._counts) if self._counts else None


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Parse a ``usage`` object. Missing counts are 0."""
    prompt, output, total = _find(usage, _INPUT), _find(usage, _OUTPUT), _find(usage, _TOTAL)
    cached = _find(usage, _CACHED)
    for name in _DETAILS:
        details = usage.get(name)
        if not cached and isinstance(details, dict):
            cached = _count(details.get("cached_tokens"))
    if "cache_read_input_tokens" in usage and "prompt_tokens" not in usage:
        # Anthropic's input_tokens exclude cached tokens.
        prompt += cached + _count(usage.get(_WRITTEN))
    cached = min(cached, prompt)
    # xAI and Gemini count reasoning tokens in the total only.
    output = max(output, total - prompt) if prompt else output
    return Usage(input_other=prompt - cached, input_cached=cached, output=output)


def _find(usage: Mapping[str, Any], names: tuple[str, ...]) -> int:
    for name in names:
        if name in usage and (count := _count(usage[name])):
            return count
    return 0


def _count(value: Any) -> int:
    """Parse a token count. Some endpoints send floats or strings."""
    try:
        count = int(float(value))
    except (TypeError, ValueError, OverflowError):
        return 0
    return count if 0 < count < 2**53 else 0

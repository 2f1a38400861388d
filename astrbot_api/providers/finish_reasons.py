"""Finish reasons of endpoints, mapped to OpenAI's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: Finish reason of an endpoint, in lower case -> OpenAI's finish reason.
#: Source: the references of Anthropic, Gemini, Mistral, Zhipu, DeepSeek, Cohere and TGI.
FINISH_REASONS = {
    "stop": "stop", "end_turn": "stop", "eos": "stop", "eos_token": "stop", "complete": "stop",
    "stop_sequence": "stop", "end": "stop", "finished": "stop", "done": "stop",
    "completed": "stop", "stop_token": "stop", "im_end": "stop", "</s>": "stop",
    "length": "length", "max_tokens": "length", "max_output_tokens": "length",
    "model_length": "length", "model_context_window_exceeded": "length", "token_limit": "length",
    "max_length": "length", "max_new_tokens": "length", "max_completion_tokens": "length",
    "limit": "length", "incomplete": "length", "pause_turn": "length",
    "tool_calls": "tool_calls", "tool_use": "tool_calls", "function_call": "tool_calls",
    "tool_call": "tool_calls",
    "content_filter": "content_filter", "content_filtered": "content_filter",
    "content_policy_violation": "content_filter", "moderation": "content_filter",
    "safety": "content_filter", "sensitive": "content_filter", "recitation": "content_filter",
    "image_safety": "content_filter",
    "blocklist": "content_filter", "prohibited_content": "content_filter", "spii": "content_filter",
    "refusal": "content_filter", "guardrail_intervened": "content_filter",
    "image_prohibited_content": "content_filter", "image_recitation": "content_filter",
    "error": "error", "network_error": "error", "insufficient_system_resource": "error",
    "malformed_function_call": "error", "unexpected_tool_call": "error",
    "abort": "error", "aborted": "error",
}  # fmt: skip

#: Placeholders that some endpoints send in each chunk.
NO_REASONS = frozenset({"", "null", "none", "unknown", "unspecified"})


def find_finish_reason(choice: Mapping[str, Any]) -> str:
    """Return the finish reason of a choice, or an empty string if it has none."""
    if own := _find_own(choice.get):
        return read_finish_reason(own)
    delta = choice.get("delta")
    if isinstance(delta, dict) and "finish_reason" in delta:
        return read_finish_reason(delta["finish_reason"])
    return ""


def find_own_reason(choice: Mapping[str, Any]) -> str:
    """Return the endpoint's own name of a failure, such as ``network_error``, or empty."""
    found = str(_find_own(choice.get) or "")
    return "" if found.lower() == "error" else found[:200]


def _find_own(get: Callable[[str], Any]) -> Any:
    # Not a loop, since each token comes with a choice.
    return get("finish_reason") or get("finishReason") or get("done_reason") or get("stop_reason")


def read_finish_reason(value: Any) -> str:
    """Return OpenAI's name of a finish reason, or an empty string if the value is none.

    An unknown reason is returned in lower case, truncated to 40 characters.
    """
    if isinstance(value, list):
        value = value[0] if value else ""
    if isinstance(value, dict):
        value = value.get("type") or value.get("reason")
    if not isinstance(value, str):
        return ""
    word = value.strip().lower().replace("-", "_").strip("<|>" if "|" in value else " ")
    # Gemini's libraries and protobuf put the name of the enumeration first.
    word = word.removeprefix("finishreason.").removeprefix("finish_reason_")
    if word in NO_REASONS:
        return ""
    # Gemini's OpenAI format: ``function_call_filter: MALFORMED_FUNCTION_CALL``.
    kind, _, own = word.partition(": ")
    return FINISH_REASONS.get(own) or FINISH_REASONS.get(kind, word[:40])


def join_finish_reasons(before: str, now: str) -> str:
    """Combine two finish reasons: ``stop`` does not replace a truncation or a content filter."""
    return before if now == "stop" and before in ("length", "content_filter") else now

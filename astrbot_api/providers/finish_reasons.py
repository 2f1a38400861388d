"""Why an answer ended, in the words of endpoints and in OpenAI's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Words for the end of an answer, in lower case -> OpenAI's.
#: Source: the references of Anthropic, Gemini, Mistral, Zhipu, DeepSeek, Cohere and TGI.
FINISH_REASONS = {
    "stop": "stop", "end_turn": "stop", "eos": "stop", "eos_token": "stop", "complete": "stop",
    "stop_sequence": "stop", "end": "stop", "finished": "stop", "done": "stop",
    "completed": "stop", "stop_token": "stop", "im_end": "stop", "</s>": "stop",
    "length": "length", "max_tokens": "length", "max_output_tokens": "length",
    "model_length": "length", "model_context_window_exceeded": "length", "token_limit": "length",
    "max_length": "length", "max_new_tokens": "length", "max_completion_tokens": "length",
    "limit": "length", "incomplete": "length",
    "tool_calls": "tool_calls", "tool_use": "tool_calls", "function_call": "tool_calls",
    "tool_call": "tool_calls",
    "content_filter": "content_filter", "content_filtered": "content_filter",
    "content_policy_violation": "content_filter", "moderation": "content_filter",
    "safety": "content_filter", "sensitive": "content_filter", "recitation": "content_filter",
    "image_safety": "content_filter",
    "blocklist": "content_filter", "prohibited_content": "content_filter", "spii": "content_filter",
    "refusal": "content_filter", "guardrail_intervened": "content_filter",
    "error": "error", "network_error": "error", "insufficient_system_resource": "error",
    "malformed_function_call": "error", "unexpected_tool_call": "error",
    "abort": "error", "aborted": "error",
}  # fmt: skip

#: Words that say nothing, where an endpoint writes them in each chunk.
NO_REASONS = frozenset({"", "null", "none", "unknown", "unspecified"})

#: Where a choice, or its delta, says why it ended.
_NAMES = ("finish_reason", "finishReason", "done_reason", "stop_reason")


def find_finish_reason(choice: Mapping[str, Any]) -> str:
    """Return why a choice ended; empty: it does not say."""
    for name in _NAMES:
        if choice.get(name):
            return read_finish_reason(choice[name])
    delta = choice.get("delta")
    return read_finish_reason(delta.get("finish_reason")) if isinstance(delta, dict) else ""


def read_finish_reason(value: Any) -> str:
    """Return why an answer ended, in OpenAI's words where they fit; empty: nothing says it."""
    if isinstance(value, list):
        value = value[0] if value else ""
    if isinstance(value, dict):
        value = value.get("type") or value.get("reason")
    if not isinstance(value, str):
        return ""
    word = value.strip().lower().replace("-", "_").strip("<|>" if "|" in value else " ")
    # The name of an enumeration before it: Gemini's libraries, protobuf.
    word = word.removeprefix("finishreason.").removeprefix("finish_reason_")
    return "" if word in NO_REASONS else FINISH_REASONS.get(word, word[:40])


def join_finish_reasons(before: str, now: str) -> str:
    """Return the reason of two that an answer gave: a later ``stop`` hides no cut."""
    return before if now == "stop" and before in ("length", "content_filter") else now

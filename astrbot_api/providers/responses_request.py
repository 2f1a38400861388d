"""Conversion of requests to OpenAI's Responses, for models that need them.

Everything else of a provider knows chat completions alone: this module converts a finished request,
and :mod:`.responses_reader` reads the answer.

Source: https://platform.openai.com/docs/guides/migrate-to-responses and
https://platform.openai.com/docs/api-reference/responses/create.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PATH = "/responses"

#: The field of a message or call with the reasoning items before it.
REASONING_ITEMS = "reasoning_items"

#: Fields of all requests, which are omitted after a rejection, like other fields. Two ask for the
#: model's reasoning, as text and as data for its next step.
OWN_FIELDS: Mapping[str, Any] = {
    "store": False, "reasoning_summary": "auto", "encrypted_content": True,
}  # fmt: skip

#: Fields of chat completions that Responses do not have.
_DROPPED = (
    "stream_options", "stop", "seed", "n", "frequency_penalty", "presence_penalty", "logit_bias",
    "logprobs", "modalities", "audio", "prediction", "web_search_options",
)  # fmt: skip

#: Names in errors about Responses -> names of chat completions.
_NAMES = {
    "reasoning.effort": "reasoning_effort",
    "reasoning.summary": "reasoning_summary",
    "text.verbosity": "verbosity",
    "text.format": "response_format",
}

#: The same for names that are also words.
_QUOTED = {"include": "encrypted_content", "reasoning": "reasoning_effort, reasoning_summary"}

#: The smallest ``max_output_tokens`` that OpenAI accepts.
_MIN_TOKENS = 16


def rename_fields(text: str, body: Mapping[str, Any]) -> str:
    """Return an error text with the names that the fields have in chat completions."""
    for name, known in _NAMES.items():
        text = text.replace(name, known)
    # Source: OpenClaw's gateway. Without quotes, these words name no field.
    for name, known in _QUOTED.items():
        text = re.sub(rf"(?<!type ['\"`])(?<=['\"`]){name}(?=\\?['\"`])", known, text)
    length = "max_tokens" if "max_tokens" in body else "max_completion_tokens"
    return text.replace("max_output_tokens", length)


def to_responses(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request for Responses that equals one for chat completions."""
    found = {key: one for key, one in body.items() if key not in _DROPPED}
    found["input"] = [item for one in found.pop("messages") for item in _to_items(one)]
    lengths = (found.pop(name, None) for name in ("max_completion_tokens", "max_tokens"))
    length = next((one for one in lengths if isinstance(one, int)), None)
    if length is not None:
        found["max_output_tokens"] = max(length, _MIN_TOKENS)
    _set_reasoning(found)
    _set_text(found)
    if "tools" in found:
        found["tools"] = list(map(_to_tool, found["tools"]))
    choice = found.get("tool_choice")
    if isinstance(choice, Mapping) and "function" in choice:
        found["tool_choice"] = {"type": "function", "name": choice["function"].get("name")}
    return found


def _set_reasoning(found: dict[str, Any]) -> None:
    """Move the fields of reasoning to their places."""
    effort, summary = found.pop("reasoning_effort", None), found.pop("reasoning_summary", None)
    given = {} if effort is None else {"effort": effort}
    reasoning = _merge(found, "reasoning", given)
    if summary is not None and reasoning.get("effort") != "none":
        _merge(found, "reasoning", {"summary": summary})
    included = found.get("include", [])
    if found.pop("encrypted_content", False) and isinstance(included, list):
        found["include"] = [*included, "reasoning.encrypted_content"]


def _set_text(found: dict[str, Any]) -> None:
    """Move the fields of the answer's text to their places."""
    asked, verbosity = found.pop("response_format", None), found.pop("verbosity", None)
    if isinstance(asked, Mapping):
        wanted = {"type": asked.get("type"), **(asked.get("json_schema") or {})}
        _merge(found, "text", {"format": wanted})
    if verbosity is not None:
        _merge(found, "text", {"verbosity": verbosity})


def _merge(found: dict[str, Any], name: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add values to an object of the request, whose own values take precedence."""
    own = found.get(name)
    if own is not None and not isinstance(own, Mapping):
        return {}  # wrong in the config's extra: the endpoint says so
    merged = {**values, **(own or {})}
    if merged:
        found[name] = merged
    return merged


def _to_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return dict(tool)  # one of the endpoint's own tools
    # Unlike in chat completions, functions are strict by default.
    return {"type": "function", "strict": False, **function}


def _to_items(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the input items of one message."""
    role, content = message["role"], message.get("content")
    if role == "tool":
        output = content if isinstance(content, str) else _to_parts(content or ())
        yield {
            "type": "function_call_output", "call_id": message["tool_call_id"], "output": output
        }  # fmt: skip
        return
    yield from message.get(REASONING_ITEMS) or ()
    if content:
        if not isinstance(content, str):
            content = _to_parts(content, "output_text" if role == "assistant" else "input_text")
        # OpenAI accepts messages without a type, Open Responses and its servers do not.
        yield {"type": "message", "role": role, "content": content}
    for call in message.get("tool_calls") or ():
        yield from call.get(REASONING_ITEMS) or ()
        function = call["function"]
        yield {
            "type": "function_call", "call_id": call["id"],
            "name": function["name"], "arguments": function["arguments"],
        }  # fmt: skip


def _to_parts(parts: Sequence[Any], text_type: str = "input_text") -> list[Any]:
    return [_to_part(one, text_type) if isinstance(one, Mapping) else one for one in parts]


def _to_part(part: Mapping[str, Any], text_type: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "text":
        return {"type": text_type, "text": part.get("text", "")}
    if kind == "image_url":
        image = part.get("image_url") or {}
        image = {"url": image} if isinstance(image, str) else image
        return {
            "type": "input_image", "image_url": image.get("url"),
            "detail": image.get("detail") or "auto",
        }  # fmt: skip
    if kind == "file":
        return {"type": "input_file", **(part.get("file") or {})}
    return dict(part)

"""What endpoints say, and what it means: the table of refusals that a change of the request cures.

Each pattern is from a text of an endpoint in use, which is named beside it. Nothing here asks
or changes anything: :mod:`.learned` keeps what was learned and shapes requests after it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Words for the end of an answer, in lower case -> OpenAI's.
#: Source: the references of Anthropic, Gemini, Mistral, Zhipu, DeepSeek, Cohere and TGI.
FINISH_REASONS = {
    "stop": "stop", "end_turn": "stop", "eos": "stop", "eos_token": "stop", "complete": "stop",
    "stop_sequence": "stop", "end": "stop", "finished": "stop", "done": "stop",
    "length": "length", "max_tokens": "length", "max_output_tokens": "length",
    "model_length": "length", "model_context_window_exceeded": "length", "token_limit": "length",
    "tool_calls": "tool_calls", "tool_use": "tool_calls", "function_call": "tool_calls",
    "tool_call": "tool_calls",
    "content_filter": "content_filter", "content_filtered": "content_filter",
    "safety": "content_filter", "sensitive": "content_filter", "recitation": "content_filter",
    "blocklist": "content_filter", "prohibited_content": "content_filter", "spii": "content_filter",
    "refusal": "content_filter", "guardrail_intervened": "content_filter",
    "error": "error", "network_error": "error", "insufficient_system_resource": "error",
    "malformed_function_call": "error", "abort": "error", "aborted": "error",
}  # fmt: skip

#: Words that say nothing, where an endpoint writes them in each chunk.
NO_REASONS = frozenset({"", "null", "none", "unknown", "finish_reason_unspecified"})


def read_finish_reason(value: Any) -> str:
    """Return why an answer ended, in OpenAI's words where they fit; empty: nothing says it."""
    if not isinstance(value, str):
        return ""
    word = value.strip().lower()
    return "" if word in NO_REASONS else FINISH_REASONS.get(word, word[:40])


def may_pass(status: int) -> bool:
    """Return whether the same request may succeed a little later.

    Source: what OpenAI's SDKs try again; 501 and 505 say that it never will.
    """
    return status in (408, 409, 425, 429) or (status >= 500 and status not in (501, 505))


def is_spent(text: str) -> bool:
    """Return whether a 429 is about money, which no pause brings back."""
    return bool(_SPENT.search(text))


def is_too_long(text: str) -> bool:
    """Return whether a refusal is about the length of the conversation."""
    return bool(_TOO_LONG.search(text))


#: OpenAI, DeepSeek, Moonshot, MiniMax.
_SPENT = re.compile(
    r"insufficient[_ ](quota|balance|funds|credit)|exceeded your current quota|billing_hard_limit"
    r"|out of credits|arrear",
    re.IGNORECASE,
)

#: OpenAI, vLLM, llama.cpp, Anthropic, Gemini, Mistral, Qwen, Groq, Ollama, DeepSeek, Moonshot.
_TOO_LONG = re.compile(
    r"context[_ ]length|context[_ ]window|context[_ ]size|maximum context|max_?model_?len"
    r"|prompt (is )?too long|input (is )?too long|too many (input |prompt )?tokens"
    r"|reduce the length"
    r"|token count[^.]{0,60}exceed|tokens?[^.]{0,60}exceeds?[^.]{0,40}(limit|maximum|context)"
    r"|range of input length|request (is )?too large|maximum (input|prompt) length"
    r"|exceed\w* (the )?(model'?s? )?max\w*[^.]{0,20}(token|length)|string_above_max_length"
    r"|too large for model|输入.{0,12}(过长|超)|超.{0,8}(上下文|长度)",
    re.IGNORECASE,
)

_LIMIT = re.compile(
    r"(?:limit|maximum|max\w*|at most|context (?:length|size|window)|should be \[\d+,|supports?)"
    r"[^\d]{0,40}(\d[\d,]{2,})",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"(?:resulted in|requested|request \(|has|is|got|contains|count \(|input tokens?:?|prompt"
    r" \()\s*(?:about )?(\d[\d,]{2,})",
    re.IGNORECASE,
)

#: Ollama, vLLM, llama.cpp, OpenRouter, Groq.
_NO_TOOLS = re.compile(
    r"support\w* (tool|function)|(tool|function)\w*[^.]{0,40}(not support|unsupported|support\b"
    r"|requires\b|enable)|(tools|functions) (is|are) not",
    re.IGNORECASE,
)

#: A word for a picture or a sound, and one for "not taken": OpenAI, Groq, DeepSeek, vLLM.
_NOT_TAKEN = (
    r"not support|unsupported|does ?n[o']t (support|accept)|cannot|can't|not accept|invalid|unknown"
    r"|not (a )?multimodal|no endpoints|not allowed|not enabled|expected `?text|must be a string"
    r"|should be a valid string|invalid type: sequence|text[- ]only"
)
_NO_IMAGES = re.compile(
    rf"(?=.*(image|vision|multimodal|visual))(?=.*({_NOT_TAKEN}))", re.IGNORECASE | re.DOTALL
)
_NO_AUDIO = re.compile(
    rf"(?=.*(audio|input_audio|sound))(?=.*({_NOT_TAKEN}))", re.IGNORECASE | re.DOTALL
)
_NO_PARTS = re.compile(
    r"content[^.]{0,60}(must be a string|should be a valid string|expected a string"
    r"|invalid type: sequence)|unknown variant `image_url`|str type expected",
    re.IGNORECASE,
)
#: The picture, not pictures: OpenAI, Anthropic, Gemini, Ollama.
_BAD_IMAGE = re.compile(
    r"image_parse_error|unsupported image|(invalid|process|decode|load|parse|unable to)[^.]{0,30}"
    r"image|image[^.]{0,30}(valid|corrupt|broken|decode|too (large|small|big))",
    re.IGNORECASE,
)

#: Gemma's templates, Gemini's, Mistral's old ones, o1.
_NO_SYSTEM = re.compile(
    r"(system|developer)[ _](role|message|instruction|prompt)s?[^.]{0,40}(not |unsupported|n't )"
    r"|(role|value)[^.]{0,20}['\"`](system|developer)['\"`][^.]{0,60}(not |unsupported|n't )"
    r"|not support[^.]{0,20}(system|developer)",
    re.IGNORECASE,
)

#: Jinja templates (llama.cpp, vLLM), Mistral, Perplexity, Anthropic.
_ALTERNATE = re.compile(
    r"roles?[^.]{0,30}alternat|alternat\w+[^.]{0,30}roles?|unexpected role|expected last role"
    r"|after the \(?optional\)? system message|multiple \S+ roles in a row",
    re.IGNORECASE,
)

#: Mistral.
_SHORT_IDS = re.compile(r"tool call id[^.]{0,80}length of 9", re.IGNORECASE)

#: What a message lacks: DeepSeek, Moonshot; Gemini.
_WANTS_REASONING = re.compile(
    r"(missing|must|required|needs?|absent|without)[^.]{0,80}(reasoning_content|reasoning)\b"
    r"|(reasoning_content)[^.]{0,60}(missing|must|required|passed back)",
    re.IGNORECASE,
)
_WANTS_SIGNATURE = re.compile(r"missing[^.]{0,30}thought_?signature", re.IGNORECASE)

#: What was attached is not taken back: Anthropic, OpenRouter, Gemini, old DeepSeek.
_STALE = re.compile(
    r"(invalid|corrupt\w*|expired|verif\w*|decrypt\w*|decode)[^.]{0,60}(signature|thinking|"
    r"reasoning|encrypted)|(signature|thinking block|encrypted content|reasoning)[^.]{0,60}"
    r"(invalid|corrupt|cannot be|could not be|not valid|must not|should not|not supported|"
    r"unsupported|not permitted)",
    re.IGNORECASE,
)

#: OpenAI, Azure, Groq, Mistral (pydantic), Gemini, serde, Go, Ollama, LiteLLM.
_UNKNOWN_FIELD = re.compile(
    r"unrecogni[sz]ed|unknown|unsupported|not support|n't support|not permitted|not allowed"
    r"|unexpected|extra (inputs?|fields?)|cannot find field|no longer|deprecated|additional "
    r"propert|not a valid (parameter|field)|invalid (parameter|argument|field)|does not accept"
    r"|too large|at most|must be less|should be in",
    re.IGNORECASE,
)

#: Fields without which there is no request.
_NEEDED = frozenset({"model", "messages", "stream"})

#: Where a refusal says which tool it is about, by its place.
_TOOL_PLACES = (
    re.compile(r"function_?declarations[.\[]+(\d+)", re.IGNORECASE),
    re.compile(r"tools[.\[]+(\d+)", re.IGNORECASE),
)
_SCHEMA = re.compile(r"schema|parameters|function|tool|properties|propert", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cure:
    """A change of the request.

    :param kind: What is changed; :class:`~.learned.Learned` has a member for each.
    :param name: The field or the tool, where one is named.
    :param limit: For what is too long: which part of it fits, between 0 and 1.
    """

    kind: str
    name: str = ""
    limit: float = 0.0


def find_cure(status: int, text: str, body: Mapping[str, Any]) -> Cure | None:
    """Return the change of the request after which it may be taken; None: there is none.

    :param text: What the endpoint said, as it came.
    :param body: The request that was refused.
    """
    if status not in (400, 404, 413, 415, 422, 500, 501):
        return None
    messages = body["messages"]
    if status == 413 or _TOO_LONG.search(text):
        return Cure("too_long", limit=_find_share(text))
    if status == 500 and not (_NO_TOOLS.search(text) or _ALTERNATE.search(text)):
        return None
    if _SHORT_IDS.search(text):
        return Cure("short_ids")
    if _WANTS_SIGNATURE.search(text):
        return Cure("signature")
    if _WANTS_REASONING.search(text):
        return Cure("reasoning")
    tool = _find_tool(text, body.get("tools") or ())
    if tool:
        return Cure("tool", tool)
    if body.get("tools") and _NO_TOOLS.search(text):
        return Cure("no_tools")
    if _has_parts(messages):
        if _BAD_IMAGE.search(text) and not re.search(r"(does|do|is) not support|n't support", text):
            return Cure("bad_media")
        for kind, pattern in (("no_images", _NO_IMAGES), ("no_audio", _NO_AUDIO)):
            if pattern.search(text):
                return Cure(kind)
        if _NO_PARTS.search(text):
            return Cure("no_media")
    if _ALTERNATE.search(text):
        return Cure("strict_roles")
    if any(one["role"] == "system" for one in messages) and _NO_SYSTEM.search(text):
        return Cure("no_system")
    return _find_unknown_field(text, body)


def _find_unknown_field(text: str, body: Mapping[str, Any]) -> Cure | None:
    if not _UNKNOWN_FIELD.search(text):
        return Cure("stale") if _STALE.search(text) else None
    replaced = re.search(r"use '?\"?`?max_completion_tokens", text, re.IGNORECASE)
    if replaced and "max_tokens" in body:
        return Cure("max_completion_tokens")
    for name in body:
        if name not in _NEEDED and _names(text, name):
            return Cure("field", name)
    for message in body["messages"]:
        for name in message:
            if name not in ("role", "content", "tool_calls", "tool_call_id") and _names(text, name):
                return Cure("message_field", name)
        for call in message.get("tool_calls") or ():
            for name in call:
                if name not in ("id", "type", "function") and _names(text, name):
                    return Cure("call_field", name)
    return Cure("stale") if _STALE.search(text) else None


def _names(text: str, name: str) -> bool:
    return bool(re.search(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", text))


def _find_tool(text: str, tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of the tool whose description is refused; empty: none is named."""
    if not tools or not _SCHEMA.search(text):
        return ""
    names = [str(one["function"]["name"]) for one in tools]
    # The longest first: a name may be a part of another one.
    for name in sorted(names, key=len, reverse=True):
        if re.search(rf"['\"`]{re.escape(name)}['\"`]", text):
            return name
    place = next(filter(None, (one.search(text) for one in _TOOL_PLACES)), None)
    if place and int(place[1]) < len(names):
        return names[int(place[1])]
    named = re.search(r"(?:tool|function)\s+([A-Za-z0-9_-]{1,64})", text)
    return named[1] if named and named[1] in names else ""


def _find_share(text: str) -> float:
    """Return which part of the request may stay, by the numbers of a refusal; 0: no numbers."""
    limit, asked = _LIMIT.search(text), None
    for found in _ASKED.finditer(text):
        asked = max(asked or 0, int(found[1].replace(",", "")))
    if limit is None or not asked:
        return 0.0
    share = int(limit[1].replace(",", "")) / asked
    return share if 0.0 < share < 1.0 else 0.0


def _has_parts(messages: Sequence[Mapping[str, Any]]) -> bool:
    return any(isinstance(one.get("content"), list) for one in messages)

"""Repair of conversations, so that strict endpoints accept them.

Source: OpenAI's rules. Results follow their calls, each call has one result, arguments are a
JSON object, names and ids have valid characters. With ``strict_roles``, user and assistant
alternate, as the templates of Mistral and Gemma require. Invalid model output is repaired in
each request, so that stored conversations stay usable.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import orjson

from ..agent.provider import ModelMessage
from ..agent.toolbox import parse_arguments
from ..event_lines import join_surrogates
from .safe_names import to_safe_name

#: Call ids that OpenAI accepts.
_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")

NO_RESULT = "error: the turn ended before the tool answered"
_NO_OUTPUT = "(no output)"
_NO_TEXT = "(no text)"
_WENT_ON = "(The conversation went on.)"
_ENDED = "(The turn ended here.)"
_CONTINUE = "(Continue.)"

#: Placeholder that Google's endpoint accepts instead of a missing signature.
#: Source: https://ai.google.dev/gemini-api/docs/thought-signatures
_NO_SIGNATURE = {"google": {"thought_signature": "skip_thought_signature_validator"}}


#: Fields of our own messages, which each endpoint gets in another form.
_OWN = frozenset({"attached", "tool_calls"})

#: A valid call, after its original id, by which its result is found.
_Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Rules:
    """Requirements of an endpoint beyond OpenAI's rules.

    :param strict_roles: User and assistant must alternate.
    :param no_system: The endpoint has no system role.
    :param short_ids: Call ids must have nine letters and digits.
    :param reasoning: The assistant's messages must have their reasoning.
    :param signature: Messages with tool calls must have a thought signature.
    :param no_null: Messages with tool calls must have a text, which may be empty.
    :param filled: This text must not be empty.
    :param tool_names: Each tool result must name its tool.
    :param object_results: Each tool result must be a JSON object.
    :param calls_as_text: Tool calls and results must be text: no tools are offered, or the
        reasoning is missing.
    :param no_prefill: The last message must not be the assistant's.
    :param plain: Do not send attached fields back.
    """

    strict_roles: bool = False
    no_system: bool = False
    short_ids: bool = False
    reasoning: bool = False
    signature: bool = False
    no_null: bool = False
    filled: bool = False
    tool_names: bool = False
    object_results: bool = False
    calls_as_text: bool = False
    no_prefill: bool = False
    plain: bool = False


def make_valid(messages: Sequence[ModelMessage], provider: str, rules: Rules) -> list[ModelMessage]:
    """Return a conversation that the endpoint accepts.

    :param provider: Id of the endpoint. It gets the fields back that it attached to its messages.
    """
    found: list[ModelMessage] = []
    for at, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        is_blank = not (content.strip() if isinstance(content, str) else content)
        if role == "assistant" and not _OWN.isdisjoint(message):
            _append_step(found, messages, at, provider, rules)
        elif role == "assistant":
            if not is_blank:
                thought = {**message, "reasoning_content": " "} if rules.reasoning else message
                _append_joined(found, thought)
        elif role != "tool":  # results follow their calls
            found.append({**message, "content": _NO_TEXT} if is_blank else message)
    if rules.no_prefill and found and found[-1]["role"] == "assistant":
        found.append({"role": "user", "content": _CONTINUE})
    if rules.no_system:
        found = _fold_system(found)
    return _alternate(found) if rules.strict_roles else found


def _append_step(
    found: list[ModelMessage],
    messages: Sequence[ModelMessage],
    at: int,
    provider: str,
    rules: Rules,
) -> None:
    """Append an assistant's message that has calls or attached fields, and the calls' results."""
    message = {key: one for key, one in messages[at].items() if key not in _OWN}
    attached = messages[at].get("attached")
    is_own = isinstance(attached, Mapping) and attached.get("provider") == provider
    own: Any = attached if is_own and not rules.plain else {}
    calls = _read_calls(messages[at].get("tool_calls"), own, rules)
    if not calls:
        if _has_content(message.get("content")):
            thought = {"reasoning_content": " "} if rules.reasoning else {}
            _append_joined(found, {**message, **thought, **(own.get("fields") or {})})
        return
    following = (messages[one] for one in range(at + 1, len(messages)))
    given = takewhile(lambda one: one.get("role") == "tool", following)
    results = _match_results(calls, given, rules)
    if rules.calls_as_text:
        _append_as_text(found, message, calls, results)
    else:
        _append_joined(found, _make_step(message, calls, own, rules))
        found += results


def _make_step(
    message: ModelMessage, calls: Sequence[_Call], own: Mapping[str, Any], rules: Rules
) -> ModelMessage:
    """Return an assistant's message with tool calls."""
    step = {**message, "tool_calls": [call for _, call in calls]}
    if not _has_content(step.get("content")):  # Anthropic rejects its own blank text
        step["content"] = _name_step(calls, rules)
    if rules.reasoning:
        step["reasoning_content"] = " "
    step.update(own.get("fields") or {})
    return step


def _append_as_text(
    found: list[ModelMessage],
    message: ModelMessage,
    calls: Sequence[_Call],
    results: Sequence[ModelMessage],
) -> None:
    """Append an assistant's calls, and their results as a user's message."""
    functions = [call["function"] for _, call in calls]
    said = [f"[Called {one['name']} with {one['arguments']}]" for one in functions]
    if _has_content(message.get("content")):
        said.insert(0, str(message["content"]))
    _append_joined(found, {**message, "content": "\n".join(said)})
    returned: list[Any] = []
    for function, result in zip(functions, results, strict=True):
        returned += (f"[{function['name']} returned:]", result["content"])
    found.append({"role": "user", "content": functools.reduce(_join, returned)})


def _name_step(calls: Sequence[_Call], rules: Rules) -> str | None:
    """Return the content of a message with tool calls and without text."""
    if rules.filled:
        return f"({', '.join(call['function']['name'] for _, call in calls)})"
    return "" if rules.no_null else None


def _append_joined(found: list[ModelMessage], message: ModelMessage) -> None:
    """Append an assistant's message. Join it with an assistant's text before it."""
    last = found[-1] if found else None
    if last is not None and last.get("role") == "assistant" and not last.get("tool_calls"):
        content = last["content"]
        if message["content"]:
            content = _join(content, message["content"])
        found[-1] = {**last, **message, "content": content}
    else:
        found.append(message)


def _has_content(content: Any) -> bool:
    return bool(content.strip() if isinstance(content, str) else content)


def _join(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*_to_parts(first), *_to_parts(second)]


def _to_parts(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": str(content)}] if content else []


def _read_calls(calls: Any, own: Mapping[str, Any], rules: Rules) -> list[_Call]:
    """Return the valid calls of a message."""
    if not isinstance(calls, list):
        return []
    found: list[_Call] = []
    seen: set[str] = set()
    extras = own.get("calls") or ()
    for at, call in enumerate(one for one in calls if isinstance(one, Mapping)):
        function = call.get("function")
        if not isinstance(function, Mapping):
            function = {}
        given = str(call.get("id") or "")
        call_id = _make_id(given, bool(own), rules.short_ids)
        if call_id in seen:
            call_id = _make_id(f"{given}#{at}", False, rules.short_ids)
        seen.add(call_id)
        valid: dict[str, Any] = {
            "id": call_id,
            "type": "function",
            "function": {
                "name": to_safe_name(str(function.get("name") or "unknown_tool")),
                "arguments": _make_object(function.get("arguments")),
            },
        }
        _add_extra(valid, extras[at] if at < len(extras) else None)
        if rules.signature and not at and "extra_content" not in valid:
            valid["extra_content"] = _NO_SIGNATURE
        found.append((given, valid))
    return found


def _add_extra(call: dict[str, Any], extra: Any) -> None:
    if not isinstance(extra, Mapping):
        return
    for key, value in extra.items():
        if key == "function" and isinstance(value, Mapping):
            call["function"] = {**value, **call["function"]}
        elif key not in call:
            call[key] = value


def _make_id(given: str, own: bool, short: bool) -> str:
    if short:
        return hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()[:9]
    # Some endpoints store a signature in the id, so their own ids are kept.
    if given and (own or _ID.fullmatch(given)):
        return given
    return f"call_{hashlib.sha256(given.encode('utf-8', 'replace')).hexdigest()[:24]}"


def _make_object(arguments: Any) -> str:
    """Return arguments as the JSON text of an object, or ``{}`` if they are invalid."""
    if isinstance(arguments, Mapping):
        return orjson.dumps(dict(arguments), option=orjson.OPT_NON_STR_KEYS).decode()
    text = arguments if isinstance(arguments, str) else ""
    if _is_object(text):
        return text
    try:
        return orjson.dumps(parse_arguments(text)).decode()
    except (ValueError, TypeError):
        return "{}"


def _make_result_object(text: str) -> str:
    """Return a tool's result as the JSON text of an object."""
    return text if _is_object(text) else orjson.dumps({"result": join_surrogates(text)}).decode()


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _match_results(
    calls: Sequence[_Call], results: Iterable[ModelMessage], rules: Rules
) -> list[ModelMessage]:
    """Return one result for each call, in the order of the calls."""
    waiting: dict[str, list[ModelMessage]] = {}
    for one in results:
        waiting.setdefault(str(one.get("tool_call_id") or ""), []).append(one)
    found: list[ModelMessage] = []
    for given, call in calls:
        given_results = waiting.get(given)
        result = given_results.pop(0) if given_results else {"content": NO_RESULT}
        content = result.get("content")
        if not _has_content(content):
            content = _NO_OUTPUT
        if rules.object_results and isinstance(content, str):
            content = _make_result_object(content)
        answer = {"role": "tool", "tool_call_id": call["id"], "content": content}
        found.append({**answer, "name": call["function"]["name"]} if rules.tool_names else answer)
    return found


def _fold_system(messages: list[ModelMessage]) -> list[ModelMessage]:
    """Move each system message into the next user message."""
    found: list[ModelMessage] = []
    waiting: Any = None
    for message in messages:
        if message["role"] in ("system", "developer"):
            waiting = _join(waiting, message["content"]) if waiting else message["content"]
        elif waiting and message["role"] == "user":
            found.append({**message, "content": _join(waiting, message["content"])})
            waiting = None
        else:
            found.append(message)
    return [*found, {"role": "user", "content": waiting}] if waiting else found


def _alternate(messages: list[ModelMessage]) -> list[ModelMessage]:
    """Make user and assistant alternate, after one system message."""
    system = [one for one in messages if one["role"] in ("system", "developer")]
    found: list[ModelMessage] = []
    if system:
        content = system[0]["content"]
        for one in system[1:]:
            content = _join(content, one["content"])
        found.append({"role": "system", "content": content})
    for message in messages:
        role, last = message["role"], found[-1]["role"] if found else "system"
        if role in ("system", "developer"):
            continue
        if role == "user" and last == "user":
            found[-1] = {**found[-1], "content": _join(found[-1]["content"], message["content"])}
            continue
        if role == "user" and last == "tool":
            found.append({"role": "assistant", "content": _ENDED})
        elif role == "assistant" and last == "system":
            found.append({"role": "user", "content": _WENT_ON})
        found.append(message)
    return found

"""Conversion of the AI SDK's ``UIMessage`` to the format of OpenAI's chat completions.

Source: ``ui-messages.ts`` of the npm package ``ai``, versions 5 to 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import refuse
from ...messages import check_text
from ..conversation import make_file_part
from ..decisions import Answer, read_comment
from ..openai.reading import check_list
from ..rendering import to_text

ROLES = ("system", "user", "assistant")


def read_ui_messages(messages: Any) -> list[dict[str, Any]]:
    """Return the messages of a conversation.

    Parts that a model cannot read are skipped: reasoning, sources, data, and calls of tools without
    a result.

    :raises ApiError: ``invalid_request``, with the name of the field.
    """
    found: list[dict[str, Any]] = []
    for at, message in enumerate(check_list(messages)):
        found += _read_message(message, f"messages[{at}]")
    return found


def list_tools(tools: Any) -> Any:
    """Return a list of tools from an object keyed by tool name. Others stay unchanged."""
    if not isinstance(tools, dict):
        return tools
    return [
        {**tool, "name": name} if isinstance(tool, dict) else tool for name, tool in tools.items()
    ]


def read_answers(message: dict[str, Any]) -> list[Answer]:
    """Return a person's new answers to approval requests in a message.

    :param message: One that :func:`read_ui_messages` accepts.
    :raises ApiError: ``invalid_request``, with the name of the field.
    """
    found = []
    for at, part in enumerate(message["parts"]):
        if part.get("state") != "approval-responded":
            continue
        said = part.get("approval")
        if not isinstance(said, dict) or not isinstance(said.get("id"), str):
            raise refuse(f"parts[{at}].approval.id must be a string")
        check_text(f"parts[{at}].approval.id", said["id"])
        comment = read_comment(f"parts[{at}].approval.reason", said.get("reason"))
        found.append(Answer(said["id"], said.get("approved") is True, comment))
    return found


def _read_message(message: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    role, parts = message.get("role"), message.get("parts")
    if role not in ROLES:
        raise refuse(f"{where}.role must be one of {', '.join(ROLES)}")
    if not isinstance(parts, list):
        raise refuse(f"{where}.parts must be a list of parts")
    for at, part in enumerate(parts):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise refuse(f"{where}.parts[{at}].type must be a string")
    if role == "assistant":
        return _read_assistant(parts, where)
    content = [
        _read_text(part, f"{where}.parts[{at}]") if part["type"] == "text"
        else _read_file(part, f"{where}.parts[{at}]")
        for at, part in enumerate(parts)
        if part["type"] in ("text", "file")
    ]  # fmt: skip
    return iter([{"role": role, "content": content}])


def _read_assistant(parts: list[dict[str, Any]], where: str) -> Iterator[dict[str, Any]]:
    """Yield the messages of an assistant, one per step, with the results of its calls."""
    texts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for at, part in enumerate(parts):
        kind, here = part["type"], f"{where}.parts[{at}]"
        if calls and kind in ("text", "step-start"):
            yield {"role": "assistant", "content": texts, "tool_calls": calls}
            yield from results
            texts, calls, results = [], [], []
        if kind == "text":
            texts.append(_read_text(part, here))
        elif kind == "dynamic-tool" or kind.startswith("tool-"):
            call, result = _read_call(part, here)
            if result is not None:
                calls.append(call)
                results.append(result)
    if texts or calls:
        yield {"role": "assistant", "content": texts, "tool_calls": calls}
        yield from results


def _read_call(part: dict[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the call in a tool part, and its result, or None if it has no result."""
    name = part.get("toolName") if part["type"] == "dynamic-tool" else part["type"][5:]
    call_id, state = part.get("toolCallId"), part.get("state")
    if not isinstance(name, str) or not isinstance(call_id, str):
        raise refuse(f"{where} must have a toolCallId and the name of a tool")
    given = part.get("input")
    text = given if isinstance(given, str) else to_text(given or {})
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}
    if state == "output-available":
        said = to_text(part.get("output"))
    elif state == "output-error":
        said = f"Error: {to_text(part.get('errorText'))}"
    elif state == "output-denied":
        said = "The user did not allow this call."
    else:
        return call, None
    return call, {"role": "tool", "tool_call_id": call_id, "content": said}


def _read_text(part: dict[str, Any], where: str) -> dict[str, Any]:
    text = part.get("text")
    if not isinstance(text, str):
        raise refuse(f"{where}.text must be a string")
    return {"type": "text", "text": text}


def _read_file(part: dict[str, Any], where: str) -> dict[str, Any]:
    url = part.get("url")
    if not isinstance(url, str):
        raise refuse(f"{where}.url must be a string")
    return make_file_part(url, part.get("mediaType"), part.get("filename"))

"""Conversion of AG-UI messages to the format of OpenAI's chat completions.

Source: the schema of the protocol's version 1.0, https://docs.ag-ui.com/spec/1.0/schema.json, and
``binary`` parts of earlier versions.
"""

from __future__ import annotations

from typing import Any

from ...errors import refuse
from ...messages import check_text
from ..conversation import make_file_part
from ..decisions import Answer, read_comment
from ..openai.reading import check_list
from ..rendering import to_text

#: Accepted roles of a message. Messages with a role of the second line are skipped.
ROLES = (
    "developer", "system", "user", "assistant", "tool",
    "activity", "reasoning",
)  # fmt: skip

#: Types of a user's message parts that are files.
_MEDIA = ("image", "audio", "video", "document")

#: Members whose objects have names of the protocol. Those of others belong to the client.
_NESTED = ("messages", "content", "source", "resume")

#: Name in the protocol's Python types -> name in the protocol.
_PYTHON_NAMES = {
    "thread_id": "threadId", "run_id": "runId", "protocol_version": "protocolVersion",
    "forwarded_props": "forwardedProps", "tool_calls": "toolCalls", "tool_call_id": "toolCallId",
    "mime_type": "mimeType", "interrupt_id": "interruptId",
}  # fmt: skip


def to_protocol_names(value: Any) -> Any:
    """Replace the names of the protocol's Python types.

    Servers in Python accept them, so clients like Microsoft's Agent Framework send them.
    """
    if isinstance(value, list):
        return [to_protocol_names(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        _PYTHON_NAMES.get(name, name): to_protocol_names(member) if name in _NESTED else member
        for name, member in value.items()
    }


def read_agui_messages(messages: Any, context: Any) -> list[dict[str, Any]]:
    """Return the messages of a conversation, after a system message with the context.

    Calls of tools without a result are skipped.

    :param context: A list of objects with a description and a value, from the user interface.
    :raises ApiError: ``invalid_request``, with the name of the field.
    """
    found = _read_context(context)
    given = check_list(messages)
    answered = {
        call_id
        for message in given
        if message.get("role") == "tool" and isinstance(call_id := message.get("toolCallId"), str)
    }
    for at, message in enumerate(given):
        where, role = f"messages[{at}]", message.get("role")
        if role not in ROLES:
            raise refuse(f"{where}.role must be one of {', '.join(ROLES)}")
        if role in ("activity", "reasoning"):
            continue
        content = message.get("content")
        if role == "user" and isinstance(content, list):
            content = [_read_part(one, f"{where}.content[{i}]") for i, one in enumerate(content)]
        if role == "tool" and (error := message.get("error")):
            content = _add_error(content, error)
        calls = _read_calls(message.get("toolCalls"), where, answered)
        call_id = message.get("toolCallId")
        if not isinstance(call_id, str | None):
            raise refuse(f"{where}.toolCallId must be a string")
        read = {"role": role, "content": content, "tool_calls": calls, "tool_call_id": call_id}
        found.append(read)
    return found


def read_resume(entries: Any) -> list[Answer]:
    """Return the answers to interrupts, or an empty list.

    :raises ApiError: ``invalid_request``, with the name of the field.
    """
    if not isinstance(entries, list | None):
        raise refuse("resume must be a list")
    return [_read_entry(one, f"resume[{at}]") for at, one in enumerate(entries or ())]


def _read_entry(entry: Any, where: str) -> Answer:
    if not isinstance(entry, dict) or not isinstance(entry.get("interruptId"), str):
        raise refuse(f"{where}.interruptId must be a string")
    check_text(f"{where}.interruptId", entry["interruptId"])
    if entry.get("status") == "cancelled":
        return Answer(entry["interruptId"], approved=False)
    payload = entry.get("payload")
    if entry.get("status") != "resolved" or not isinstance(payload, dict):
        raise refuse(f"{where}.status must be cancelled, or resolved with an object as payload")
    approved, arguments = payload.get("approved"), payload.get("editedArgs")
    if not isinstance(approved, bool):
        raise refuse(f"{where}.payload.approved must be true or false")
    if arguments is not None and not isinstance(arguments, dict):
        raise refuse(f"{where}.payload.editedArgs must be an object")
    comment = read_comment(f"{where}.payload.reason", payload.get("reason"))
    return Answer(entry["interruptId"], approved, comment, arguments)


def _read_context(context: Any) -> list[dict[str, Any]]:
    if not isinstance(context, list | None):
        raise refuse("context must be a list")
    lines = []
    for at, one in enumerate(context or ()):
        given = one if isinstance(one, dict) else {}
        about, value = given.get("description"), given.get("value")
        if not isinstance(about, str) or not isinstance(value, str):
            raise refuse(f"context[{at}] must have a description and a value, both strings")
        lines.append(f"{about}: {value}")
    return [{"role": "system", "content": "\n".join(lines)}] if lines else []


def _read_calls(calls: Any, where: str, answered: set[str]) -> list[dict[str, Any]]:
    if not isinstance(calls, list | None) or not all(isinstance(one, dict) for one in calls or ()):
        raise refuse(f"{where}.toolCalls must be a list of objects")
    return [
        {"id": one["id"], "type": "function", "function": one.get("function")}
        for one in calls or ()
        if isinstance(one.get("id"), str) and one["id"] in answered
    ]


def _add_error(content: Any, error: Any) -> Any:
    """Return the content of a result with its error, which may follow a partial result."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return [*(parts if content else ()), {"type": "text", "text": f"Error: {to_text(error)}"}]


def _read_part(part: Any, where: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise refuse(f"{where}.text must be a string")
        return {"type": "text", "text": part["text"]}
    if kind == "binary":
        return _read_binary(part, where)
    source = part.get("source") if kind in _MEDIA else None
    if not isinstance(source, dict) or not isinstance(source.get("value"), str):
        raise refuse(f"{where} must be text, or {', '.join(_MEDIA)} with a source")
    about = part.get("metadata")
    name = about.get("filename") if isinstance(about, dict) else None  # as CopilotKit sends it
    return _make_part(name or kind, source.get("type"), source["value"], source.get("mimeType"))


def _read_binary(part: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a file from a ``binary`` part of the versions before 1.0."""
    for kind, name in (("data", "data"), ("url", "url"), ("file", "id")):
        if isinstance(part.get(name), str):
            return _make_part(part.get("filename"), kind, part[name], part.get("mimeType"))
    raise refuse(f"{where} must have data, url or id")


def _make_part(name: Any, source: Any, value: str, media_type: Any) -> dict[str, Any]:
    """Return a part in OpenAI's format.

    :param source: ``data`` if the value is base64, ``url`` for a URL, ``file`` for an attachment
        id.
    """
    if source == "file":
        return {"type": "file", "file": {"file_id": value}}
    url = value if source == "url" else f"data:{media_type};base64,{value}"
    return make_file_part(url, media_type, name)

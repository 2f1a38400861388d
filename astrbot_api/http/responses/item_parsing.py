"""Validation of one item of a response's ``input``, and its conversion to the stored form.

See :mod:`.items` for the stored form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...chat.context.compacted import unpack
from ...errors import refuse
from ...messages import Media, Plain, Segment, check_text, clean_text
from ..decisions import read_comment
from .files import FILE_TYPES, ItemFiles
from .items import MAX_NAME_CHARS, join_name, read_text

ROLES = ("user", "assistant", "system", "developer")

ITEM_TYPES = (
    "message", "function_call", "function_call_output", "reasoning", "mcp_call",
    "mcp_approval_request", "mcp_approval_response", "item_reference", "compaction",
)  # fmt: skip


def find_reference(item: Any, where: str) -> str | None:
    """Return the id in a reference to an item, or None if the item is not a reference."""
    if not isinstance(item, dict):
        return None
    kind = item.get("type")
    if kind is None and "role" not in item and "id" in item:
        kind = "item_reference"
    return read_text(item, "id", where) if kind == "item_reference" else None


class ItemParser:
    """Parser of the items of one request."""

    def __init__(self, files: ItemFiles) -> None:
        self._files = files

    def parse(self, item: Any, where: str, segments: list[Segment] | None = None) -> dict[str, Any]:
        """Return an item in the stored form.

        :param where: Place of the item in the request, for errors.
        :param segments: Receives the content of the message to answer. None for all other items.
        :raises ApiError: ``invalid_request``, or the error of storing a file.
        """
        if not isinstance(item, dict):
            raise refuse(f"{where} must be an object")
        kind = item.get("type")
        if kind is None and "role" in item:
            kind = "message"
        if kind == "message":
            return self._parse_message(item, where, segments)
        if kind == "function_call_output":
            return {"type": kind, **self._parse_call_output(item, where)}
        parse = _PARSERS.get(kind) if isinstance(kind, str) else None
        if parse is None:
            raise refuse(f"{where}.type must be one of {', '.join(ITEM_TYPES)}")
        return {"type": kind, **parse(item, where)}

    def _parse_message(
        self, item: dict[str, Any], where: str, segments: list[Segment] | None
    ) -> dict[str, Any]:
        role, content = item.get("role"), item.get("content")
        if role not in ROLES:
            raise refuse(f"{where}.role must be one of {', '.join(ROLES)}")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not isinstance(content, list):
            raise refuse(f"{where}.content must be a string or a list of parts")
        parts = [
            self._parse_part(part, f"{where}.content[{at}]", role, segments)
            for at, part in enumerate(content)
        ]
        return {"type": "message", "role": role, "content": parts}

    def _parse_part(
        self, part: Any, where: str, role: str, segments: list[Segment] | None
    ) -> dict[str, Any]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("input_text", "output_text", "text", "refusal", "summary_text"):
            name = "refusal" if kind == "refusal" else "text"
            text = read_text(part, name, where, limit=None)
            if segments is not None:
                check_text(f"{where}.{name}", part[name])
                segments.append(Plain(text.strip()))
            if role == "assistant":
                return {"type": "output_text", "text": text, "annotations": []}
            return {"type": "input_text", "text": text}
        if kind not in FILE_TYPES:
            raise refuse(
                f"{where}.type must be input_text, output_text, refusal, input_image, input_file "
                "or input_audio"
            )
        file_id = None
        if segments is not None:
            file_id = self._files.read(part, where)
            segments.append(Media(file_id))
        elif role == "user":
            file_id = self._files.read_earlier(part, where)
        return _to_file_part(part, file_id)

    def _parse_call_output(self, item: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Return a tool's output: a text, or a list of parts if it has files."""
        call_id, output = read_text(item, "call_id", where), item.get("output")
        joined = _join_output(output, f"{where}.output")
        parts: list[dict[str, Any]] = []
        for at, part in enumerate(output if isinstance(output, list) else ()):
            if part["type"] in FILE_TYPES:
                file_id = self._files.read_earlier(part, f"{where}.output[{at}]")
                parts.append(_to_file_part(part, file_id))
            else:
                parts.append({"type": "input_text", "text": clean_text(part["text"])})
        has_files = any(part.get("file_id") for part in parts)
        return {"call_id": call_id, "output": parts if has_files else joined}


def _parse_call(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    namespace = None if item.get("namespace") is None else read_text(item, "namespace", where)
    return {
        "call_id": read_text(item, "call_id", where),
        "name": join_name(namespace, read_text(item, "name", where)),
        "arguments": read_text(item, "arguments", where, limit=None),
    }


def _to_file_part(part: Mapping[str, Any], file_id: str | None) -> dict[str, Any]:
    """Return a file in the stored form."""
    if part["type"] == "input_image":
        return {"type": "input_image", "detail": "auto", "file_id": file_id, "image_url": None}
    filename = part.get("filename")
    name = filename[:MAX_NAME_CHARS] if isinstance(filename, str) else None
    return {"type": "input_file", "file_id": file_id, "filename": name}


def _parse_mcp_call(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    output = item.get("output")
    return {
        **_parse_approval_request(item, where),
        "output": None if output is None else _join_output(output, f"{where}.output"),
    }


def _parse_approval_request(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    return {
        "server_label": read_text(item, "server_label", where),
        "name": read_text(item, "name", where),
        "arguments": read_text(item, "arguments", where, limit=None),
    }


def _parse_approval(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a person's answer to an approval request."""
    approve, reason = item.get("approve"), item.get("reason")
    if not isinstance(approve, bool):
        raise refuse(f"{where}.approve must be true or false")
    if reason is not None:
        read_comment(f"{where}.reason", reason)
    request_id = read_text(item, "approval_request_id", where)
    return {"approval_request_id": request_id, "approve": approve, "reason": reason}


def _parse_compaction(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the validated content of an item of ``/responses/compact``."""
    content = read_text(item, "encrypted_content", where, limit=None)
    try:
        summary = unpack(content)
    except ValueError as error:
        raise refuse(
            f"{where}.encrypted_content is not from /responses/compact of this server; send the "
            "item unchanged, or leave it out"
        ) from error
    check_text(f"{where}.encrypted_content", summary)
    return {"encrypted_content": content}


def _parse_reasoning(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return reasoning that a client sends back. It is stored, but not sent to the model."""
    parts = item.get("summary")
    summary = [
        {
            "type": "summary_text",
            "text": read_text(part, "text", f"{where}.summary[{at}]", limit=None),
        }
        for at, part in enumerate(parts if isinstance(parts, list) else ())
        if isinstance(part, dict)
    ]
    return {"summary": summary}


#: Type of an item -> parser of its other members.
_PARSERS: dict[str, Callable[[Mapping[str, Any], str], dict[str, Any]]] = {
    "function_call": _parse_call,
    "reasoning": _parse_reasoning,
    "mcp_call": _parse_mcp_call,
    "mcp_approval_request": _parse_approval_request,
    "mcp_approval_response": _parse_approval,
    "compaction": _parse_compaction,
}


def _join_output(output: Any, where: str) -> str:
    """Return a tool's output as text, with a placeholder for each file."""
    if isinstance(output, str):
        return clean_text(output)
    if not isinstance(output, list):
        raise refuse(f"{where} must be a string or a list of parts")
    texts = []
    for at, part in enumerate(output):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("input_text", "output_text", "text"):
            texts.append(read_text(part, "text", f"{where}[{at}]", limit=None))
        elif kind in ("input_image", "input_file"):
            texts.append(f"[{kind.removeprefix('input_')}]")
        else:
            raise refuse(f"{where}[{at}].type must be input_text, input_image or input_file")
    return "\n".join(texts)

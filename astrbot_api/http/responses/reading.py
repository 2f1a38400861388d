"""Conversion of a response's ``input`` to stored items and to the parts of a turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ...chat.context.compacted import unpack
from ...chat.context.supplied import SuppliedContext
from ...chat.context.thread import SYSTEM_ROLES, read_items
from ...errors import refuse
from ...messages import Media, Plain, Segment, check_text, require_content
from ..own_runs import MAX_COMMENT_CHARS
from .files import FILE_TYPES, ItemFiles

#: Maximum number of items in one input.
MAX_ITEMS = 2000

#: Accepted roles of a message.
ROLES = ("user", "assistant", "system", "developer")

#: Accepted types of input items.
ITEM_TYPES = (
    "message", "function_call", "function_call_output", "reasoning", "mcp_call",
    "mcp_approval_request", "mcp_approval_response", "item_reference", "compaction",
)  # fmt: skip

#: Maximum length of the name and of the id of a call.
_MAX_NAME_CHARS = 256

#: Returns an item in the stored form, by its id.
FindItem = Callable[[str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ResponseInput:
    """Parsed input of a response.

    :param items: Items in the stored form; see :mod:`.items`.
    :param segments: The message to answer, or empty if the turn continues the thread without one.
    """

    items: list[dict[str, Any]]
    segments: list[Segment]
    context: SuppliedContext


@dataclass(frozen=True, slots=True)
class InputReader:
    """Parser of input items.

    :param files: Reads the files of messages.
    :param find_item: Finds an item by the id in a reference.
    :param max_chars: Maximum length of the message to answer, in characters.
    :param max_segments: Maximum number of parts in the message to answer.
    :param max_referred_bytes: Maximum size of all referenced items, in bytes of JSON.
    """

    files: ItemFiles
    find_item: FindItem
    max_chars: int
    max_segments: int
    max_referred_bytes: int
    #: Cache of referenced items and their sizes. A repeated reference counts each time.
    _found: dict[str, tuple[dict[str, Any], int]] = field(default_factory=dict)

    def read(self, value: Any, instructions: str, *, continues: bool) -> ResponseInput:
        """Return the parsed input.

        The user's last message is answered. Items after it are sent to the model unchanged.

        :param value: The field ``input``.
        :param continues: Whether the response continues a thread, so results of calls suffice as
            input.
        :raises ApiError: ``invalid_request`` or ``message_empty``.
        """
        given = [{"role": "user", "content": value}] if isinstance(value, str) else value
        if not isinstance(given, list):
            raise refuse("input must be a string or a list of items")
        if not given and not continues:
            raise refuse("input must have at least one item")
        last = _find_last_user(given)
        segments: list[Segment] = []
        items = self.read_all(given, segments, last)
        said = read_items(items)
        users = [at for at, one in enumerate(said) if one.role == "user"]
        cut = users[-1] if last is not None else len(said)
        system = [one.text for one in said if one.role in SYSTEM_ROLES and one.text.strip()]
        before = [one for one in said[:cut] if one.role not in SYSTEM_ROLES]
        after = [one for one in said[cut + 1 :] if one.role not in SYSTEM_ROLES]
        if last is None:
            before, after = [], before
            if not after:
                segments, system = [Plain("\n\n".join(system).strip())], []
            elif not continues:
                raise refuse(
                    "input must have a message of the role user, or continue previous_response_id "
                    "or conversation"
                )
        if last is not None or not after:
            self._check(segments)
        text = "\n\n".join(filter(None, [instructions.strip(), *system]))
        return ResponseInput(items, segments, SuppliedContext(text, before, after))

    def read_all(
        self, given: list[Any], segments: list[Segment], last: int | None = None
    ) -> list[dict[str, Any]]:
        """Return items in the stored form.

        :param segments: Receives the content of the item at index ``last``.
        :raises ApiError: ``invalid_request``.
        """
        if len(given) > MAX_ITEMS:
            raise refuse(f"input has {len(given)} items; at most {MAX_ITEMS} are allowed")
        room, found = self.max_referred_bytes, []
        for at, item in enumerate(given):
            if (item_id := _find_reference(item, f"input[{at}]")) is None:
                found.append(
                    self._read_item(item, f"input[{at}]", segments if at == last else None)
                )
                continue
            one, size = self._find(item_id)
            room -= size
            if room < 0:
                raise refuse(
                    f"input refers to items of more than {self.max_referred_bytes} bytes in "
                    "total; continue with previous_response_id, or refer to fewer"
                )
            found.append(one)
        return found

    def _find(self, item_id: str) -> tuple[dict[str, Any], int]:
        """Return a referenced item, and its stored size in bytes."""
        if item_id not in self._found:
            item = self.find_item(item_id)
            self._found[item_id] = item, len(orjson.dumps(item))
        return self._found[item_id]

    def _check(self, segments: list[Segment]) -> None:
        segments[:] = [one for one in segments if not isinstance(one, Plain) or one.text]
        require_content(segments)
        if len(segments) > self.max_segments:
            raise refuse(
                f"input has a message with {len(segments)} parts; at most {self.max_segments} "
                "are allowed"
            )
        chars = sum(len(one.text) for one in segments if isinstance(one, Plain))
        if chars > self.max_chars:
            raise refuse(
                f"input has a message of {chars} characters; at most {self.max_chars} are allowed"
            )

    def _read_item(self, item: Any, where: str, segments: list[Segment] | None) -> dict[str, Any]:
        if not isinstance(item, dict):
            raise refuse(f"{where} must be an object")
        kind = item.get("type")
        if kind is None and "role" in item:
            kind = "message"
        if kind == "message":
            return self._read_message(item, where, segments)
        if kind == "function_call":
            return {"type": kind, **_read_call(item, where)}
        if kind == "function_call_output":
            answer = _read_output(item.get("output"), f"{where}.output")
            return {"type": kind, "call_id": _text(item, "call_id", where), "output": answer}
        if kind == "reasoning":
            return {"type": kind, "summary": _read_summary(item.get("summary"), where)}
        if kind == "mcp_call":
            output = item.get("output")
            return {
                "type": kind,
                "server_label": _text(item, "server_label", where),
                "name": _text(item, "name", where),
                "arguments": _text(item, "arguments", where, limit=None),
                "output": None if output is None else _read_output(output, f"{where}.output"),
            }
        if kind == "mcp_approval_request":
            names = ("server_label", "name")
            asked = {name: _text(item, name, where) for name in names}
            return {"type": kind, **asked, "arguments": _text(item, "arguments", where, limit=None)}
        if kind == "mcp_approval_response":
            return _read_approval(item, where)
        if kind == "compaction":
            return {"type": kind, "encrypted_content": _read_compacted(item, where)}
        raise refuse(f"{where}.type must be one of {', '.join(ITEM_TYPES)}")

    def _read_message(
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
            self._read_part(part, f"{where}.content[{at}]", role, segments)
            for at, part in enumerate(content)
        ]
        return {"type": "message", "role": role, "content": parts}

    def _read_part(
        self, part: Any, where: str, role: str, segments: list[Segment] | None
    ) -> dict[str, Any]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("input_text", "output_text", "text", "refusal", "summary_text"):
            text = _text(part, "refusal" if kind == "refusal" else "text", where, limit=None)
            if segments is not None:
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
            file_id = self.files.read(part, where)
            segments.append(Media(file_id))
        elif role == "user":
            file_id = self.files.read_earlier(part, where)
        if kind == "input_image":
            return {"type": kind, "detail": "auto", "file_id": file_id, "image_url": None}
        filename = part.get("filename")
        name = filename[:_MAX_NAME_CHARS] if isinstance(filename, str) else None
        return {"type": "input_file", "file_id": file_id, "filename": name}


def _find_reference(item: Any, where: str) -> str | None:
    """Return the id in a reference to an item, or None if the item is not a reference."""
    if not isinstance(item, dict):
        return None
    kind = item.get("type")
    if kind is None and "role" not in item and "id" in item:
        kind = "item_reference"
    return _text(item, "id", where) if kind == "item_reference" else None


def _find_last_user(given: list[Any]) -> int | None:
    for at in range(len(given) - 1, -1, -1):
        item = given[at]
        if not isinstance(item, dict) or item.get("role") != "user":
            continue
        if item.get("type") in (None, "message"):
            return at
    return None


def _read_approval(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a person's answer to an approval request."""
    approve, reason = item.get("approve"), item.get("reason")
    if not isinstance(approve, bool):
        raise refuse(f"{where}.approve must be true or false")
    if not isinstance(reason, str | None):
        raise refuse(f"{where}.reason must be a string")
    if reason is not None:
        check_text(f"{where}.reason", reason)
        if len(reason) > MAX_COMMENT_CHARS:
            raise refuse(f"{where}.reason must have at most {MAX_COMMENT_CHARS} characters")
    return {
        "type": "mcp_approval_response",
        "approval_request_id": _text(item, "approval_request_id", where),
        "approve": approve,
        "reason": reason,
    }


def _read_compacted(item: Mapping[str, Any], where: str) -> str:
    """Return the validated content of an item of ``/responses/compact``."""
    content = _text(item, "encrypted_content", where, limit=None)
    try:
        summary = unpack(content)
    except ValueError as error:
        raise refuse(
            f"{where}.encrypted_content is not from /responses/compact of this server; send the "
            "item unchanged, or leave it out"
        ) from error
    check_text(f"{where}.encrypted_content", summary)
    return content


def _read_call(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    return {
        "call_id": _text(item, "call_id", where),
        "name": _text(item, "name", where),
        "arguments": _text(item, "arguments", where, limit=None),
    }


def _read_output(output: Any, where: str) -> str:
    """Return a tool's output as text, with a placeholder for each file."""
    if isinstance(output, str):
        check_text(where, output)
        return output
    if not isinstance(output, list):
        raise refuse(f"{where} must be a string or a list of parts")
    texts = []
    for at, part in enumerate(output):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("input_text", "output_text", "text"):
            texts.append(_text(part, "text", f"{where}[{at}]", limit=None))
        elif kind in ("input_image", "input_file"):
            texts.append(f"[{kind.removeprefix('input_')}]")
        else:
            raise refuse(f"{where}[{at}].type must be input_text, input_image or input_file")
    return "\n".join(texts)


def _read_summary(summary: Any, where: str) -> list[dict[str, str]]:
    """Return reasoning that a client sends back. It is stored, but not sent to the model."""
    if not isinstance(summary, list):
        return []
    return [
        {"type": "summary_text", "text": _text(part, "text", f"{where}.summary[{at}]", limit=None)}
        for at, part in enumerate(summary)
        if isinstance(part, dict)
    ]


def _text(
    value: Mapping[str, Any], name: str, where: str, *, limit: int | None = _MAX_NAME_CHARS
) -> str:
    text = value.get(name)
    if not isinstance(text, str):
        raise refuse(f"{where}.{name} must be a string")
    if limit is not None and not 0 < len(text) <= limit:
        raise refuse(f"{where}.{name} must have 1 to {limit} characters")
    check_text(f"{where}.{name}", text)
    return text

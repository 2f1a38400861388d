"""Items of input and output: their ids, and their JSON objects.

An id contains the entry of the item and its number in the entry, so the id alone finds the item.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import refuse
from ...messages import check_text, clean_text

#: Maximum length of ids and names.
MAX_NAME_CHARS = 256

#: Number of the first output item. Input items are numbered from 0.
OUTPUT_FROM = 0x8000

_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
    "mcp_call": "mcp",
    "mcp_approval_request": "mcpr",
    "mcp_approval_response": "mcpa",
    "compaction": "cmp",
}

_WITHOUT_STATUS = ("mcp_approval_request", "mcp_approval_response", "compaction")

_ITEM_ID = re.compile(r"[a-z]{2,4}_([0-9a-f]{32})([0-9a-f]{4})")


def read_text(
    value: Mapping[str, Any], name: str, where: str, *, limit: int | None = MAX_NAME_CHARS
) -> str:
    """Return a string member of an item or of a part.

    :param limit: Maximum length. With None, the string may be long, and is cleaned.
    :raises ApiError: ``invalid_request``.
    """
    text = value.get(name)
    if not isinstance(text, str):
        raise refuse(f"{where}.{name} must be a string")
    if limit is None:
        return clean_text(text)
    if not 0 < len(text) <= limit:
        raise refuse(f"{where}.{name} must have 1 to {limit} characters")
    check_text(f"{where}.{name}", text)
    return text


def is_of_user(item: Any) -> bool:
    """Return whether an unchecked item of an input is a message of the user."""
    return (
        isinstance(item, dict)
        and item.get("role") == "user"
        and item.get("type") in (None, "message")
    )


def make_item_id(kind: str, entry_id: str, number: int) -> str:
    return f"{_PREFIXES[kind]}_{entry_id}{number:04x}"


def parse_item_id(item_id: str) -> tuple[str, int] | None:
    """Return the entry and the number of an item id, or None if this server did not make the id."""
    found = _ITEM_ID.fullmatch(item_id)
    return None if found is None else (found[1], int(found[2], 16))


def iter_input(
    entry_id: str, items: Iterable[Mapping[str, Any] | None]
) -> Iterator[dict[str, Any]]:
    """Yield the items of an entry's input in the API's form."""
    for number, item in enumerate(items):
        if item is None:
            continue
        shown = {"id": make_item_id(item["type"], entry_id, number), **item}
        if item["type"] == "function_call":
            shown |= split_name(item["name"])
        if item["type"] not in _WITHOUT_STATUS:
            shown["status"] = "completed"
        yield shown


def to_stored(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item in the stored form, from the API's form."""
    stored = {key: value for key, value in item.items() if key not in ("id", "status")}
    if item["type"] == "function_call":
        stored["name"] = join_name(stored.pop("namespace", None), item["name"])
    return stored


#: Between the namespace and the name of a client's function, in the name for the model and in the
#: stored form. Chat completions have no namespaces.
_JOINT = "_-_"


def join_name(namespace: str | None, name: str) -> str:
    """Return the name of a client's function for the model."""
    return f"{namespace}{_JOINT}{name}" if namespace else name


def split_name(joined: str) -> dict[str, str]:
    """Return ``name`` and, if the function has one, ``namespace`` in the API's form."""
    namespace, joint, name = joined.partition(_JOINT)
    return {"name": name, "namespace": namespace} if joint else {"name": joined}


def text_part(text: str, annotations: list[Any]) -> dict[str, Any]:
    """Return the only part of an assistant's message."""
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}


#: Label of the config's tools, where OpenAI has the name of an MCP server.
SERVER_LABEL = "astrbot"


@dataclass(slots=True)
class OutputItem:
    """One item of the output, while the run adds to it."""

    kind: str
    id: str
    index: int
    text: str = ""
    pieces: list[str] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    call: dict[str, Any] = field(default_factory=dict)
    output: str | None = None
    done: bool = False
    #: Whether the answer ended within the item's text.
    cut: bool = False
    #: Whether a rewind removed the call.
    dropped: bool = False

    def join_pieces(self) -> str:
        """Join the pieces, and return the text so far."""
        if self.pieces:
            self.text += "".join(self.pieces)
            self.pieces = []
        return self.text

    def counts(self) -> bool:
        """Return whether the item is part of the answer, which a rewind can change."""
        if self.kind in ("message", "reasoning"):
            return bool(self.join_pieces() or self.annotations)
        return not self.dropped

    def to_object(self) -> dict[str, Any]:
        """Return the current state of the item in the API's form."""
        ended = "incomplete" if self.cut else "completed"
        status = ended if self.done else "in_progress"
        shown: dict[str, Any] = {"id": self.id, "type": self.kind, "status": status}
        text = self.join_pieces()
        if self.kind == "reasoning":  # AI SDK's provider for xAI requires its status
            summary = [{"type": "summary_text", "text": text}] if text else []
            return {**shown, "summary": summary, "encrypted_content": None}
        if self.kind == "message":
            return {**shown, "role": "assistant", "content": [text_part(text, self.annotations)]}
        called = {"name": self.call["name"], "arguments": text}
        if self.kind == "function_call":  # of one of the client's tools
            called |= split_name(self.call["name"])
            return {**shown, "call_id": self.call["id"], **called}
        if self.kind == "mcp_approval_request":
            del shown["status"]
            return {**shown, "server_label": SERVER_LABEL, **called}
        if self.done and self.output is None:
            shown["status"] = "failed"
        return {
            **shown, "server_label": SERVER_LABEL, **called, "output": self.output, "error": None,
            "approval_request_id": self.call.get("asked_by"),
        }  # fmt: skip


def page_of(items: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return one page of a list in OpenAI's format."""
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }

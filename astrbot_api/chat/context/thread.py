"""Threads of OpenAI's Responses API: each response continues an earlier one.

Two responses may continue the same one, which a session's messages cannot express. So a thread is
read backwards from the new response. Input items are unverified claims of the caller, as in
:mod:`.supplied`: the model gets them, but they never become messages of the session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...agent.provider import ModelMessage
from ...db.responses import EntryRow, find_numbered_entry
from ...db.store import Store
from ...messages import MEDIA_TYPES
from ...runtime.threads import let_others_run
from .budget import cost
from .compacted import introduce
from .steps import to_steps
from .supplied import Render, SuppliedMessage

SYSTEM_ROLES = ("system", "developer")

#: Text of the message with the files of tools' outputs, and of an output without a text.
_OF_TOOLS = "[Files of the tools' results]"
_FILES_FOLLOW = "(files: see below)"

#: Maximum number of entries to read. Each is read alone, since it may have megabytes.
_MAX_ENTRIES = 1000


@dataclass(frozen=True, slots=True)
class ThreadEntry:
    """The entry stored with a turn that is a response.

    :param previous: The entry to continue, or None to begin a thread.
    :param newest: Whether it continues the newest entry of its session.
    """

    key_id: str
    request_json: str
    input_json: str
    previous: int | None = None
    newest: bool = False


def load_thread(
    store: Store, previous: int, render: Render, budget: int
) -> tuple[list[str], list[ModelMessage]]:
    """Return the instructions and the messages of a thread, oldest first.

    The newest entry is always included, since the input may hold results of its calls.
    """
    instructions: list[str] = []
    messages: list[ModelMessage] = []
    room = budget
    told: set[str] = set()
    for entry in _iter_entries(store, previous):
        if entry.run_id in told:  # a later response contains the whole output of the run
            entry = replace(entry, reply=None)
        told.add(entry.run_id or "")
        said, own = _to_model(entry, render)
        room -= cost(own)
        if room < 0 and messages:
            break
        instructions[:0], messages[:0] = said, own
    return instructions, messages


def read_items(items: Iterable[Mapping[str, Any] | None]) -> list[SuppliedMessage]:
    """Convert stored items to messages. Adjacent calls form one message.

    The files of tools' outputs follow the outputs as a user's message, since few endpoints accept
    them in the output itself.
    """
    found: list[SuppliedMessage] = []
    files: list[dict[str, Any]] = []
    for at, item in enumerate(items):
        kind = item["type"] if item else ""
        if item is None:
            continue
        if files and kind != "function_call_output":
            found.append(_show_files(files))
            files = []
        if kind == "message":
            found.append(_read_message(item))
        elif kind == "function_call":
            call = _to_call(item["call_id"], item)
            last = found[-1] if found else None
            if last is not None and last.role == "assistant":
                found[-1] = replace(last, calls=(*last.calls, call))
            else:
                found.append(SuppliedMessage("assistant", "", calls=(call,)))
        elif kind == "function_call_output":
            text, sent = _read_parts(item["output"])
            text = text or (_FILES_FOLLOW if sent else "")
            found.append(SuppliedMessage("tool", text, call_id=item["call_id"]))
            files += sent
        elif kind == "compaction":
            found.append(SuppliedMessage("assistant", introduce(item["encrypted_content"])))
        elif kind == "mcp_call" and item["output"] is not None:
            call_id = f"mcp_{at}"
            call = _to_call(call_id, item)
            found.append(SuppliedMessage("assistant", "", calls=(call,)))
            found.append(SuppliedMessage("tool", item["output"], call_id=call_id))
    return [*found, _show_files(files)] if files else found


def _number_parts(parts: Iterable[Mapping[str, Any]]) -> Iterator[int]:
    """Yield the number of the output item of each part of a reply.

    Adjacent texts and files form one item. Every other part is an item of its own.
    """
    number, in_message = -1, False
    for part in parts:
        of_message = part["type"] == "plain" or part["type"] in MEDIA_TYPES
        if not (of_message and in_message):
            number += 1
        in_message = of_message
        yield number


def _iter_entries(store: Store, previous: int) -> Iterator[EntryRow]:
    """Yield the entries in the model's context, newest first."""
    following: int | None = previous
    for _ in range(_MAX_ENTRIES):
        if following is None:
            return
        with store.read() as db:
            entry = find_numbered_entry(db, following)
        if entry is None or (entry.reply is not None and entry.reply.id <= entry.context_after):
            return
        yield entry
        following = entry.previous
        let_others_run()


def _to_model(entry: EntryRow, render: Render) -> tuple[list[str], list[ModelMessage]]:
    content = entry.reply.content if entry.reply else {}
    if content and "agent_stats" not in content and "error" not in content:
        return [], []  # a command
    said = read_items(entry.input)
    instructions = [one.text for one in said if one.role in SYSTEM_ROLES]
    messages = [one.to_model(render) for one in said if one.role not in SYSTEM_ROLES]
    if entry.reply is not None:
        messages += _to_answer(entry, content.get("message", []), entry.reply.steps)
    return instructions, messages


def _to_answer(
    entry: EntryRow, parts: Sequence[dict[str, Any]], steps: Sequence[Mapping[str, Any]] | None
) -> list[ModelMessage]:
    """Return the output of a response. Results of the caller's calls are input of a later entry."""
    if entry.removed:
        kept = zip(parts, _number_parts(parts), strict=True)
        parts, steps = [part for part, number in kept if number not in entry.removed], None
    callers = {
        call["id"]
        for part in parts
        for call in part.get("tool_calls", ())
        if call.get("by_caller") and "result" not in call
    }
    return [one for one in to_steps(parts, steps) if one.get("tool_call_id") not in callers]


def _read_message(item: Mapping[str, Any]) -> SuppliedMessage:
    text, files = _read_parts(item["content"])
    segments = [{"type": "plain", "text": text}, *files] if files else ()
    return SuppliedMessage(item["role"], text, segments=segments)


def _read_parts(content: str | Sequence[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the text of a message or of a tool's output, and its files as segments."""
    if isinstance(content, str):
        return content, []
    texts: list[str] = []
    files: list[dict[str, Any]] = []
    for part in content:
        if "text" in part or "refusal" in part:
            texts.append(part.get("text") or part.get("refusal") or "")
        elif part.get("file_id"):
            files.append({"type": "file", "attachment_id": part["file_id"], "filename": ""})
        else:
            texts.append(f"[{part['type'].removeprefix('input_')}]")
    return "\n".join(filter(None, texts)), files


def _show_files(files: list[dict[str, Any]]) -> SuppliedMessage:
    return SuppliedMessage(
        "user", _OF_TOOLS, segments=[{"type": "plain", "text": _OF_TOOLS}, *files]
    )


def _to_call(call_id: str, item: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": call_id, "type": "function", "function": function}

"""A thread of OpenAI's API: responses with their input, each going on from an earlier one.

Two responses may go on from the same one, which the messages of a session cannot. So a thread
is followed from the new response backwards. Items of the input are claims of the caller's, as in
:mod:`.supplied`: they are given to the model and never stored as messages of the session.
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

#: Roles whose messages are instructions.
SYSTEM_ROLES = ("system", "developer")

#: Most entries that are read; one at a time, since each may have megabytes.
_MAX_ENTRIES = 1000


@dataclass(frozen=True, slots=True)
class ThreadEntry:
    """What is stored with a turn that is a response.

    :param key_id: The key that it belongs to.
    :param request_json: What it was asked with.
    :param input_json: The items of its input.
    :param previous: The entry that it goes on from; None: it begins a thread.
    :param newest: It goes on from the newest entry of its session, whichever that is by then.
    """

    key_id: str
    request_json: str
    input_json: str
    previous: int | None = None
    newest: bool = False


def load_thread(
    store: Store, previous: int, render: Render, budget: int
) -> tuple[list[str], list[ModelMessage]]:
    """Return the instructions and the messages of a thread, the oldest first.

    The newest entry is always among them: results of its calls may be what is answered.

    :param previous: The number of the newest entry.
    :param budget: Tokens that the messages may have.
    """
    instructions: list[str] = []
    messages: list[ModelMessage] = []
    room = budget
    told: set[str] = set()
    for entry in _iter_entries(store, previous):
        if entry.run_id in told:  # a later response has all that the run said
            entry = replace(entry, reply=None)
        told.add(entry.run_id or "")
        said, own = _to_model(entry, render)
        room -= cost(own)
        if room < 0 and messages:
            break
        instructions[:0], messages[:0] = said, own
    return instructions, messages


def read_items(items: Iterable[Mapping[str, Any] | None]) -> list[SuppliedMessage]:
    """Return items, as they are stored, as messages; calls side by side are of one message."""
    found: list[SuppliedMessage] = []
    for at, item in enumerate(items):
        kind = item["type"] if item else ""
        if item is None:
            continue
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
            found.append(SuppliedMessage("tool", item["output"], call_id=item["call_id"]))
        elif kind == "compaction":
            found.append(SuppliedMessage("assistant", introduce(item["encrypted_content"])))
        elif kind == "mcp_call" and item["output"] is not None:
            call_id = f"mcp_{at}"
            call = _to_call(call_id, item)
            found.append(SuppliedMessage("assistant", "", calls=(call,)))
            found.append(SuppliedMessage("tool", item["output"], call_id=call_id))
    return found


def number_parts(parts: Iterable[Mapping[str, Any]]) -> Iterator[int]:
    """Yield, for each part of a reply, the number of the output item that it is of.

    Texts and files that follow each other are one item; any other part is one of its own.
    """
    number, in_message = -1, False
    for part in parts:
        of_message = part["type"] == "plain" or part["type"] in MEDIA_TYPES
        if not (of_message and in_message):
            number += 1
        in_message = of_message
        yield number


def _iter_entries(store: Store, previous: int) -> Iterator[EntryRow]:
    """Yield the entries that the model still sees, the newest first."""
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
    """Return what a response said. Results of the caller's calls are input of a later entry."""
    if entry.removed:
        kept = zip(parts, number_parts(parts), strict=True)
        parts, steps = [part for part, number in kept if number not in entry.removed], None
    callers = {
        call["id"]
        for part in parts
        for call in part.get("tool_calls", ())
        if call.get("by_caller") and "result" not in call
    }
    return [one for one in to_steps(parts, steps) if one.get("tool_call_id") not in callers]


def _read_message(item: Mapping[str, Any]) -> SuppliedMessage:
    texts: list[str] = []
    segments: list[dict[str, Any]] = []
    for part in item["content"]:
        if "text" in part or "refusal" in part:
            texts.append(part.get("text") or part.get("refusal") or "")
            segments.append({"type": "plain", "text": texts[-1]})
        elif part.get("file_id"):
            segments.append({"type": "file", "attachment_id": part["file_id"], "filename": ""})
        else:
            texts.append(f"[{part['type'].removeprefix('input_')}]")
            segments.append({"type": "plain", "text": texts[-1]})
    has_files = any(one["type"] == "file" for one in segments)
    return SuppliedMessage(
        item["role"], "\n".join(filter(None, texts)), segments=segments if has_files else ()
    )


def _to_call(call_id: str, item: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": call_id, "type": "function", "function": function}

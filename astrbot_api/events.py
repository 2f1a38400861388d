"""Every event of a chat stream, and how it becomes a line.

Each function returns the event's JSON object as the contract has it; the
docstrings are what ``docs/events.rst`` and the OpenAPI document say. ``R`` is
the run's id, which is every event's ``message_id``.
"""

from __future__ import annotations

from typing import Any

import orjson

Event = dict[str, Any]

#: Longest line of a stream, in bytes: one client in use stops reading at
#: 256 KiB. What is longer is cut into several events.
MAX_LINE_BYTES = 256 * 1024

#: Text of one ``plain`` event, in characters; six bytes of JSON each at worst.
_MAX_PIECE_CHARS = 32_000


def session_id(session: str | int) -> Event:
    """The first event, sent before the model is asked: which session this is."""
    return {"type": "session_id", "data": None, "session_id": session}


def user_message_saved(number: int, created_at: str, checkpoint: str) -> Event:
    """The user's message is stored under this id."""
    data = {"id": number, "created_at": created_at, "llm_checkpoint_id": checkpoint}
    return {"type": "user_message_saved", "data": data}


def run_started(run_id: str) -> Event:
    """The turn has an id, by which it can be stopped and resumed."""
    return {
        "type": "run_started", "data": {"run_id": run_id}, "streaming": False,
        "message_id": run_id,
    }  # fmt: skip


def plain(run_id: str, text: str, *, streaming: bool, chain_type: str | None = None) -> Event:
    """A piece of the answer, or (``reasoning``) of the thinking, to append."""
    return {
        "type": "plain", "data": text, "streaming": streaming, "chain_type": chain_type,
        "message_id": run_id,
    }  # fmt: skip


def plain_pieces(
    run_id: str, text: str, *, streaming: bool, chain_type: str | None = None
) -> list[Event]:
    """Return ``text`` as one ``plain`` event, or as several where it is very long."""
    return [
        plain(run_id, text[at : at + _MAX_PIECE_CHARS], streaming=streaming, chain_type=chain_type)
        for at in range(0, len(text), _MAX_PIECE_CHARS)
    ]


def tool_call(run_id: str, call: dict[str, Any]) -> Event:
    """The model calls a tool: ``data`` is JSON text of ``{"id","name","args","ts"}``."""
    return plain(run_id, _json_text(call), streaming=False, chain_type="tool_call")


def tool_call_result(run_id: str, result: dict[str, Any]) -> Event:
    """A tool answered: ``data`` is JSON text of ``{"id","ts","result"}``."""
    return plain(run_id, _json_text(result), streaming=False, chain_type="tool_call_result")


def media(run_id: str, kind: str, filename: str, *, streaming: bool) -> Event:
    """A tool has made a file: ``data`` is ``[IMAGE]name``, and so on by its type."""
    return {
        "type": kind, "data": f"[{kind.upper()}]{filename}", "streaming": streaming,
        "message_id": run_id,
    }  # fmt: skip


def attachment_saved(attachment_id: str, kind: str) -> Event:
    """The file of the event before can be fetched by this id."""
    return {"type": "attachment_saved", "data": {"id": attachment_id, "type": kind}}


def agent_stats(stats: dict[str, Any]) -> Event:
    """Tokens and times of the turn, in seconds."""
    return {"type": "agent_stats", "data": stats}


def complete(run_id: str, text: str, reasoning: str, *, streaming: bool) -> Event:
    """The whole answer and the whole thinking. It is stored by now."""
    return {
        "type": "complete", "data": text, "reasoning": reasoning, "streaming": streaming,
        "message_id": run_id,
    }  # fmt: skip


def message_saved(number: int, created_at: str, checkpoint: str | None) -> Event:
    """The bot's message is stored under this id."""
    data = {"id": number, "created_at": created_at, "llm_checkpoint_id": checkpoint}
    return {"type": "message_saved", "data": data}


def error(run_id: str, code: str, message: str) -> Event:
    """The turn failed: ``code`` is stable, ``data`` is for people. ``end`` follows."""
    return {"type": "error", "code": code, "data": message, "message_id": run_id}


def end(run_id: str) -> Event:
    """The last event of every stream."""
    return {"type": "end", "data": "", "streaming": False, "message_id": run_id}


def run_snapshot(
    run_id: str,
    session: str,
    checkpoint: str | None,
    status: str,
    revision: int,
    content: dict[str, Any],
) -> Event:
    """What a resumed run has said so far; ``revision`` is the number of its last event."""
    data = {
        "run_id": run_id, "session_id": session, "llm_checkpoint_id": checkpoint,
        "status": status, "revision": revision, "content": content,
    }  # fmt: skip
    return {"type": "run_snapshot", "data": data, "message_id": run_id}


def encode_frame(event: Event, number: int) -> str:
    """Return the event as a server-sent event.

    :param number: Its place in the run, from 1; a client that resumes sends
        it back as ``Last-Event-ID``.
    """
    line = orjson.dumps(event)
    if len(line) > MAX_LINE_BYTES - 64:
        line = orjson.dumps(_fit_line(event))
    return f"data: {line.decode()}\nid: {number}\n\n"


def _fit_line(event: Event) -> Event:
    """Shorten the texts of an event until its line is short enough.

    Only ``complete`` (whose text was streamed, and stands whole in the
    history) and a tool's result can come here. ``truncated`` tells it.
    """
    shortened = {**event, "truncated": True}
    limit = MAX_LINE_BYTES - 1024
    for key in ("reasoning", "data"):
        text = shortened.get(key)
        if not isinstance(text, str):
            continue
        excess = len(orjson.dumps(shortened)) - limit
        if excess <= 0:
            break
        # A character is at most six bytes of JSON, so this never cuts too little.
        encoded = len(orjson.dumps(text))
        keep = max(0, encoded - excess) * len(text) // max(encoded, 1)
        while keep and len(orjson.dumps({**shortened, key: text[:keep]})) > limit:
            keep = keep * 9 // 10
            if key == "reasoning" and len(orjson.dumps({**shortened, key: ""})) > limit:
                keep = 0
        shortened[key] = text[:keep]
    return shortened


def _json_text(value: dict[str, Any]) -> str:
    return orjson.dumps(value).decode()

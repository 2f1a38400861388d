"""Every event of a stream, and how it becomes a line.

Each function returns the event's JSON object as the contract has it. Its
docstring is published (``docs/events.rst``): write it for client authors.
"""

from __future__ import annotations

from typing import Any

import orjson

from .event_lines import MAX_LINE_BYTES, encode_line, fit_line

Event = dict[str, Any]

#: Events that open a run. What is stored of its request says what they are.
OPENING = frozenset({"session_id", "user_message_saved", "run_started"})

#: Events that close a run. Its stored reply says what they are.
CLOSING = frozenset({"agent_stats", "complete", "message_saved", "error", "end"})

#: Text of one ``plain`` event, in characters; six bytes of JSON each at worst.
_MAX_PIECE_CHARS = 32_000


def session_id(session: str | int) -> Event:
    """Which session this is: always the first event, sent before the model is asked.

    ``session_id`` is what the request said, or the UUID of a new session.
    """
    return {"type": "session_id", "data": None, "session_id": session}


def user_message_saved(number: int, created_at: str, checkpoint: str) -> Event:
    """The user's message is stored.

    ``data.id`` is its number, by which it can be quoted and changed. Not sent when the message is
    not stored (``_skip_user_history``), when an answer is regenerated, and over WebSocket.
    ``llm_checkpoint_id`` is shared by the message and its answer.
    """
    data = {"id": number, "created_at": created_at, "llm_checkpoint_id": checkpoint}
    return {"type": "user_message_saved", "data": data}


def run_started(run_id: str) -> Event:
    """The turn has an id, ``data.run_id``, by which it can be resumed and stopped.

    The same id is the ``message_id`` of every further event of the turn.
    """
    return {
        "type": "run_started", "data": {"run_id": run_id}, "streaming": False,
        "message_id": run_id,
    }  # fmt: skip


def queue_position(run_id: str, position: int) -> Event:
    """The turn waits for a place at the AstrBot that answers it.

    ``data.position`` counts from 1. Comes again when it changes, at most once a second.
    """
    return {"type": "queue_position", "data": {"position": position}, "message_id": run_id}


def plain(run_id: str, text: str, *, streaming: bool, chain_type: str | None = None) -> Event:
    """A piece of text, to append to what came before.

    With ``chain_type`` ``null`` it is of the answer, with ``"reasoning"`` of the model's thinking.
    ``streaming`` is false where the text comes in one piece: without streaming, and as the answer
    of a command.
    """
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
    """The model calls a tool.

    ``data`` is a string that holds a JSON object: ``id`` of the call, ``name`` of the tool, its
    arguments ``args``, the time ``ts`` in seconds. With ``by_caller`` the tool is the client's own
    (OpenAI format): the turn ends, and no result follows.
    """
    return plain(run_id, orjson.dumps(call).decode(), streaming=False, chain_type="tool_call")


def tool_call_result(run_id: str, result: dict[str, Any]) -> Event:
    """A tool has answered.

    ``data`` is a string that holds a JSON object: ``id`` of the call, the time ``ts``, and
    ``result``, a text.
    """
    text = orjson.dumps(result).decode()
    return plain(run_id, text, streaming=False, chain_type="tool_call_result")


def tool_progress(
    run_id: str, call_id: str, progress: float, total: float | None, message: str
) -> Event:
    """A tool that takes long says how far it is.

    ``data`` has the ``id`` of the call, ``progress``, a number that grows, and where they are known
    ``total``, its value at the end, and ``message``. Comes at most once a second for a call, and is
    not stored.
    """
    data = {"id": call_id, "progress": progress}
    known = {"total": total, "message": message}
    return {
        "type": "tool_progress", "message_id": run_id,
        "data": {**data, **{key: value for key, value in known.items() if value}},
    }  # fmt: skip


def media(run_id: str, kind: str, filename: str, *, streaming: bool) -> Event:
    """A tool has made a file, which can be shown now.

    ``data`` is the type in capitals, in brackets, and the file's name: ``[IMAGE]plot.png``,
    ``[RECORD]…`` (audio), ``[VIDEO]…``, ``[FILE]…``. ``attachment_saved`` follows at once.
    """
    return {
        "type": kind, "data": f"[{kind.upper()}]{filename}", "streaming": streaming,
        "message_id": run_id,
    }  # fmt: skip


def attachment_saved(attachment_id: str, kind: str) -> Event:
    """The file of the event before is stored as the attachment ``data.id``.

    Fetch it with ``GET /api/v1/file?attachment_id=…``; ``data.type`` is ``image``, ``record``,
    ``video`` or ``file``.
    """
    return {"type": "attachment_saved", "data": {"id": attachment_id, "type": kind}}


def agent_stats(stats: dict[str, Any]) -> Event:
    """Tokens and times of the turn, once the answer is whole.

    Of what the model read, ``input_cached`` is what its endpoint had cached, ``input_other`` the
    rest; ``current_context_tokens`` is what it read in the last step. ``start_time`` and
    ``end_time`` are seconds since 1970, ``time_to_first_token`` is seconds. ``finish_reason``
    says why the answer ended, as in ``complete``; ``provider`` and ``model`` say who gave it.
    Not sent for the answer of a command.

    Tokens that the model did not report, as of an answer that was stopped, are estimated in
    ``estimated_tokens`` (``input``, ``output``); the limits of keys count them.
    """
    return {"type": "agent_stats", "data": stats}


def approval_required(
    run_id: str, approval_id: str, tool: str, arguments: Any, expires_at: str
) -> Event:
    """A person must approve a tool call; the turn waits, and the stream ends here.

    ``data`` has the ``id`` of the approval, the ``tool``, its ``arguments`` and ``expires_at``.
    After that time the call counts as rejected. Decide with ``POST
    /chat/runs/{run_id}/approvals/{id}`` or by a message ``/approve`` or ``/reject``. Then resume
    the stream: the turn goes on in it. ``truncated`` is true where the line would have been too
    long: texts of ``arguments`` are cut then, and ``GET /chat/runs/{run_id}`` has them whole.
    """
    data = {"id": approval_id, "tool": tool, "arguments": arguments, "expires_at": expires_at}
    return {"type": "approval_required", "data": data, "message_id": run_id}


def complete(
    run_id: str, text: str, reasoning: str, *, streaming: bool, finish_reason: str = ""
) -> Event:
    """The whole answer (``data``) and the whole thinking (``reasoning``), both stored by now.

    After ``error`` it has what was said until then or, where nothing was, the error's text.
    ``truncated`` is true where the line would have been too long; the history has all of it. Not
    sent for the answer of a command, whose ``plain`` is whole. ``finish_reason``, where the model
    gave one, is ``stop`` for a whole answer; ``length`` (out of tokens) and ``content_filter``
    (withheld by the endpoint) mean that ``data`` is a part of one.
    """
    event = {
        "type": "complete", "data": text, "reasoning": reasoning, "streaming": streaming,
        "message_id": run_id,
    }  # fmt: skip
    return {**event, "finish_reason": finish_reason} if finish_reason else event


def rewind(run_id: str, to: int, chars: int, **more: Any) -> Event:
    """The events after number ``data.to`` no longer count: they were not part of the answer.

    They hold the last ``data.chars`` characters of its text so far and, unless ``data.again`` is
    true, nothing else.

    A model's thinking without a beginning is known by its end alone: it follows as ``plain`` with
    ``chain_type`` ``"reasoning"``. ``complete`` and the history have the right text in any case.

    ``data.again`` is true where the turn's worker died and another one makes this step once more.
    What is taken back then are, counted from the end, ``data.reasoning_chars`` characters of
    thinking, ``data.calls`` tool calls and ``data.files`` files besides; a count of 0 is left out.
    """
    data = {"to": to, "chars": chars, **{key: value for key, value in more.items() if value}}
    return {"type": "rewind", "data": data, "message_id": run_id}


def message_saved(number: int, created_at: str, checkpoint: str | None) -> Event:
    """The answer is stored; ``data`` is as in ``user_message_saved``.

    Over WebSocket ``session_id`` stands beside ``data``.
    """
    data = {"id": number, "created_at": created_at, "llm_checkpoint_id": checkpoint}
    return {"type": "message_saved", "data": data}


def error(
    run_id: str, code: str, message: str, *, reason: str = "", retry_after_s: float | None = None
) -> Event:
    """The turn has failed; ``complete``, ``message_saved`` and ``end`` follow.

    ``code`` is stable, ``data`` is for people. What was said until then is stored, and the message
    has an ``error`` in the history. ``message_saved`` is missing where nothing could be stored.
    Where more is known, ``reason`` is the code that a blocking answer has
    (``provider_rate_limited``, ``context_length_exceeded``), and ``retry_after_s`` what the
    endpoint asked to wait, in seconds.
    """
    known = {"reason": reason, "retry_after_s": retry_after_s}
    return {
        "type": "error", "code": code, "data": message, "message_id": run_id,
        **{key: value for key, value in known.items() if value},
    }  # fmt: skip


def end(run_id: str) -> Event:
    """The last event of every turn.

    A stream that stops without it has broken off: resume it.
    """
    return {"type": "end", "data": "", "streaming": False, "message_id": run_id}


def run_snapshot(
    run_id: str,
    session: str,
    checkpoint: str | None,
    status: str,
    revision: int,
    content: dict[str, Any],
) -> Event:
    """What a run has said so far: the first event of a resume with ``?snapshot=true``.

    ``data.content`` is like that of a stored message, ``data.status`` what ``GET
    /chat/runs/{run_id}`` returns, ``data.revision`` the number of the last event in the snapshot:
    the stream goes on after it. ``truncated`` is true where the line would have been too long:
    texts of ``data.content`` are cut then.
    """
    data = {
        "run_id": run_id, "session_id": session, "llm_checkpoint_id": checkpoint,
        "status": status, "revision": revision, "content": content,
    }  # fmt: skip
    return {"type": "run_snapshot", "data": data, "message_id": run_id}


def inbox_opened(after: int, reset: bool) -> Event:
    """Where an inbox begins: always its first event.

    Messages after number ``data.after`` follow. With ``data.reset`` too many came since the
    number that was asked for: read the sessions instead.
    """
    return {"type": "inbox_opened", "data": {"after": after, "reset": reset}}


def inbox_message(session: str, message: dict[str, Any]) -> Event:
    """A message of one of the username's sessions, whole, as it is stored.

    ``data`` is as ``GET /chat/sessions/{session_id}/messages`` has it. Of one that is too long for
    a line ``data.content`` is ``null``, and ``truncated`` is true.
    """
    event = {"type": "message", "session_id": session, "data": message}
    return event if message.get("content", "") is not None else {**event, "truncated": True}


def encode_event(event: Event) -> bytes:
    """Return the event as one line of JSON that every client can read."""
    line = encode_line(event)
    return line if len(line) <= MAX_LINE_BYTES - 64 else encode_line(fit_line(event))


def decode_event(line: bytes) -> dict[str, Any]:
    """Return the event of a line that :func:`encode_event` made."""
    event: Event = orjson.loads(line)
    return event

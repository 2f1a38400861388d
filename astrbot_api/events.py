"""All events of a stream, and their encoding as lines.

Each function returns the event's JSON object as defined by the contract. Its docstring is published
in ``docs/events.rst``, so write it for client authors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from .event_lines import MAX_LINE_BYTES, encode_line, fit_line, join_surrogates

Event = dict[str, Any]

#: Events that open a run. They can be rebuilt from its stored request.
OPENING = frozenset({"session_id", "user_message_saved", "run_started"})

#: Events that close a run. They can be rebuilt from its stored reply.
CLOSING = frozenset({"agent_stats", "complete", "message_saved", "error", "end"})

#: Maximum length of a ``plain`` event's text in characters, each up to six bytes in JSON.
_MAX_PIECE_CHARS = 32_000


def session_id(session: str | int) -> Event:
    """The session of the turn. Always the first event, sent before the model is asked.

    ``session_id`` is the request's, or the UUID of a new session.
    """
    return {"type": "session_id", "data": None, "session_id": session}


def user_message_saved(number: int, created_at: str, checkpoint: str) -> Event:
    """The user's message is stored.

    ``data.id`` is its number, by which it can be quoted and edited. Not sent if the message is not
    stored (``_skip_user_history``), if an answer is regenerated, and over WebSocket.
    ``llm_checkpoint_id`` is shared by the message and its answer.
    """
    data = {"id": number, "created_at": created_at, "llm_checkpoint_id": checkpoint}
    return {"type": "user_message_saved", "data": data}


def run_started(run_id: str) -> Event:
    """The turn has an id, ``data.run_id``, by which it can be resumed and stopped.

    Every later event of the turn has the same id as ``message_id``.
    """
    return {
        "type": "run_started", "data": {"run_id": run_id}, "streaming": False,
        "message_id": run_id,
    }  # fmt: skip


def queue_position(run_id: str, position: int) -> Event:
    """The turn waits in the queue of the AstrBot that answers it.

    ``data.position`` counts from 1. Sent again when it changes, at most once a second.
    """
    return {"type": "queue_position", "data": {"position": position}, "message_id": run_id}


def plain(run_id: str, text: str, *, streaming: bool, chain_type: str | None = None) -> Event:
    """A piece of text, to append to the previous pieces.

    ``chain_type`` is ``null`` for the answer and ``"reasoning"`` for the model's reasoning.
    ``streaming`` is false if the text comes in one piece: without streaming, and for the answer of
    a command.
    """
    return {
        "type": "plain", "data": text, "streaming": streaming, "chain_type": chain_type,
        "message_id": run_id,
    }  # fmt: skip


def plain_pieces(
    run_id: str, text: str, *, streaming: bool, chain_type: str | None = None
) -> list[Event]:
    """Return ``text`` as one ``plain`` event, or as several if it is very long.

    It may come from a plugin or the host's own agent, so lone surrogates are replaced.
    """
    text = join_surrogates(text)
    return [
        plain(run_id, text[at : at + _MAX_PIECE_CHARS], streaming=streaming, chain_type=chain_type)
        for at in range(0, len(text), _MAX_PIECE_CHARS)
    ]


def tool_call(run_id: str, call: dict[str, Any]) -> Event:
    """The model calls a tool.

    ``data`` is a string with a JSON object: ``id`` of the call, ``name`` of the tool, its arguments
    ``args``, and the time ``ts`` in seconds. With ``by_caller`` the tool is the client's own
    (OpenAI format): the turn ends, and no result follows.
    """
    return plain(run_id, orjson.dumps(call).decode(), streaming=False, chain_type="tool_call")


def tool_call_result(run_id: str, result: dict[str, Any]) -> Event:
    """A tool returned its result.

    ``data`` is a string with a JSON object: ``id`` of the call, the time ``ts``, and ``result``, a
    text.
    """
    text = orjson.dumps(result).decode()
    return plain(run_id, text, streaming=False, chain_type="tool_call_result")


def tool_progress(
    run_id: str, call_id: str, progress: float, total: float | None, message: str
) -> Event:
    """Progress of a tool that takes long.

    ``data`` has the ``id`` of the call, ``progress``, a growing number, and if known ``total``, its
    final value, and ``message``. Sent at most once a second for a call, and not stored.
    """
    data = {"id": call_id, "progress": progress}
    known = {"total": total, "message": message}
    return {
        "type": "tool_progress", "message_id": run_id,
        "data": {**data, **{key: value for key, value in known.items() if value}},
    }  # fmt: skip


def media(run_id: str, kind: str, filename: str, *, streaming: bool) -> Event:
    """A tool created a file.

    ``data`` is the type in capitals, in brackets, and the file's name: ``[IMAGE]plot.png``,
    ``[RECORD]…`` (audio), ``[VIDEO]…``, ``[FILE]…``. ``attachment_saved`` follows immediately.
    """
    return {
        "type": kind, "data": f"[{kind.upper()}]{filename}", "streaming": streaming,
        "message_id": run_id,
    }  # fmt: skip


def attachment_saved(attachment_id: str, kind: str) -> Event:
    """The file of the previous event is stored as the attachment ``data.id``.

    Fetch it with ``GET /api/v1/file?attachment_id=…``. ``data.type`` is ``image``, ``record``,
    ``video`` or ``file``.
    """
    return {"type": "attachment_saved", "data": {"id": attachment_id, "type": kind}}


def agent_stats(stats: dict[str, Any]) -> Event:
    """Tokens and times of the turn, sent when the answer is complete.

    ``input_cached`` counts input tokens that the model's endpoint had cached, and ``input_other``
    the other input tokens. ``current_context_tokens`` is the input of the last step. ``start_time``
    and ``end_time`` are in seconds since 1970, and ``time_to_first_token`` is in seconds.
    ``finish_reason`` says why the answer ended, as in ``complete``. ``provider`` and ``model`` say
    what answered. Not sent for the answer of a command.

    Tokens that the model did not report, for example of a stopped answer, are estimated in
    ``estimated_tokens`` (``input``, ``output``). The limits of keys count them.
    """
    return {"type": "agent_stats", "data": stats}


def approval_required(
    run_id: str, approval_id: str, tool: str, arguments: Any, expires_at: str
) -> Event:
    """A person must approve a tool call. The turn waits, and the stream ends here.

    ``data`` has the ``id`` of the approval, the ``tool``, its ``arguments`` and ``expires_at``.
    After that time the call is rejected. Decide with ``POST /chat/runs/{run_id}/approvals/{id}``,
    or with a message ``/approve`` or ``/reject``. Then resume the stream, in which the turn
    continues. ``truncated`` is true if the line would have been too long. Texts of ``arguments``
    are then shortened, and ``GET /chat/runs/{run_id}`` has the full texts.
    """
    data = {"id": approval_id, "tool": tool, "arguments": arguments, "expires_at": expires_at}
    return {"type": "approval_required", "data": data, "message_id": run_id}


def complete(
    run_id: str, text: str, reasoning: str, *, streaming: bool, finish_reason: str = ""
) -> Event:
    """The whole answer (``data``) and reasoning (``reasoning``), both already stored.

    After ``error`` it has the answer so far or, without an answer, the error's text. ``truncated``
    is true if the line would have been too long. The history has the full text. Not sent for the
    answer of a command, whose ``plain`` is complete. ``finish_reason``, if the model reported one,
    is ``stop`` for a whole answer. With ``length`` (out of tokens) and ``content_filter`` (withheld
    by the endpoint), ``data`` is incomplete.
    """
    event = {
        "type": "complete", "data": text, "reasoning": reasoning, "streaming": streaming,
        "message_id": run_id,
    }  # fmt: skip
    return {**event, "finish_reason": finish_reason} if finish_reason else event


def rewind(run_id: str, to: int, chars: int, **more: Any) -> Event:
    """Discard the events after number ``data.to``, since they are not part of the answer.

    They contain the last ``data.chars`` characters of the answer so far and, unless ``data.again``
    is true, nothing else.

    Some models mark only the end of their reasoning. The reasoning then follows as ``plain`` with
    ``chain_type`` ``"reasoning"``. ``complete`` and the history always have the right text.

    ``data.again`` is true if the turn's worker died and another worker repeats the step. Also
    discard the last ``data.reasoning_chars`` characters of reasoning, ``data.calls`` tool calls and
    ``data.files`` files. Counts of 0 are left out.
    """
    data = {"to": to, "chars": chars, **{key: value for key, value in more.items() if value}}
    return {"type": "rewind", "data": data, "message_id": run_id}


def message_saved(number: int, created_at: str, checkpoint: str | None) -> Event:
    """The answer is stored. ``data`` is as in ``user_message_saved``.

    Over WebSocket ``session_id`` stands beside ``data``.
    """
    data = {"id": number, "created_at": created_at, "llm_checkpoint_id": checkpoint}
    return {"type": "message_saved", "data": data}


def error(
    run_id: str, code: str, message: str, *, reason: str = "", retry_after_s: float | None = None
) -> Event:
    """The turn failed. ``complete``, ``message_saved`` and ``end`` follow.

    ``code`` is stable, and ``data`` is a message for people. The answer so far is stored, and the
    message has an ``error`` in the history. ``message_saved`` is missing if nothing could be
    stored. ``reason``, if known, is the error code of a blocking response
    (``provider_rate_limited``, ``provider_refused``, ``context_length_exceeded``).
    ``retry_after_s`` is the time to wait in seconds, as requested by the model's endpoint.
    """
    known = {"reason": reason, "retry_after_s": retry_after_s}
    return {
        "type": "error", "code": code, "data": message, "message_id": run_id,
        **{key: value for key, value in known.items() if value},
    }  # fmt: skip


def end(run_id: str) -> Event:
    """The last event of every turn.

    If a stream ends without it, the connection broke: resume the stream.
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
    """The output of a run so far. First event of a resume with ``?snapshot=true``.

    ``data.content`` has the form of a stored message. ``data.status`` is that of ``GET
    /chat/runs/{run_id}``. ``data.revision`` is the number of the last event in the snapshot, after
    which the stream continues. ``truncated`` is true if the line would have been too long. Texts of
    ``data.content`` are then shortened.
    """
    data = {
        "run_id": run_id, "session_id": session, "llm_checkpoint_id": checkpoint,
        "status": status, "revision": revision, "content": content,
    }  # fmt: skip
    return {"type": "run_snapshot", "data": data, "message_id": run_id}


def inbox_opened(after: int, reset: bool) -> Event:
    """Beginning of an inbox. Always its first event.

    Messages after number ``data.after`` follow. With ``data.reset`` there are too many messages
    since the requested number: read the sessions instead.
    """
    return {"type": "inbox_opened", "data": {"after": after, "reset": reset}}


def inbox_message(session: str, message: dict[str, Any]) -> Event:
    """A whole stored message in one of the username's sessions.

    ``data`` has the form of ``GET /chat/sessions/{session_id}/messages``. If the message is too
    long for a line, ``data.content`` is ``null`` and ``truncated`` is true.
    """
    event = {"type": "message", "session_id": session, "data": message}
    return event if message.get("content", "") is not None else {**event, "truncated": True}


def encode_event(event: Event) -> bytes:
    """Return the event as one line of JSON that every client can read."""
    line = encode_line(event)
    return line if len(line) <= MAX_LINE_BYTES - 64 else encode_line(fit_line(event))


def decode_event(line: bytes) -> dict[str, Any]:
    """Return the event of a line from :func:`encode_event`."""
    event: Event = orjson.loads(line)
    return event


def count_tokens(stats: Mapping[str, Any] | None) -> tuple[int, int, int]:
    """Return the input tokens, those of them that were cached, and the output tokens of a turn.

    :param stats: Its ``agent_stats``, if it has any.
    """
    tokens = stats["token_usage"] if stats else {}
    cached = tokens.get("input_cached", 0)
    return tokens.get("input_other", 0) + cached, cached, tokens.get("output", 0)

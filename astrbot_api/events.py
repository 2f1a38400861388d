"""Every event of a stream, and how it becomes a line.

Each function returns the event's JSON object as the contract has it. Its
docstring is published (``docs/events.rst``): write it for client authors.
"""

from __future__ import annotations

import itertools
from typing import Any

import orjson

Event = dict[str, Any]

#: Longest line of a stream, in bytes: one client in use stops reading at
#: 256 KiB. What is longer is cut into several events.
MAX_LINE_BYTES = 256 * 1024

#: Events that close a run. Its stored reply says what they are.
CLOSING = frozenset({"agent_stats", "complete", "message_saved", "error", "end"})

#: Text of one ``plain`` event, in characters; six bytes of JSON each at worst.
_MAX_PIECE_CHARS = 32_000

#: ``plain`` whose ``data`` is JSON.
_CALLS = frozenset({"tool_call", "tool_call_result"})

#: How an event is cut until it fits: characters of each text, and how deep its fields may be
#: nested. The last fits any event: no id is longer, and no event has more fields.
_CUTS = ((64_000, 250), (16_000, 250), (4_000, 250), (1_000, 250), (125, 250), (125, 2), (125, 1))
_MIN_ENTRIES = 32


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
    return plain(run_id, _json_text(call), streaming=False, chain_type="tool_call")


def tool_call_result(run_id: str, result: dict[str, Any]) -> Event:
    """A tool has answered.

    ``data`` is a string that holds a JSON object: ``id`` of the call, the time ``ts``, and
    ``result``, a text.
    """
    return plain(run_id, _json_text(result), streaming=False, chain_type="tool_call_result")


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
    return line if len(line) <= MAX_LINE_BYTES - 64 else encode_line(_fit_line(event))


def encode_line(value: Any) -> bytes:
    """Return JSON without a character at which any reader of lines splits.

    Python's ``splitlines``, httpx and requests split at these three too; the other line ends
    are control characters, which JSON always escapes.
    """
    line = orjson.dumps(value)
    if b"\xe2\x80" in line:
        line = line.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    if b"\xc2\x85" in line:
        line = line.replace(b"\xc2\x85", b"\\u0085")
    # A copy: orjson's own holds 4 KB of memory for a line of a hundred bytes, and runs keep lines.
    return b"%b" % line


def decode_event(line: bytes) -> dict[str, Any]:
    """Return the event of a line that :func:`encode_event` made."""
    event: Event = orjson.loads(line)
    return event


def _fit_line(event: Event) -> Event:
    """Shorten an event until its line is short enough; it has ``truncated`` then.

    The fields that are known to grow are cut first, and keep as much as there is room for.
    """
    shortened = {**event, "truncated": True}
    limit = MAX_LINE_BYTES - 1024
    if event["type"] == "message":
        shortened["data"] = {**event["data"], "content": None}
    elif event.get("chain_type") in _CALLS:
        shortened = _fit_call(shortened, limit)
    else:
        shortened = _fit_texts(shortened, limit)
    return shortened if len(encode_line(shortened)) <= limit else _fit_all(shortened, limit)


def _fit_texts(shortened: Event, limit: int) -> Event:
    """Shorten the thinking, and after it the text."""
    for key in ("reasoning", "data"):
        text = shortened.get(key)
        if not isinstance(text, str):
            continue
        excess = len(encode_line(shortened)) - limit
        if excess <= 0:
            break
        # A character is at most six bytes of JSON, so this never cuts too little.
        encoded = len(encode_line(text))
        keep = max(0, encoded - excess) * len(text) // max(encoded, 1)
        while keep and len(encode_line({**shortened, key: text[:keep]})) > limit:
            keep = keep * 9 // 10
            if key == "reasoning" and len(encode_line({**shortened, key: ""})) > limit:
                keep = 0
        shortened[key] = text[:keep]
    return shortened


def _fit_call(shortened: Event, limit: int) -> Event:
    """Shorten a tool's result, or the arguments of its call; ``data`` stays JSON."""
    call = orjson.loads(shortened["data"])
    name = next((name for name in ("result", "args") if name in call), None)
    if name is None:
        return shortened
    text = call[name] if isinstance(call[name], str) else _json_text(call[name])
    keep = min(len(text), limit)
    while True:
        fitted = {**shortened, "data": _json_text({**call, name: text[:keep]})}
        if not keep or len(encode_line(fitted)) <= limit:
            return fitted
        keep = keep * 3 // 4


def _fit_all(shortened: Event, limit: int) -> Event:
    """Shorten every text, list and object of an event alike; a call's ``data`` stays JSON."""
    holds_json = shortened.get("chain_type") in _CALLS
    if holds_json:
        shortened = {**shortened, "data": orjson.loads(shortened["data"])}
    for chars, depth in _CUTS:
        fitted = {key: _cut(value, chars, depth) for key, value in shortened.items()}
        if holds_json:
            fitted["data"] = _json_text(fitted["data"])
        if len(encode_line(fitted)) <= limit:
            break
    return fitted


def _cut(value: Any, chars: int, depth: int) -> Any:
    """Return a JSON value with shorter texts and fewer entries, and nothing below a depth."""
    if isinstance(value, str):
        return value[:chars]
    if not isinstance(value, dict | list):
        return value
    entries = max(_MIN_ENTRIES, chars // 8) if depth else 0
    if isinstance(value, list):
        return [_cut(one, chars, depth - 1) for one in value[:entries]]
    return {
        key[:chars]: _cut(one, chars, depth - 1)
        for key, one in itertools.islice(value.items(), entries)
    }


def _json_text(value: dict[str, Any]) -> str:
    return orjson.dumps(value).decode()

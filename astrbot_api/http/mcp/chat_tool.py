"""The tool ``chat``: its description, and the conversion of a turn's events to MCP messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ...chat.turns.fold import ReplyFold
from ...chat.turns.turn import TurnRequest
from ...chat.watching.watch import Numbered, Watch
from ...db import runs
from ...db.idempotency import ClientKey
from ...errors import ApiError, StorageError, refuse
from ...event_lines import MAX_LINE_BYTES, encode_line
from ...events import Event
from ...messages import check_text, parse_chat_message
from ..auth import get_caller
from ..configs.routes import list_own_configs
from ..conversation import find_config_id
from ..rendering import describe_file
from ..sse import HEARTBEAT, LEAVING, Rendering, decode_own, find_abort, frame_json
from ..state import get_state
from .messages import Call

CHAT = "chat"

#: Maximum number of configs listed in the tool's schema.
_MAX_LISTED = 100

#: Maximum length of one progress message, in characters.
_MAX_PIECE_CHARS = 30_000

_OUTPUT = {
    "type": "object",
    "properties": {
        "session_id": {
            "type": "string",
            "description": "Send it again to continue the conversation.",
        },
        "run_id": {"type": "string"},
        "text": {"type": "string", "description": "The answer."},
        "truncated": {
            "type": "boolean",
            "description": "Whether the text is truncated. The session has the whole text.",
        },
        "attachments": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["session_id", "run_id", "text"],
}


def describe_chat() -> dict[str, Any]:
    """Return the tool's description, with the configs that the key may use."""
    ids = [one.id for one in list_own_configs()]
    config: dict[str, Any] = {"type": "string", "description": "Id of the agent's config."}
    if len(ids) <= _MAX_LISTED:
        config["enum"] = ids
    return {
        "name": CHAT,
        "title": "Ask the agent",
        "description": (
            "Sends a message to an agent, which may use its own tools, and returns its answer. To "
            "continue a conversation, send the session_id of an earlier answer."
        ),
        "inputSchema": {
            "type": "object",
            "properties": {
                "message": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The message to the agent.",
                },
                "session_id": {
                    "type": "string",
                    "description": "The conversation to continue. By default a new one.",
                },
                # Not "config": LangChain drops an argument of that name without an error.
                "config_id": config,
            },
            "required": ["message"],
        },
        "outputSchema": _OUTPUT,
        "annotations": {"title": "Ask the agent", "readOnlyHint": False, "openWorldHint": True},
    }


def open_chat(call: Call, username: str, client_key: ClientKey | None) -> Watch:
    """Open the turn of a call.

    :param client_key: The request's idempotency key, if the client may retry the request.
    :raises ApiError: if the turn is rejected. Nothing is stored then.
    """
    state, caller, rules = get_state(), get_caller(), get_caller().rules
    arguments = call.params.get("arguments") or {}
    session_id = _read_text(arguments, "session_id") or rules.session_id or ""
    if len(session_id) > state.settings.max_session_id_chars:
        raise refuse("session_id is too long; send the session_id of an earlier answer")
    rules.check_session(session_id)
    return state.chat.service.open(
        TurnRequest(
            username=username,
            segments=parse_chat_message(
                _read_text(arguments, "message"),
                max_chars=state.settings.max_message_chars,
                max_segments=state.settings.max_segments,
            ),
            session_id=session_id,
            shown_session_id=session_id,
            config_id=find_config_id(_read_text(arguments, "config_id")),
            key_id=caller.key_id,
            guard=caller.guard,
            client_key=client_key,
            rpc_id=orjson.dumps(call.call_id).decode(),
        ),
        find_abort(),
    )


def cancel_chat(request_id: Any, username: str) -> None:
    """Stop the turn of an earlier call, if its id names only one.

    Clients with one key choose their ids independently. Nothing is stopped if several calls have
    this id.

    :param request_id: The ``requestId`` of a cancellation.
    """
    state, key_id, rpc_id = get_state(), get_caller().key_id, orjson.dumps(request_id).decode()
    sent = {"rpc_id": rpc_id, "username": username}
    parts = [f'"{name}":{orjson.dumps(value).decode()}' for name, value in sent.items()]
    rows = state.db.read_aside(lambda db: runs.list_active_requests(db, key_id, parts, limit=2))
    found = [run_id for run_id, text in rows if sent.items() <= orjson.loads(text).items()]
    if len(found) == 1:
        state.chat.runs.stop(found)


def _read_text(arguments: Any, name: str) -> str:
    value = arguments.get(name) if isinstance(arguments, dict) else None
    if value is None:
        return ""
    if not isinstance(value, str):
        raise refuse(f"{name} must be a string")
    check_text(name, value)
    return value.strip()


def describe_refusal(call: Call, error: ApiError) -> dict[str, Any]:
    """Return a rejected turn as a tool result, so that the model can correct its arguments."""
    text = {"type": "text", "text": f"{error.code}: {error.message}"}
    return call.answer({"content": [text], "isError": True})


@dataclass(slots=True)
class ChatAnswer(Rendering):
    """The MCP messages of one turn: progress notifications, then the result."""

    call: Call
    run_id: str
    session_id: str
    fold: ReplyFold = field(default_factory=ReplyFold)
    _chars: int = 0

    def begin(self) -> bytes:
        """Return a comment, so that the client gets the status and the headers at once."""
        return HEARTBEAT

    def render(self, events: Sequence[Numbered]) -> bytes:
        """Return progress notifications, if the client wants them."""
        pieces = []
        for event in decode_own(events):
            self.fold.add(event)
            pieces.append(_describe_progress(event))
        said = "".join(pieces)
        token = self.call.progress_token
        if token is None or not said:
            return b""
        return b"".join(
            self._notify(token, said[at : at + _MAX_PIECE_CHARS])
            for at in range(0, len(said), _MAX_PIECE_CHARS)
        )

    def finish(self) -> bytes:
        """Return the frame with the result."""
        return frame_json(self.describe())

    def fail(self, error: StorageError) -> bytes:
        return frame_json(describe_refusal(self.call, ApiError("storage_error", str(error))))

    def leave(self) -> bytes:
        return frame_json(describe_refusal(self.call, ApiError("run_interrupted", LEAVING)))

    def describe(self) -> dict[str, Any]:
        """Return the response with the turn's result, truncated to fit into one line."""
        text, failed = self.fold.text, self.fold.error
        if failed is not None:
            text = "\n\n".join(filter(None, [text, f"{failed['code']}: {failed['data']}"]))
        whole = len(text)
        while True:
            response = self._describe(text, truncated=len(text) < whole)
            if len(encode_line(response)) < MAX_LINE_BYTES - 64 or not text:
                return response
            text = text[: len(text) * 3 // 4]

    def _describe(self, text: str, *, truncated: bool) -> dict[str, Any]:
        result: dict[str, Any] = {
            "session_id": self.session_id, "run_id": self.run_id, "text": text,
        }  # fmt: skip
        if truncated:
            result["truncated"] = True
        if self.fold.files:
            result["attachments"] = list(map(describe_file, self.fold.files))
        # Many clients give their model only "content", which then needs the session's id, too.
        others = {key: value for key, value in result.items() if key not in ("text", "run_id")}
        texts = [text, encode_line(others).decode()]
        return self.call.answer(
            {
                "content": [{"type": "text", "text": one} for one in texts],
                "structuredContent": result,
                "isError": self.fold.error is not None,
            }
        )

    def _notify(self, token: str | int, piece: str) -> bytes:
        self._chars += len(piece)  # MCP requires progress to increase
        params = {"progressToken": token, "progress": self._chars, "message": piece}
        return frame_json({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


def _describe_progress(event: Event) -> str:
    """Return an event's progress text: a piece of the answer, or the name of a tool."""
    if event["type"] != "plain":
        return ""
    if event["chain_type"] is None:
        return str(event["data"])
    if event["chain_type"] == "tool_call":
        return f"[{orjson.loads(event['data'])['name']}]\n"
    return ""

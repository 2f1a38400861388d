"""Conversion of a turn's events to AG-UI events.

Source: the schema of the protocol's version 1.0, https://docs.ag-ui.com/spec/1.0/schema.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ...db.approvals import ApprovalRow
from ...event_lines import MAX_LINE_BYTES, encode_line
from ...events import Event, approval_required, count_tokens
from ...runtime.clock import to_iso
from ..rendering import (
    ReplyRendering,
    describe_call,
    describe_file,
    describe_status,
    name_call,
    read_call,
)
from ..sse import frame_json

#: Version of the protocol. Source: ``PROTOCOL_VERSION`` of ``@ag-ui/core``.
_PROTOCOL_VERSION = "1.0"

#: Schema of the ``payload`` in an entry of ``resume``, which answers an interrupt. With
#: ``editedArgs``, user interfaces let a person edit the call.
#: Source: https://docs.ag-ui.com/concepts/interrupts, approve with edits.
_RESPONSE_SCHEMA = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean"},
        "reason": {"type": "string"},
        "editedArgs": {"type": "object"},
    },
    "required": ["approved"],
}

#: Prefixes of the event types for text and for reasoning.
_TEXT, _THINKING = "TEXT_MESSAGE", "REASONING_MESSAGE"


@dataclass(slots=True)
class AguiStream(ReplyRendering):
    """The AG-UI events of one turn.

    :param thread_id: The client's id of the conversation.
    :param run_id: The server's id of the run.
    :param names: Prefix of message ids, or empty for ``run_id``.
    :param is_current: Whether the client supports version 1.0.
    :param may_wait: Whether the client supports interrupts.
    :param is_stopped: Returns whether the run was stopped, after its end.
    :param state: The client's shared state, which is sent back unchanged.
    :param history: The client's messages as JSON, for a snapshot, or empty if they are too long.
    """

    thread_id: str
    client_run_id: str
    run_id: str
    names: str = ""
    is_current: bool = False
    may_wait: bool = False
    is_stopped: Callable[[], bool] = lambda: False
    state: Any = None
    history: bytes = b""
    #: Messages of this turn so far.
    _said: list[dict[str, Any]] = field(default_factory=list)
    #: Prefix of the event types, and id, of the open message.
    _open: tuple[str, str] | None = None
    _pieces: list[str] = field(default_factory=list)
    _count: int = 0
    #: Approval id -> id of the call that needs the approval.
    _calls: dict[str, str] = field(default_factory=dict)
    _interrupts: list[dict[str, Any]] = field(default_factory=list)

    def begin(self) -> bytes:
        """Return the first event, and the client's state."""
        started: Event = {"type": "RUN_STARTED", **self._describe_run()}
        if self.is_current:
            started["protocolVersion"] = _PROTOCOL_VERSION
        events = [started]
        if self.state is not None:
            events.append({"type": "STATE_SNAPSHOT", "snapshot": self.state})
        return b"".join(map(frame_json, events))

    def finish(self) -> bytes:
        failure = self.find_failure()
        if failure is not None:
            return self.end_with_error(*failure)
        finished: Event = {"type": "RUN_FINISHED", **self._describe_run()}
        if self.is_current:
            finished["outcome"] = {"type": "success"}
            pending = [name_call(self.run_id, call["id"]) for call in self.fold.caller_calls]
            if pending:
                finished["outcome"]["pendingToolCallIds"] = pending
            if self.is_stopped():
                finished["outcome"] = {"type": "cancelled"}
            if usage := _describe_usage(self.fold.stats):
                finished["usage"] = [usage]
        if self.may_wait and self._interrupts:
            finished["outcome"] = {"type": "interrupt", "interrupts": self._interrupts}
        return b"".join(map(frame_json, [*self._close(), finished]))

    def end_with_error(self, code: str, message: str) -> bytes:
        failed = {"type": "RUN_ERROR", "message": message, "code": code}
        return b"".join(map(frame_json, [*self._close(), failed]))

    def _describe_run(self) -> Event:
        return {"threadId": self.thread_id, "runId": self.client_run_id}

    def show(self, event: Event) -> Iterator[Event]:
        """Add an event, and yield the events that show it."""
        kind = event["type"]
        if kind != "approval_required":
            self._interrupts = []  # all calls were decided, or the turn was stopped
        again = kind == "rewind" and event["data"].get("again")
        if again and not self._encode_messages():
            # No snapshot is possible, so text that is repeated after the rewind is skipped instead.
            self.rewind()
            self.fold.add(event)
            return
        self.fold.add(event)
        if kind == "plain":
            yield from self._show_plain(event["chain_type"], event["data"])
        elif kind == "attachment_saved":
            value = describe_file(self.fold.files[-1])
            yield {"type": "CUSTOM", "name": "attachment_saved", "value": value}
        elif kind == "approval_required":
            self._note_interrupt(event["data"], self._calls.get(event["data"]["id"]))
        elif kind in ("queue_position", "tool_progress"):
            yield {"type": "CUSTOM", "name": kind, "value": describe_status(self.run_id, event)}
        elif kind == "rewind":
            yield from self._close()
            self._remove_last("reasoning", event["data"].get("reasoning_chars", 0))
            self._remove_last("assistant", event["data"]["chars"])
            if messages := self._encode_messages():  # AG-UI's only way to remove text
                yield {"type": "MESSAGES_SNAPSHOT", "messages": orjson.Fragment(messages)}

    def note_waiting(self, calls: Sequence[ApprovalRow]) -> None:
        """Add the calls of the run that are still undecided."""
        for one in calls:
            event = approval_required(
                self.run_id, one.approval_id, one.tool, orjson.loads(one.args),
                to_iso(one.expires_at),
            )  # fmt: skip
            self._note_interrupt(event["data"], name_call(self.run_id, one.call_id))

    def _note_interrupt(self, asked: dict[str, Any], call_id: str | None) -> None:
        interrupt = {
            "id": asked["id"], "reason": "tool_call", "expiresAt": asked["expires_at"],
            "message": f"{asked['tool']} needs your approval.", "responseSchema": _RESPONSE_SCHEMA,
            "metadata": {"tool": asked["tool"], "arguments": asked["arguments"]},
            **({"toolCallId": call_id} if call_id else {}),
        }  # fmt: skip
        self._interrupts = [one for one in self._interrupts if one["id"] != asked["id"]]
        self._interrupts.append(interrupt)

    def _show_plain(self, chain_type: str | None, data: str) -> Iterator[Event]:
        if chain_type in ("tool_call", "tool_call_result"):
            yield from self._close()
            call, approval_id = read_call(self.run_id, data)
            if chain_type == "tool_call":
                self._calls[approval_id] = call["id"]
                if not self.has_call(call):
                    yield from self._show_call(call)
            else:
                yield self._show_result(call)
        elif data := self.add_text(chain_type, data):
            begins = _THINKING if chain_type == "reasoning" else _TEXT
            if self._open is None or self._open[0] != begins:
                yield from self._close()
                yield from self._begin(begins)
            self._pieces.append(data)
            yield {"type": f"{begins}_CONTENT", "messageId": self._open[1], "delta": data}  # type: ignore[index]

    def _begin(self, begins: str) -> Iterator[Event]:
        message_id = self._make_message_id()
        self._open, self._pieces = (begins, message_id), []
        role = "reasoning" if begins == _THINKING else "assistant"
        self._said.append({"id": message_id, "role": role, "content": ""})
        if begins == _THINKING:
            yield {"type": "REASONING_START", "messageId": message_id}
        yield {"type": f"{begins}_START", "messageId": message_id, "role": role}

    def _close(self) -> Iterator[Event]:
        if self._open is None:
            return
        self._join_pieces()
        begins, message_id = self._open
        self._open = None
        yield {"type": f"{begins}_END", "messageId": message_id}
        if begins == _THINKING:
            yield {"type": "REASONING_END", "messageId": message_id}

    def _show_call(self, call: dict[str, Any]) -> Iterator[Event]:
        """Yield the events of a call, and add the call to the last message of the assistant."""
        if not self._said or self._said[-1]["role"] != "assistant":
            self._said.append({"id": self._make_message_id(), "role": "assistant", "content": ""})
        message, described = self._said[-1], describe_call(call)
        message.setdefault("toolCalls", []).append(described)
        arguments = described["function"]["arguments"]
        yield {
            "type": "TOOL_CALL_START", "toolCallId": call["id"], "toolCallName": call["name"],
            "parentMessageId": message["id"],
        }  # fmt: skip
        yield {"type": "TOOL_CALL_ARGS", "toolCallId": call["id"], "delta": arguments}
        yield {"type": "TOOL_CALL_END", "toolCallId": call["id"]}

    def _show_result(self, result: dict[str, Any]) -> Event:
        about = {"role": "tool", "toolCallId": result["id"], "content": result["result"]}
        message_id = self._make_message_id()
        self._said.append({"id": message_id, **about})
        return {"type": "TOOL_CALL_RESULT", "messageId": message_id, **about}

    def _make_message_id(self) -> str:
        self._count += 1
        return f"{self.names or self.run_id}-{self._count}"

    def _remove_last(self, role: str, chars: int) -> None:
        """Remove characters from the end of the text or of the reasoning, across messages."""
        for message in reversed(self._said):
            if message["role"] == role and chars:
                text = message["content"]
                taken = min(chars, len(text))
                message["content"], chars = text[: len(text) - taken], chars - taken
        self._said = [
            one for one in self._said
            if one["role"] != role or one["content"] or "toolCalls" in one
        ]  # fmt: skip

    def _join_pieces(self) -> None:
        if self._open is not None:
            self._said[-1]["content"] = "".join(self._pieces)

    def _encode_messages(self) -> bytes:
        """Return all messages as JSON, or nothing if they do not fit into one event."""
        self._join_pieces()
        said = encode_line(self._said)
        if not self.history or len(self.history) + len(said) >= MAX_LINE_BYTES - 1024:
            return b""
        return b"[" + b",".join(filter(None, (self.history[1:-1], said[1:-1]))) + b"]"


def _describe_usage(stats: dict[str, Any] | None) -> Event:
    """Return the known counts of tokens. The protocol permits no zero for an unknown count."""
    prompt, cached, output = count_tokens(stats)
    usage: Event = {
        "inputTokens": prompt, "outputTokens": output, "totalTokens": prompt + output,
        "cachedInputTokens": cached,
    }  # fmt: skip
    known = {name: count for name, count in usage.items() if count}
    if not stats or not known:
        return {}
    return {**known, **{name: stats[name] for name in ("provider", "model") if stats.get(name)}}

"""State machine of one turn, without I/O: the next request, and the reply so far.

The sync and async clients send the requests of :class:`Turn` and feed it the responses.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from ._frames import FrameParser
from ._waiting import Backoff
from .errors import ApiError, ConnectionLost, StreamLost, TurnFailed, read_error
from .events import (
    AgentStats,
    ApprovalRequired,
    AttachmentSaved,
    Complete,
    End,
    Event,
    Media,
    MessageSaved,
    ReasoningDelta,
    Rewind,
    RunSnapshot,
    RunStarted,
    SessionStarted,
    TextDelta,
    ToolCall,
    ToolResult,
    TurnError,
    UserMessageSaved,
    parse_event,
)
from .types import Reply

#: After this many connections broke within the same ``complete`` event, it is built from the
#: received text.
_MAX_CUT_COMPLETES = 3


class Call(NamedTuple):
    """A request to send."""

    method: str
    path: str
    query: dict[str, Any]
    body: dict[str, Any] | None
    headers: dict[str, str]


class Turn:
    """The state of one turn.

    :param body: Body of the question, or None to resume a run.
    :param path: Path of the question.
    """

    def __init__(
        self,
        body: dict[str, Any] | None,
        *,
        username: str = "",
        run_id: str = "",
        after: int | None = None,
        path: str = "/chat",
        idempotency_key: str = "",
        retry_s: float = 120.0,
    ) -> None:
        self._reply = Reply(run_id=run_id)
        # Deltas that are not in the reply yet. Adding each to its text would copy the text.
        self._new_text: list[str] = []
        self._new_reasoning: list[str] = []
        self._received_chars = 0
        self.ended = False
        #: Whether a call was decided while the stream was open.
        self.decided = False
        self.last_number = after
        self.username = username
        self._body, self._path = body, path
        self._key = idempotency_key or str(uuid.uuid4())
        self._backoff = Backoff(retry_s)
        self._parser = FrameParser()
        #: Whether the question has an Idempotency-Key, so that it may be sent twice.
        self.repeatable = path == "/chat"
        self._begun = False
        self._cut_completes = 0
        self._skipped = 0

    @property
    def reply(self) -> Reply:
        """The reply so far."""
        reply = self._reply
        if self._new_text:
            reply.text += "".join(self._new_text)
            self._new_text.clear()
        if self._new_reasoning:
            reply.reasoning += "".join(self._new_reasoning)
            self._new_reasoning.clear()
        return reply

    def next_call(self) -> Call:
        """Return the next request: the question, or the resume of its run."""
        self._parser = FrameParser()
        if self._body is not None and not self.reply.run_id:
            headers = {"Accept": "text/event-stream"}
            if self.repeatable:
                headers["Idempotency-Key"] = self._key
            return Call("POST", self._path, {}, self._body, headers)
        query = {"username": self.username} if self.username else {}
        headers = {"Accept": "text/event-stream"}
        if self.last_number is not None:
            headers["Last-Event-ID"] = str(self.last_number + self._skipped)
        path = f"/chat/runs/{quote(self.reply.run_id, safe='')}/stream"
        return Call("GET", path, query, None, headers)

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that ``chunk`` completes, without duplicates."""
        events: list[Event] = []
        before = self._measure()
        for frame in self._parser.feed(chunk):
            number = int(frame.id) if frame.id.isdigit() else None
            if number is not None and self.last_number is not None and number <= self.last_number:
                continue
            if self._skipped and number is not None:
                events.append(self._make_complete(self.last_number or 0))
            if number is not None:
                self.last_number = number
            pushed = self._is_pushed(frame.data, number)
            event = parse_event(frame.data, number, pushed)
            events.extend(self._fold(event))
        if self._measure() != before:
            self._backoff.reset()
            self._cut_completes = 0
        return events

    def handle_rejection(
        self, status: int, headers: Mapping[str, str], body: bytes, call: Call
    ) -> float:
        """Return the seconds to wait before a rejected request is retried.

        :raises ApiError: if a retry is useless.
        """
        if status == 204:
            # No further event. But a decision may have been made after this response.
            self.ended, self.decided = not self.decided, False
            return 0.0
        error = read_error(status, headers, body, f"{call.method} /api/v1{call.path}")
        if error is None:
            raise ApiError(status, "", "the server did not answer with a stream of events")
        if self._begun and not error.temporary:
            raise StreamLost(f"the stream cannot be resumed: {error}", self.reply) from error
        wait_s = self._backoff.next_wait_s(error.retry_after_s or 0.0) if error.temporary else None
        if wait_s is None:
            raise error
        return wait_s

    def handle_disconnect(self, cause: Exception | None) -> float:
        """Return the seconds to wait after a connection broke.

        :raises ConnectionLost: if the time without progress has reached its limit.
        """
        if self._parser.partial.startswith(b'data: {"type":"complete"'):
            self._cut_completes += 1
            if self._cut_completes >= _MAX_CUT_COMPLETES and self.last_number is not None:
                # A proxy cuts this long line each time. The text was already received.
                self._skipped = 1
        wait_s = self._backoff.next_wait_s(self._parser.retry_s or 0.0)
        if wait_s is None:
            reason = f"the server cannot be reached: {cause}" if cause else "the stream broke off"
            if self._begun:
                raise StreamLost(reason, self.reply) from cause
            raise ConnectionLost(reason) from cause
        return wait_s

    def has_ended(self) -> bool:
        """Return whether the last event was received, or the run waits for a person."""
        return self.ended

    def raise_failure(self) -> None:
        """Raise the error of the turn, if it has one.

        :raises TurnFailed: if the turn ended with an error, or waits for a person.
        """
        if self.reply.error is not None:
            raise TurnFailed(*self.reply.error, self.reply)
        if self.reply.waiting:
            names = ", ".join(str(one["name"]) for one in self.reply.waiting)
            raise TurnFailed("approval_required", f"waits for an approval: {names}", self.reply)

    def _measure(self) -> tuple[int, ...]:
        """Return a value that changes with progress, also by heartbeats.

        Repeated events do not change it.
        """
        return (self.last_number or 0, self._received_chars, self._parser.comments)

    def _is_pushed(self, raw: dict[str, Any], number: int | None) -> bool:
        run_id = self._reply.run_id
        if number is not None or not run_id:
            return False
        named = raw.get("message_id")
        if named is not None:
            return str(named) != run_id
        # attachment_saved and message_saved have no run id.
        return self.last_number is not None and raw.get("type") != "run_snapshot"

    def _make_complete(self, number: int) -> Event:
        self._skipped = 0
        raw = {
            "type": "complete", "data": self.reply.text, "reasoning": self.reply.reasoning,
            "streaming": True, "message_id": self.reply.run_id,
        }  # fmt: skip
        return parse_event(raw, number + 1)

    def _fold(self, event: Event) -> list[Event]:
        """Add an event to the reply. Return the events for the caller."""
        self._begun = True
        if event.pushed:
            return [event]
        if isinstance(event, (TextDelta, ReasoningDelta)):
            self._add_delta(event)
            return [event]
        reply = self.reply
        if isinstance(event, ApprovalRequired):
            call = {"id": event.id, "name": event.name, "arguments": event.arguments}
            # The event is repeated if another worker takes over the run.
            reply.waiting[:] = [one for one in reply.waiting if one["id"] != event.id] + [call]
            return [event]
        reply.waiting.clear()  # the turn continues after all decisions
        if isinstance(event, RunSnapshot):
            return [event, *self._catch_up(event)]
        if isinstance(event, SessionStarted):
            reply.session_id = event.session_id
        elif isinstance(event, RunStarted):
            reply.run_id = event.run_id
        elif isinstance(event, UserMessageSaved):
            reply.user_message_id = event.message_id
        elif isinstance(event, Complete) and not event.truncated:
            reply.text, reply.reasoning = event.text, event.reasoning
        elif isinstance(event, MessageSaved):
            reply.message_id = event.message_id
        elif isinstance(event, AgentStats):
            reply.stats = event.stats
        elif isinstance(event, TurnError):
            reply.error = (event.code, event.message)
        elif isinstance(event, End):
            self.ended = True
        elif isinstance(event, Rewind):
            reply.text = reply.text[: max(0, len(reply.text) - event.chars)]
            kept = max(0, len(reply.reasoning) - event.reasoning_chars)
            reply.reasoning = reply.reasoning[:kept]
            for parts, count in ((reply.tool_calls, event.calls), (reply.attachments, event.files)):
                del parts[max(0, len(parts) - count) :]
        else:
            self._fold_parts(event)
        return [event]

    def _add_delta(self, event: TextDelta | ReasoningDelta) -> None:
        pieces = self._new_text if isinstance(event, TextDelta) else self._new_reasoning
        pieces.append(event.text)
        self._received_chars += len(event.text)
        self._reply.waiting.clear()  # the turn continues after all decisions

    def _fold_parts(self, event: Event) -> None:
        reply = self._reply
        if isinstance(event, ToolCall):
            reply.tool_calls.append(
                {"id": event.id, "name": event.name, "arguments": event.arguments, "result": None}
            )
        elif isinstance(event, ToolResult):
            for call in reversed(reply.tool_calls):
                if call["id"] == event.id:
                    call["result"] = event.result
                    break
        elif isinstance(event, Media):
            reply.attachments.append(
                {"attachment_id": "", "type": event.kind, "filename": event.filename}
            )
        elif isinstance(event, AttachmentSaved) and reply.attachments:
            reply.attachments[-1]["attachment_id"] = event.attachment_id

    def _catch_up(self, snapshot: RunSnapshot) -> list[Event]:
        """Return the missed text of a snapshot.

        AstrBot resumes with snapshots and without numbers.
        """
        parts = snapshot.content.get("message")
        texts = [
            str(part.get("text") or "")
            for part in (parts if isinstance(parts, list) else [])
            if isinstance(part, dict) and part.get("type") == "plain"
        ]
        whole = "".join(texts)
        if not whole.startswith(self.reply.text):
            self.reply.text = whole
            self._received_chars += len(whole)
            return []
        missed = whole[len(self.reply.text) :]
        self.reply.text = whole
        if not missed:
            return []
        self._received_chars += len(missed)
        raw = {"type": "plain", "data": missed, "streaming": True, "chain_type": None}
        return [parse_event(raw)]


def build_body(message: Any, username: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a question without options that are None."""
    body = {"message": message, "username": username, **options}
    return {name: value for name, value in body.items() if value is not None}


def read_data(body: bytes) -> Any:
    """Return ``data`` of an envelope."""
    try:
        return json.loads(body)["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise ApiError(200, "", "the server's answer is not an envelope with data") from error

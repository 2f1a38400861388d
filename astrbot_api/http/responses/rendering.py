"""Conversion of a run's events to a response: its numbered, typed events, and its object.

The numbers depend only on the events of the run. So any worker can resume a stream: it converts the
run from its beginning and skips the events that the client has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ...chat.resuming.following import REBUILT_FROM
from ...chat.watching.watch import Numbered
from ...db.responses import Pause
from ...errors import STATUS_OF_CODE, StorageError
from ...events import CLOSING, Event, count_tokens, decode_event
from ...messages import MEDIA_TYPES
from ..openai_errors import describe_error
from ..sse import LEAVING, Rendering
from .calls import ResponseCalls
from .output import Output

#: Status of a run that waits for a person's approval. Its streams end without a final event.
WAITING = "waiting"

#: Status of a run -> status of its response. Other statuses become ``completed``.
_STATUS = {
    "queued": "queued",
    "running": "in_progress",
    WAITING: "in_progress",
    "stopped": "cancelled",
    "failed": "failed",
    "interrupted": "failed",
}

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}

#: Reason of a failed turn -> code of OpenAI's API. Codex repeats none of them at once.
_ERROR_CODES = {
    "provider_refused": "invalid_prompt",
    "provider_rate_limited": "rate_limit_exceeded",
    "context_length_exceeded": "context_length_exceeded",
}

_TERMINAL = {"completed": "response.completed", "failed": "response.failed"}


def ended_early(run_status: str, stats: Mapping[str, Any]) -> bool:
    """Return whether the last item of an ended run is incomplete."""
    cut = _STATUS.get(run_status) in ("cancelled", "failed")
    return cut or stats.get("finish_reason") in _INCOMPLETE


@dataclass(slots=True)
class ResponseFold(Rendering):
    """One response, built from the events of its run.

    :param head: Fields of the response object that do not depend on the run.
    :param find_end: Returns the run's status, and its end in seconds since 1970. Returns None if
        the run is not stored.
    :param check_text: Returns the fault in an answer's format, or an empty string.
    :param after: Number of the last event that the client has, or -1 if it has none.
    :param asks: Whether the response ends when its run asks for approvals. A call on the server is
        then shown only with its result, since it may still need an approval.
    :param begins: Pause of the previous response, if this response continues the same run.
    :param list_stored: Returns the events of this response's part of the run, from the database.
    :param list_asked: Returns the approval events of the paused run.
    """

    entry_id: str
    run_id: str
    head: Mapping[str, Any]
    find_end: Callable[[], tuple[str, int | None] | None]
    check_text: Callable[[str], str] = lambda text: ""
    after: int = -1
    asks: bool = False
    begins: Pause | None = None
    list_stored: Callable[[], Sequence[Event]] = list
    list_asked: Callable[[], Iterable[Event]] = list
    error: Event | None = None
    _stats: dict[str, Any] = field(default_factory=dict)
    _filename: str = ""
    #: Whether the last event asked for an approval.
    _waits: bool = False
    #: Whether the events of the previous response are over.
    _begun: bool = True
    output: Output = field(init=False)
    calls: ResponseCalls = field(init=False)

    def __post_init__(self) -> None:
        self.output = Output(self.entry_id, self.after)
        self.calls = ResponseCalls(self.run_id, self.output, self.asks, self.begins)
        self._begun = self.begins is None

    def begin(self) -> bytes:
        self._emit_response("response.created", "in_progress")
        if self.head["background"]:
            self._emit_response("response.queued", "queued")
        self._emit_response("response.in_progress", "in_progress")
        return self.output.take_frames()

    def render(self, events: Sequence[Numbered]) -> bytes:
        """Return the frames of events. Pushed messages, which have no number, are skipped."""
        for number, line in events:
            if number is None:
                continue
            event = decode_event(line)
            if number > REBUILT_FROM and self.begins is not None:
                if not self._begun:
                    self.add_own_events(self.list_stored())
                if event["type"] not in CLOSING:
                    continue
            self.add(event)
        return self.output.take_frames()

    def add_own_events(self, events: Iterable[Event]) -> None:
        """Add the events of this response's part of a run."""
        self._begin_after_pause()
        for event in events:
            self.add(event)

    def finish(self) -> bytes:
        """Return the final frames, without a final event if the run waits for an approval."""
        ended = self.to_object(ended=True)
        if ended["status"] == "in_progress":
            return self.output.take_frames()
        kind = _TERMINAL.get(ended["status"], "response.incomplete")
        if ended["error"] is not None:
            self._emit_error(ended["error"]["code"], ended["error"]["message"])
        # A client that has more events than the stored run still needs a final event.
        self.output.emit(kind, always=True, response=ended)
        return self.output.take_frames()

    def fail(self, error: StorageError) -> bytes:
        self._emit_error("server_error", str(error))
        return self.output.take_frames()

    def leave(self) -> bytes:
        """Return the final frames if the worker stops. A background response can be resumed."""
        if self.head["background"]:
            return super(ResponseFold, self).leave()
        self._emit_error("server_error", LEAVING)
        return self.output.take_frames()

    def add(self, event: Event) -> None:
        """Add an event of the run."""
        kind = event["type"]
        self._waits = False
        if not self._begun:
            # The previous response ends with its approval requests.
            if kind == "approval_required" and self.calls.was_asked_before(event["data"]["id"]):
                self._begin_after_pause()
        elif kind == "approval_required":
            self._waits = self.calls.ask(event["data"])
        elif kind == "plain":
            self._add_plain(event["chain_type"], event["data"])
        elif kind in MEDIA_TYPES:
            self._filename = event["data"].partition("]")[2]
        elif kind == "attachment_saved":
            self.output.add_file(event["data"], self._filename)
        elif kind == "rewind":
            self._rewind(event["data"])
        elif kind == "agent_stats":
            self._stats = event["data"]
        elif kind == "error":
            self.error = event

    def hide_events(self) -> None:
        """Number further events without adding frames."""
        self.output.after = 2**62

    def add_all(self, events: Iterable[Event]) -> None:
        """Add events without adding frames."""
        self.hide_events()
        for event in events:
            self.add(event)

    def close_items(self, *, cut: bool) -> None:
        """End all open items. The last one is incomplete if the answer ended early."""
        self.calls.show_held()
        self.output.close(cut=cut)

    def find_fault(self) -> str:
        """Return the fault in the whole answer's format, or an empty string."""
        if self.output.calls_client() or self._waits:
            return ""
        if self._stats.get("finish_reason") in _INCOMPLETE:
            return ""
        return self.check_text(self.output.gather_text())

    def to_object(self, *, ended: bool = False) -> dict[str, Any]:
        """Return the current response object.

        :param ended: Whether all events of the run were added.
        """
        if self._waits and ended and self.asks:
            # A stream may end after the first request.
            for event in self.list_asked():
                self.calls.ask(event["data"])
        # Events after the decision are not added yet, even if the run has continued.
        ended = ended and not self._waits
        run_status, ended_at = self.find_end() or ("running", None)
        status, error = self._find_status(run_status, ended=ended), None
        reason = _INCOMPLETE.get(self._stats.get("finish_reason", ""))
        fault = self.find_fault() if status == "completed" else ""
        if status == "failed" or fault:
            status, error = "failed", self._describe_error(fault)
        elif status == "completed" and reason:
            status = "incomplete"
        if ended:
            self.close_items(cut=status != "completed" and not fault)
        return {
            **self.head,
            "status": status,
            "completed_at": (ended_at or int(time.time())) if status == "completed" else None,
            "error": error,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "output": self.output.list_items(),
            "usage": self._to_usage(),
        }

    def _find_status(self, run_status: str, *, ended: bool) -> str:
        """Return the status of the response as far as its answer does not change it."""
        if self._waits:
            return "completed" if self.asks else "in_progress"
        status = _STATUS.get(run_status, "completed")
        if ended and status in ("queued", "in_progress"):
            # The end of the run is not stored, or the run itself is not.
            return "failed" if self.error else "completed"
        return status

    def _emit_error(self, code: str, message: str) -> None:
        """Emit an error that OpenAI's SDKs raise. LangChain ignores ``response.failed``.

        Source: the SDKs raise if an event has ``error``; the reference describes the other members.
        """
        status = STATUS_OF_CODE.get((self.error or {}).get("reason", ""), 500)
        error = describe_error(code, message, status)
        fields = {name: error[name] for name in ("code", "message", "param")}
        self.output.emit("error", always=True, **fields, error=error)

    def _describe_error(self, fault: str) -> dict[str, Any]:
        """Return the error object, with the codes of OpenAI's API."""
        event = self.error or {}
        code = _ERROR_CODES.get(event.get("reason", ""), "server_error")
        message = fault or event.get("data") or "The turn ended before its answer was complete."
        return {"code": code, "message": message}

    def _to_usage(self) -> dict[str, Any] | None:
        if not self._stats:
            return None
        read, cached, output = count_tokens(self._stats)
        return {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + output,
        }

    def _add_plain(self, chain_type: str | None, data: str) -> None:
        if chain_type is None:
            self.output.add_text(data)
        elif chain_type == "reasoning":
            self.output.add_reasoning(data)
        elif chain_type == "tool_call":
            self.calls.begin(orjson.loads(data))
        elif chain_type == "tool_call_result":
            self.calls.end(orjson.loads(data))

    def _rewind(self, taken: dict[str, Any]) -> None:
        """Remove the most recent output. Events that were sent stay valid.

        If another worker repeats the step, its output gets new items.
        """
        if taken.get("again"):
            self.output.close_open()
        self.output.remove_last(taken, self.calls.drop_held(taken.get("calls", 0)))

    def _begin_after_pause(self) -> None:
        self._begun = True
        self.calls.hold_asked_before()

    def _emit_response(self, kind: str, status: str) -> None:
        empty: dict[str, Any] = {
            "status": status, "completed_at": None, "error": None, "incomplete_details": None,
            "output": [], "usage": None,
        }  # fmt: skip
        self.output.emit(kind, response={**self.head, **empty})

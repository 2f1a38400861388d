"""The events of a run as a response: its typed events, numbered, and its object.

The numbers follow from the events of the run alone, so a stream that is resumed, on whichever
worker, is made by folding the run from its beginning and leaving out what the client has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ...chat.resuming.following import REBUILT_FROM
from ...chat.turns.waiting import name_approval
from ...chat.watching.watch import Numbered
from ...db.responses import Pause
from ...errors import StorageError
from ...events import CLOSING, Event, decode_event
from ...messages import MEDIA_TYPES
from ..sse import LEAVING, Rendering
from .output import Output

#: A run that waits for a person's yes; its streams end without a last event.
WAITING = "waiting"

#: The status of a run -> that of its response, as far as it says.
_STATUS = {
    "queued": "queued",
    "running": "in_progress",
    WAITING: "in_progress",
    "stopped": "cancelled",
    "failed": "failed",
    "interrupted": "failed",
}

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}

_TERMINAL = {"completed": "response.completed", "failed": "response.failed"}


@dataclass(slots=True)
class ResponseFold(Rendering):
    """One response on its way to a client.

    :param run_id: Its run.
    :param head: The object without what the run adds to it.
    :param find_end: Returns the status of the run, and when it ended in seconds since 1970; None:
        nothing of the run is kept.
    :param check_text: Returns what is wrong with the form of an answer; empty: nothing.
    :param after: Number of the last event that the client has; -1: it has none.
    :param asks: Whether it ends where its run asks for approvals. A call of the server's is shown
        once it has a result then: it may still be asked for.
    :param begins: Where the response before it ended, whose run this one has the rest of.
    :param list_stored: Returns the events of its part of the run, made from what is stored.
    :param list_asked: Returns the events by which a run asks that has been put down.
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
    #: The last event asked for a person's approval.
    _waits: bool = False
    #: What the response before had is over.
    _begun: bool = True
    #: Calls that are not shown yet, by their approvals.
    _held: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Questions that a person is to answer, by the ids of their items.
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)
    output: Output = field(init=False)

    def __post_init__(self) -> None:
        self.output = Output(self.entry_id, self.after)
        self._begun = self.begins is None

    def begin(self) -> bytes:
        """Return the events that stand before all others."""
        self._emit_response("response.created", "in_progress")
        if self.head["background"]:
            self._emit_response("response.queued", "queued")
        self._emit_response("response.in_progress", "in_progress")
        return self.output.take_frames()

    def render(self, events: Sequence[Numbered]) -> bytes:
        """Return the frames that show events; a pushed message is left out."""
        for number, line in events:
            if number is None:
                continue
            event = decode_event(line)
            if number > REBUILT_FROM and self.begins is not None:
                if not self._begun:
                    self.go_on(self.list_stored())
                if event["type"] not in CLOSING:
                    continue
            self.add(event)
        return self.output.take_frames()

    def go_on(self, events: Iterable[Event]) -> None:
        """Add the events of the response's own part of a run, after what came before it."""
        if self.begins is not None:
            self._hold_asked(self.begins)
        for event in events:
            self.add(event)

    def finish(self) -> bytes:
        """Return the frames that end the stream; none where the run waits and goes on later."""
        ended = self.to_object(ended=True)
        if ended["status"] == "in_progress":
            return self.output.take_frames()
        kind = _TERMINAL.get(ended["status"], "response.incomplete")
        # Also where the client has more than is known of the run: an end must come.
        self.output.emit(kind, always=True, response=ended)
        return self.output.take_frames()

    def fail(self, error: StorageError) -> bytes:
        """Return the frames that end a stream whose events cannot be read."""
        self.output.emit("error", code="server_error", message=str(error), param=None)
        return self.output.take_frames()

    def leave(self) -> bytes:
        """Return the frames that end a stream whose worker stops; one in the background resumes."""
        if self.head["background"]:
            return super(ResponseFold, self).leave()
        self.output.emit("error", code="server_error", message=LEAVING, param=None)
        return self.output.take_frames()

    def add(self, event: Event) -> None:
        """Add an event of the run."""
        kind = event["type"]
        self._waits = False
        if not self._begun and self.begins is not None:
            self._pass_over(event, self.begins)
        elif kind == "approval_required":
            self._ask(event["data"])
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

    def show_nothing(self) -> None:
        """Make no frames: nobody is shown the events one by one."""
        self.output.after = 2**62

    def add_all(self, events: Iterable[Event]) -> None:
        """Add events that nobody is shown one by one."""
        self.show_nothing()
        for event in events:
            self.add(event)

    def close_items(self) -> None:
        """End every item that is still growing."""
        self.output.close_open()
        for call in list(self._held.values()):
            self._show_call(call)
        self.output.close()

    def find_fault(self) -> str:
        """Return what is wrong with the form of the whole answer; empty: nothing."""
        if self.output.calls_client() or self._waits:
            return ""
        if self._stats.get("finish_reason") in _INCOMPLETE:
            return ""
        return self.check_text(self.output.gather_text())

    def to_object(self, *, ended: bool = False) -> dict[str, Any]:
        """Return the ``response``, as far as the run has come.

        :param ended: All its events were added.
        """
        run_status, ended_at = self.find_end() or ("running", int(time.time()))
        status, error = _STATUS.get(run_status, "completed"), None
        if self._waits:
            if ended and self.asks:
                self._ask_all()
            # What comes after the decision is not here yet, whatever the run's status is by now.
            status, ended = "completed" if self.asks else "in_progress", False
            ended_at = ended_at or int(time.time())
        if ended:
            self.close_items()
        if ended and status in ("queued", "in_progress"):
            # Its end is not stored, or nothing of it is.
            status = "failed" if self.error else "completed"
        reason = _INCOMPLETE.get(self._stats.get("finish_reason", ""))
        fault = self.find_fault() if status == "completed" else ""
        if status == "failed" or fault:
            status, error = "failed", self._describe_error(fault)
        elif status == "completed" and reason:
            status = "incomplete"
        return {
            **self.head,
            "status": status,
            "completed_at": ended_at if status == "completed" else None,
            "error": error,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "output": self.output.list_items(),
            "usage": self._to_usage(),
        }

    def _describe_error(self, fault: str) -> dict[str, Any]:
        """Return the error in OpenAI's words, which its clients know."""
        event = self.error or {}
        limited = event.get("reason") == "provider_rate_limited"
        message = fault or event.get("data") or "The turn ended before its answer was complete."
        return {"code": "rate_limit_exceeded" if limited else "server_error", "message": message}

    def _to_usage(self) -> dict[str, Any] | None:
        if not self._stats:
            return None
        tokens = self._stats["token_usage"]
        cached, output = tokens.get("input_cached", 0), tokens.get("output", 0)
        read = tokens.get("input_other", 0) + cached
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
            self._begin_call(orjson.loads(data))
        elif chain_type == "tool_call_result":
            result = orjson.loads(data)
            if (held := self._held_call(result["id"])) is not None:
                self._show_call(held)
            self.output.end_call(result["id"], str(result["result"]))

    def _rewind(self, taken: dict[str, Any]) -> None:
        """Take back what was said last; the events that showed it cannot be.

        Where another worker makes the step once more, that has items of its own.
        """
        if taken.get("again"):
            self.close_items()
        calls = taken.get("calls", 0)
        while calls and self._held:
            self._held.popitem()
            calls -= 1
        self.output.take_back(taken, calls)

    def _begin_call(self, call: dict[str, Any]) -> None:
        if self.asks and not call.get("by_caller"):
            self.output.close_open()
            self._held[self._name_approval(call["id"])] = call
        else:
            self._show_call(call)

    def _name_approval(self, call_id: str) -> str:
        return name_approval(self.run_id, call_id)

    def _held_call(self, call_id: str) -> dict[str, Any] | None:
        return self._held.get(self._name_approval(call_id)) if self._held else None

    def _ask(self, asked: dict[str, Any]) -> None:
        """Show the question for an approval, unless it has been."""
        before = self.begins.asked if self.begins is not None else ()
        if any(one["id"] == asked["id"] for one in before):
            return  # once more, before its answer was known
        self._waits = True
        if not self.asks or any(one["id"] == asked["id"] for one in self.asked.values()):
            return
        self._held.pop(asked["id"], None)
        item_id = self.output.ask(asked["tool"], asked["arguments"])
        self.asked[item_id] = {**asked, "item_id": item_id}

    def _ask_all(self) -> None:
        """Show all questions of the run: a stream may end after the first of several."""
        for event in self.list_asked():
            self._ask(event["data"])
        self._waits = True

    def _pass_over(self, event: Event, begins: Pause) -> None:
        """Leave out an event of the response before, the last of which asks for its approvals."""
        if event["type"] == "approval_required":
            ids = {one["id"] for one in begins.asked}
            if event["data"]["id"] in ids:
                self._hold_asked(begins)

    def _hold_asked(self, begins: Pause) -> None:
        """Begin behind a pause: the calls that it asked for are to come."""
        self._begun = True
        asked = {one["id"]: one["item_id"] for one in begins.asked}
        for part in begins.parts:
            for call in part.get("tool_calls", ()):
                name = self._name_approval(call["id"])
                if name in asked:
                    self._held[name] = {**call, "asked_by": asked[name]}

    def _show_call(self, call: dict[str, Any]) -> None:
        self._held.pop(self._name_approval(call["id"]), None)
        self.output.show_call(call)

    def _emit_response(self, kind: str, status: str) -> None:
        empty: dict[str, Any] = {
            "status": status, "completed_at": None, "error": None, "incomplete_details": None,
            "output": [], "usage": None,
        }  # fmt: skip
        self.output.emit(kind, response={**self.head, **empty})

"""Calls in the output of a response, and the approvals that they wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...chat.turns.approvals import name_approval
from ...db.responses import Pause
from .output import Output


@dataclass(slots=True)
class ResponseCalls:
    """Calls of one response. A call that may still need an approval is held back.

    :param asks: Whether the response ends when its run asks for approvals.
    :param begins: Pause of the previous response, if this response continues the same run.
    """

    run_id: str
    output: Output
    asks: bool
    begins: Pause | None
    #: Approval requests of this response, by item id.
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Calls that are not shown yet, by approval id.
    _held: dict[str, dict[str, Any]] = field(default_factory=dict)

    def begin(self, call: dict[str, Any]) -> None:
        """Show a call, or hold it back until its result."""
        if self.asks and not call.get("by_caller"):
            self.output.close_open()
            self._held[self._name(call)] = call
        else:
            self.output.show_call(call)

    def end(self, result: Mapping[str, Any]) -> None:
        """Show the result of a call, and the call before it if it was held back."""
        if held := self._held.pop(self._name(result), None):
            self.output.show_call(held)
        self.output.end_call(result["id"], str(result["result"]))

    def ask(self, asked: dict[str, Any]) -> bool:
        """Add an approval request, unless the response already has it.

        :returns: Whether the run waits. It does not if the previous response has the request: the
            event is from before its answer was stored.
        """
        if self.was_asked_before(asked["id"]):
            return False
        if self.asks and all(one["id"] != asked["id"] for one in self.asked.values()):
            self._held.pop(asked["id"], None)
            item_id = self.output.ask(asked["tool"], asked["arguments"])
            self.asked[item_id] = {**asked, "item_id": item_id}
        return True

    def was_asked_before(self, approval_id: str) -> bool:
        """Return whether the previous response has an approval request."""
        before = self.begins.asked if self.begins is not None else ()
        return any(one["id"] == approval_id for one in before)

    def hold_asked_before(self) -> None:
        """Hold the calls that the previous response asked for."""
        if self.begins is None:
            return
        asked = {one["id"]: one["item_id"] for one in self.begins.asked}
        for part in self.begins.parts:
            for call in part.get("tool_calls", ()):
                name = self._name(call)
                if name in asked:
                    self._held[name] = {**call, "asked_by": asked[name]}

    def drop_held(self, count: int) -> int:
        """Drop the last calls that are held back; return how many of ``count`` were shown."""
        while count and self._held:
            self._held.popitem()
            count -= 1
        return count

    def show_held(self) -> None:
        """Show all calls that are held back."""
        held, self._held = self._held, {}
        for call in held.values():
            self.output.show_call(call)

    def _name(self, call: Mapping[str, Any]) -> str:
        return name_approval(self.run_id, call["id"])

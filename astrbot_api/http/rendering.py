"""Code shared by the protocols that show a turn's reply in a format of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..chat.turns.approvals import name_approval
from ..chat.turns.fold import ReplyFold
from ..chat.watching.watch import Numbered
from ..errors import StorageError
from ..events import Event
from .sse import LEAVING, Rendering, decode_own, frame_json

#: Error message if the repeated step produces different text.
_BROKEN = "A worker of the server died, and its answer could not be continued; ask again."


@dataclass(slots=True, kw_only=True)
class ReplyRendering(Rendering):
    """Rendering for a protocol that cannot retract text. Subclasses define :meth:`show` and
    :meth:`end_with_error`.

    After a ``rewind`` with ``again``, another worker repeats a step of the run. While the
    repeated text matches the client's, nothing is sent. New text is sent after that.
    """

    fold: ReplyFold = field(default_factory=ReplyFold)
    #: Chain type -> text that the client has and the repeated step must produce again.
    _kept: dict[str | None, str] = field(default_factory=dict)
    #: Calls that the client runs and the repeated step must make again.
    _kept_calls: list[dict[str, Any]] = field(default_factory=list)

    def show(self, event: Event) -> Iterable[dict[str, Any]]:
        """Return the protocol's objects for an event of the turn."""
        raise NotImplementedError

    def end_with_error(self, code: str, message: str) -> bytes:
        """Return the final frames of a failed stream.

        :param code: One of the codes of :mod:`astrbot_api.error_codes`.
        """
        raise NotImplementedError

    def render(self, events: Sequence[Numbered]) -> bytes:
        return b"".join(frame_json(one) for event in decode_own(events) for one in self.show(event))

    def fail(self, error: StorageError) -> bytes:
        return self.end_with_error("storage_error", str(error))

    def leave(self) -> bytes:
        return self.end_with_error("run_interrupted", LEAVING)

    def find_failure(self) -> tuple[str, str] | None:
        """Return the code and the message of the turn's error, or None, after the turn ended."""
        if self.fold.error is not None:
            return self.fold.error.get("reason") or self.fold.error["code"], self.fold.error["data"]
        broken = self._kept.get(None) or self._kept_calls
        return ("run_interrupted", _BROKEN) if broken else None

    def rewind(self) -> None:
        """Skip the text and the client's calls so far when another worker repeats them."""
        self._kept_calls += self.fold.caller_calls
        said = {None: self.fold.text, "reasoning": self.fold.reasoning}
        self._kept = {kind: self._kept.get(kind) or text for kind, text in said.items()}

    def has_call(self, call: Mapping[str, Any]) -> bool:
        """Return whether the client has the newest call, which then keeps the client's id."""
        for kept in self._kept_calls if call.get("by_caller") else ():
            if (kept["name"], kept["args"]) == (call["name"], call["args"]):
                self._kept_calls.remove(kept)
                self.fold.caller_calls[-1]["id"] = kept["id"]
                return True
        return False

    def add_text(self, chain_type: str | None, piece: str) -> str:
        """Return the part of a piece of text or reasoning that must be sent."""
        kept = self._kept.get(chain_type)
        if not kept:
            return piece  # the fold joins all its pieces, so it is not asked for each one
        said = self.fold.reasoning if chain_type == "reasoning" else self.fold.text
        if not said.startswith(kept):
            return ""
        del self._kept[chain_type]
        return said[len(kept) :]


def to_text(value: Any) -> str:
    """Return text unchanged, and any other JSON value as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def name_call(run_id: str, call_id: str) -> str:
    """Return the id of a call for clients that look it up among the calls of all turns.

    Some endpoints send the same ids in each response.
    """
    return f"{call_id}_{run_id[:8]}"


def read_call(run_id: str, data: str) -> tuple[dict[str, Any], str]:
    """Return a call or a result with its id of :func:`name_call`, and the id of its approval.

    :param data: Of the event ``plain``.
    """
    call = orjson.loads(data)
    return {**call, "id": name_call(run_id, call["id"])}, name_approval(run_id, call["id"])


def describe_status(run_id: str, event: Event) -> dict[str, Any]:
    """Return the data of ``queue_position``, or of ``tool_progress`` with :func:`name_call`."""
    data: dict[str, Any] = event["data"]
    return {**data, "id": name_call(run_id, data["id"])} if "id" in data else data


def describe_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call in OpenAI's format: ``{"id","type","function":{"name","arguments"}}``."""
    function = {"name": call["name"], "arguments": to_text(call["args"])}
    return {"id": call["id"], "type": "function", "function": function}


def describe_file(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"attachment_id","type","filename"}`` of a file that a tool made."""
    return {key: part[key] for key in ("attachment_id", "type", "filename")}

"""Conversion of a turn's events to a UI message stream of the AI SDK.

Source: ``ui-message-chunks.ts`` of the npm package ``ai``, versions 5 to 7.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from mimetypes import guess_type
from typing import Any

from ...events import Event
from ..rendering import ReplyRendering, describe_status, read_call
from ..sse import frame, frame_json

#: Identifies the protocol of the stream. Source: ``ui-message-stream-headers.ts``.
HEADERS = {"X-Vercel-AI-UI-Message-Stream": "v1"}

_DONE = frame(b"[DONE]")

#: Finish reason of a turn -> that of the SDK. All others become ``stop``.
_FINISH_REASONS = {"length": "length", "content_filter": "content-filter"}

#: Type of an attachment -> media type of a file whose name has no known extension.
_ANY_OF = {"image": "image/*", "record": "audio/*", "video": "video/*"}
_UNKNOWN = "application/octet-stream"

Chunk = dict[str, Any]


@dataclass(slots=True)
class UIMessageStream(ReplyRendering):
    """The UI message stream of one turn.

    :param message_id: Id of the message, which is the client's last message if the turn continues
        it.
    :param files_url: URL prefix of this server's files, followed by an attachment id and
        ``/content``.
    :param rejected: Ids of approvals that the client just rejected.
    :param step_over: Whether the step has ended, so the next output of the model starts another
        one. True if the message continues after an approval.
    """

    message_id: str
    run_id: str
    session_id: str
    files_url: str
    rejected: Collection[str] = ()
    step_over: bool = False
    #: Type and id of the open part.
    _open: tuple[str, str] | None = None
    _parts: int = 0
    #: Whether the last event asked for an approval.
    _waits: bool = False
    #: Approval id -> id of the call that needs the approval.
    _calls: dict[str, str] = field(default_factory=dict)

    def begin(self) -> bytes:
        """Return the start of the message, and of its first step if it is new."""
        about = {"session_id": self.session_id, "run_id": self.run_id}
        start = {"type": "start", "messageId": self.message_id, "messageMetadata": about}
        # The SDK only looks for approvals in a message's last step, so no empty step may follow.
        step = b"" if self.step_over else frame_json({"type": "start-step"})
        return frame_json(start) + step

    def finish(self) -> bytes:
        failure = self.find_failure()
        if failure is not None:
            return self.end_with_error(*failure)
        stats = self.fold.stats or {}
        finish = {
            "type": "finish", "finishReason": self._finish_reason(stats),
            "messageMetadata": {"message_id": self.fold.message_id, "agent_stats": stats},
        }  # fmt: skip
        return self._end({"type": "finish-step"}, finish)

    def end_with_error(self, code: str, message: str) -> bytes:
        """Return the final frames of a failed stream. The protocol has no error codes."""
        return self._end({"type": "error", "errorText": message})

    def _end(self, *chunks: Chunk) -> bytes:
        return b"".join(map(frame_json, [*self._close(), *chunks])) + _DONE

    def _finish_reason(self, stats: dict[str, Any]) -> str:
        calls = self.fold.caller_calls or self._waits
        other = "tool-calls" if calls else "stop"
        return _FINISH_REASONS.get(stats.get("finish_reason", ""), other)

    def show(self, event: Event) -> Iterator[Chunk]:
        """Add an event, and yield its chunks."""
        kind = event["type"]
        if kind == "rewind" and event["data"].get("again"):
            self.rewind()
        self.fold.add(event)
        self._waits = kind == "approval_required"
        if kind == "plain":
            yield from self._show_plain(event["chain_type"], event["data"])
        elif kind == "attachment_saved":
            yield from self._close()
            yield self._show_file(self.fold.files[-1])
        elif kind == "approval_required" and event["data"]["id"] in self._calls:
            approval_id = event["data"]["id"]
            yield {
                "type": "tool-approval-request", "approvalId": approval_id,
                "toolCallId": self._calls[approval_id],
            }  # fmt: skip
        elif kind == "rewind" and not event["data"].get("again"):
            # The SDK has no chunk that removes text. User interfaces can handle this data chunk.
            yield {"type": "data-rewind", "data": event["data"], "transient": True}
        elif kind in ("queue_position", "tool_progress"):
            name, data = f"data-{kind.replace('_', '-')}", describe_status(self.run_id, event)
            yield {"type": name, "data": data, "transient": True}

    def _show_plain(self, chain_type: str | None, data: str) -> Iterator[Chunk]:
        if chain_type == "tool_call_result":
            result, approval_id = read_call(self.run_id, data)
            self.step_over = True
            if approval_id in self.rejected:
                yield {"type": "tool-output-denied", "toolCallId": result["id"]}
                return
            yield {
                "type": "tool-output-available", "toolCallId": result["id"],
                "output": result["result"], "providerExecuted": True, "dynamic": True,
            }  # fmt: skip
            return
        if chain_type == "tool_call":
            yield from self._close()
            call, approval_id = read_call(self.run_id, data)
            if self.has_call(call):
                return
            yield from self._begin_step()
            self._calls[approval_id] = call["id"]
            yield from _show_call(call)
            return
        data = self.add_text(chain_type, data)
        if data:
            kind = "reasoning" if chain_type == "reasoning" else "text"
            if self._open is None or self._open[0] != kind:
                yield from self._close()
                yield from self._begin_step()
                self._parts += 1
                self._open = (kind, f"{kind}-{self._parts}")
                yield {"type": f"{kind}-start", "id": self._open[1]}
            yield {"type": f"{kind}-delta", "id": self._open[1], "delta": data}

    def _begin_step(self) -> Iterator[Chunk]:
        if self.step_over:
            self.step_over = False
            yield {"type": "finish-step"}
            yield {"type": "start-step"}

    def _close(self) -> Iterator[Chunk]:
        if self._open is not None:
            kind, part_id = self._open
            self._open = None
            yield {"type": f"{kind}-end", "id": part_id}

    def _show_file(self, part: dict[str, Any]) -> Chunk:
        media_type = guess_type(part["filename"])[0] or _ANY_OF.get(part["type"], _UNKNOWN)
        url = f"{self.files_url}/{part['attachment_id']}/content"
        return {"type": "file", "url": url, "mediaType": media_type}


def _show_call(call: dict[str, Any]) -> Iterator[Chunk]:
    """Yield the chunks of a call. The client runs the calls of its own tools."""
    about = {"toolCallId": call["id"], "toolName": call["name"]}
    if not call.get("by_caller"):
        about |= {"providerExecuted": True, "dynamic": True}
    yield {"type": "tool-input-start", **about}
    yield {"type": "tool-input-available", **about, "input": call["args"]}

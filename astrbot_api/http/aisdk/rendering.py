"""The events of a turn as a UI message stream of the AI SDK.

Source: ``ui-message-chunks.ts`` of the npm package ``ai``, versions 5 and 6.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from mimetypes import guess_type
from typing import Any

import orjson

from ...chat.turns.reply import ReplyFold
from ...chat.turns.waiting import name_approval
from ...chat.watching.watch import Numbered
from ...errors import StorageError
from ...events import Event, decode_event
from ..continuing import BROKEN, ContinuedText
from ..sse import LEAVING, Rendering, frame, frame_json

#: Says which protocol a stream speaks. Source: ``ui-message-stream-headers.ts``.
HEADERS = {"X-Vercel-AI-UI-Message-Stream": "v1"}

_DONE = frame(b"[DONE]")

#: Our reasons of an end -> the SDK's; the rest are ``stop``.
_FINISH_REASONS = {"length": "length", "content_filter": "content-filter"}

Chunk = dict[str, Any]


@dataclass(slots=True)
class UIMessageStream(Rendering):
    """One turn on its way to a client of the AI SDK.

    :param message_id: The id of the message; that of the client's last one where the turn goes
        on with it.
    :param files_url: Where the files of this server are; an attachment's id and ``/content``
        follow.
    :param rejected: The ids of approvals that the client has refused just now.
    """

    message_id: str
    run_id: str
    session_id: str
    files_url: str
    rejected: Collection[str] = ()
    fold: ReplyFold = field(default_factory=ReplyFold)
    #: The part that grows: its type and its id.
    _open: tuple[str, str] | None = None
    _parts: int = 0
    #: Whether a step is over: what the model says next begins another.
    _step_over: bool = False
    _text: ContinuedText = field(default_factory=ContinuedText)
    _reasoning: ContinuedText = field(default_factory=ContinuedText)
    #: Approvals -> the calls that they would be for.
    _calls: dict[str, str] = field(default_factory=dict)

    def begin(self) -> bytes:
        """Return the beginning of the message and of its first step."""
        about = {"session_id": self.session_id, "run_id": self.run_id}
        start = {"type": "start", "messageId": self.message_id, "messageMetadata": about}
        return frame_json(start) + frame_json({"type": "start-step"})

    def render(self, events: Sequence[Numbered]) -> bytes:
        """Return the chunks that show events; a pushed message is left out."""
        return b"".join(
            frame_json(chunk)
            for number, line in events
            if number is not None
            for chunk in self._to_chunks(decode_event(line))
        )

    def finish(self) -> bytes:
        """Return the frames that end the stream."""
        if self.fold.error is not None:
            return self._fail(self.fold.error["data"])
        if not self._text.is_whole():
            return self._fail(BROKEN)
        stats = self.fold.stats or {}
        finish = {
            "type": "finish", "finishReason": self._finish_reason(stats),
            "messageMetadata": {"message_id": self.fold.message_id, "agent_stats": stats},
        }  # fmt: skip
        return self._end({"type": "finish-step"}, finish)

    def fail(self, error: StorageError) -> bytes:
        """Return the frames that end a stream whose events cannot be read."""
        return self._fail(str(error))

    def leave(self) -> bytes:
        """Return the frames that end a stream whose worker stops."""
        return self._fail(LEAVING)

    def _fail(self, message: str) -> bytes:
        return self._end({"type": "error", "errorText": message})

    def _end(self, *chunks: Chunk) -> bytes:
        return b"".join(map(frame_json, [*self._close(), *chunks])) + _DONE

    def _finish_reason(self, stats: dict[str, Any]) -> str:
        if self.fold.caller_calls:
            return "tool-calls"
        return _FINISH_REASONS.get(stats.get("finish_reason", ""), "stop")

    def _to_chunks(self, event: Event) -> Iterator[Chunk]:
        kind = event["type"]
        if kind == "rewind" and event["data"].get("again"):
            self._text.take_back(self.fold.text)
            self._reasoning.take_back(self.fold.reasoning)
        self.fold.add(event)
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
            # No chunk takes back what was said: interfaces that know this one can.
            yield {"type": "data-rewind", "data": event["data"], "transient": True}
        elif kind in ("queue_position", "tool_progress"):
            name = f"data-{kind.replace('_', '-')}"
            yield {"type": name, "data": event["data"], "transient": True}

    def _show_plain(self, chain_type: str | None, data: str) -> Iterator[Chunk]:
        if chain_type == "tool_call_result":
            result = orjson.loads(data)
            self._step_over = True
            if name_approval(self.run_id, result["id"]) in self.rejected:
                yield {"type": "tool-output-denied", "toolCallId": result["id"]}
                return
            yield {
                "type": "tool-output-available", "toolCallId": result["id"],
                "output": result["result"], "providerExecuted": True, "dynamic": True,
            }  # fmt: skip
            return
        if chain_type == "tool_call":
            yield from self._close()
            yield from self._begin_step()
            call = orjson.loads(data)
            self._calls[name_approval(self.run_id, call["id"])] = call["id"]
            yield from _show_call(call)
            return
        # What another worker says once more is left out.
        if chain_type == "reasoning":
            data = self._reasoning.add(data, self.fold.reasoning)
        else:
            data = self._text.add(data, self.fold.text)
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
        if self._step_over:
            self._step_over = False
            yield {"type": "finish-step"}
            yield {"type": "start-step"}

    def _close(self) -> Iterator[Chunk]:
        if self._open is not None:
            kind, part_id = self._open
            self._open = None
            yield {"type": f"{kind}-end", "id": part_id}

    def _show_file(self, part: dict[str, Any]) -> Chunk:
        media_type = guess_type(part["filename"])[0] or "application/octet-stream"
        url = f"{self.files_url}/{part['attachment_id']}/content"
        return {"type": "file", "url": url, "mediaType": media_type}


def _show_call(call: dict[str, Any]) -> Iterator[Chunk]:
    """Yield the chunks of a call. One of the client's tools is the client's to answer."""
    about = {"toolCallId": call["id"], "toolName": call["name"]}
    if not call.get("by_caller"):
        about |= {"providerExecuted": True, "dynamic": True}
    yield {"type": "tool-input-start", **about}
    yield {"type": "tool-input-available", **about, "input": call["args"]}

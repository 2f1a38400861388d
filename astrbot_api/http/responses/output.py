"""Output of a response: its items, and the numbered events that describe their changes.

Each event gets a number, even if it is not sent to a client.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...event_lines import encode_line
from ..rendering import to_text
from ..sse import frame
from . import items
from .items import OutputItem


@dataclass(slots=True)
class Output:
    """Items of one response, and the frames that are not sent yet.

    :param after: Number of the last event that the client has, or -1 if it has none.
    """

    entry_id: str
    after: int = -1
    _number: int = 0
    _items: list[OutputItem] = field(default_factory=list)
    _open: OutputItem | None = None
    _calls: dict[str, OutputItem] = field(default_factory=dict)
    _frames: list[bytes] = field(default_factory=list)

    def emit(self, kind: str, *, always: bool = False, **fields: Any) -> None:
        """Number an event, and add a frame for it if the client does not have the event."""
        number = self._number
        self._number += 1
        if always or number > self.after:
            value = {"type": kind, "sequence_number": number, **fields}
            self._frames.append(frame(encode_line(value), event=kind))

    def take_frames(self) -> bytes:
        """Return and remove the frames added since the last call."""
        frames, self._frames = self._frames, []
        return b"".join(frames)

    def add_text(self, text: str) -> None:
        """Add text to the answer."""
        item = self._open_item("message")
        item.pieces.append(text)
        self._emit_text("response.output_text.delta", item, delta=text, logprobs=[])

    def add_reasoning(self, text: str) -> None:
        """Add text to the reasoning."""
        item = self._open_item("reasoning")
        item.pieces.append(text)
        self._emit_summary("response.reasoning_summary_text.delta", item, delta=text)

    def add_file(self, saved: dict[str, Any], filename: str) -> None:
        """Add a file made by a tool, as an annotation of the text."""
        item = self._open_item("message")
        annotation = {
            "type": "file_path", "file_id": saved["id"], "index": len(item.join_pieces()),
            "filename": filename, "file_type": saved["type"],
        }  # fmt: skip
        item.annotations.append(annotation)
        self._emit_text(
            "response.output_text.annotation.added", item,
            annotation_index=len(item.annotations) - 1, annotation=annotation,
        )  # fmt: skip

    def show_call(self, call: dict[str, Any]) -> None:
        """Add an item for a call. A call of a client's tool is done at once."""
        self.close_open()
        item = self._add_item("function_call" if call.get("by_caller") else "mcp_call", call)
        text = to_text(call["args"])
        event, name = "response.mcp_call_arguments", call["name"]
        if item.kind == "function_call":
            event, name = "response.function_call_arguments", items.split_name(name)["name"]
        else:
            self._calls[call["id"]] = item
            self._emit_of("response.mcp_call.in_progress", item)
        self._emit_of(f"{event}.delta", item, delta=text)
        item.pieces.append(text)
        self._emit_of(f"{event}.done", item, name=name, arguments=text)
        if item.kind == "function_call":
            self._emit_done(item)

    def end_call(self, call_id: str, output: str) -> None:
        """Add the result of a call, unless the call is unknown or already done."""
        item = self._calls.get(call_id)
        if item is not None and not item.done:
            self._end_call(item, output)

    def ask(self, tool: str, arguments: Any) -> str:
        """Add an approval request, and return the id of its item."""
        self.close_open()
        item = self._add_item("mcp_approval_request", {"name": tool}, to_text(arguments))
        self._emit_done(item)
        return item.id

    def remove_last(self, taken: dict[str, Any], calls: int) -> None:
        """Remove the most recent output from the items. Events that were sent stay valid.

        :param taken: Data of the ``rewind`` event.
        """
        left = {"message": taken["chars"], "reasoning": taken.get("reasoning_chars", 0)}
        files = taken.get("files", 0)
        for item in reversed(self._items):
            if item.kind in left:
                text = item.join_pieces()
                item.text = text[: max(0, len(text) - left[item.kind])]
                left[item.kind] -= len(text) - len(item.text)
                kept = max(0, len(item.annotations) - files)
                files -= len(item.annotations) - kept
                del item.annotations[kept:]
            elif calls and not item.dropped:
                item.dropped, calls = True, calls - 1
                if not item.done:
                    self._end_call(item, None)

    def close(self, *, cut: bool = False) -> None:
        """End all open items.

        :param cut: Whether the answer ended early, within the open item.
        """
        if self._open is not None:
            self._open.cut = cut
        self.close_open()
        for item in self._items:
            if not item.done:
                self._end_call(item, None)

    def close_open(self) -> None:
        """End the open item of text or reasoning."""
        item, self._open = self._open, None
        if item is None:
            return
        text = item.join_pieces()
        if item.kind == "message":
            part = items.text_part(text, item.annotations)
            self._emit_text("response.output_text.done", item, text=text, logprobs=[])
            self._emit_text("response.content_part.done", item, part=part)
        else:
            part = {"type": "summary_text", "text": text}
            self._emit_summary("response.reasoning_summary_text.done", item, text=text)
            self._emit_summary("response.reasoning_summary_part.done", item, part=part)
        self._emit_done(item)

    def gather_text(self) -> str:
        """Return the text of the answer so far."""
        return "".join(one.join_pieces() for one in self._items if one.kind == "message")

    def calls_client(self) -> bool:
        """Return whether the client has to run a tool."""
        return any(item.kind == "function_call" and item.counts() for item in self._items)

    def list_items(self) -> list[dict[str, Any]]:
        """Return the items so far, without those that a rewind removed."""
        return [item.to_object() for item in self._items if item.counts()]

    def _open_item(self, kind: str) -> OutputItem:
        """Return the open item if it has this kind. Otherwise end it and start a new item."""
        if self._open is not None and self._open.kind == kind:
            return self._open
        self.close_open()
        item = self._open = self._add_item(kind)
        if kind == "message":
            part = items.text_part("", [])
            self._emit_text("response.content_part.added", item, part=part)
        else:
            part = {"type": "summary_text", "text": ""}
            self._emit_summary("response.reasoning_summary_part.added", item, part=part)
        return item

    def _add_item(
        self, kind: str, call: dict[str, Any] | None = None, text: str = ""
    ) -> OutputItem:
        index = len(self._items)
        item_id = items.make_item_id(kind, self.entry_id, items.OUTPUT_FROM + index)
        item = OutputItem(kind, item_id, index, text, call=call or {})
        self._items.append(item)
        shown = item.to_object()
        if kind == "message":
            shown["content"] = []
        self.emit("response.output_item.added", output_index=index, item=shown)
        return item

    def _end_call(self, item: OutputItem, output: str | None) -> None:
        item.output = output
        ended = "completed" if output is not None else "failed"
        self._emit_of(f"response.mcp_call.{ended}", item)
        self._emit_done(item)

    def _emit_done(self, item: OutputItem) -> None:
        item.done = True
        self.emit("response.output_item.done", output_index=item.index, item=item.to_object())

    def _emit_text(self, kind: str, item: OutputItem, **fields: Any) -> None:
        self._emit_of(kind, item, content_index=0, **fields)

    def _emit_summary(self, kind: str, item: OutputItem, **fields: Any) -> None:
        self._emit_of(kind, item, summary_index=0, **fields)

    def _emit_of(self, kind: str, item: OutputItem, **fields: Any) -> None:
        self.emit(kind, item_id=item.id, output_index=item.index, **fields)

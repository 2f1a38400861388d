"""Conversion of the events of OpenAI's Responses to deltas.

Source: https://platform.openai.com/docs/api-reference/responses-streaming. It also accepts a whole
response instead of events, and gateways that send only the last event of each item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..agent.provider import Delta
from .attached import MAX_CHARS, measure
from .chunks import ChunkReader, Reading
from .endpoint import Endpoint
from .finish_reasons import read_finish_reason
from .responses_request import REASONING_ITEMS
from .shapes import find_thought, to_text

_TEXT = ("response.output_text.delta", "response.refusal.delta")
_THOUGHT = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")
_ENDS = ("response.completed", "response.incomplete", "response.failed", "response.done")
_WAITS = ("response.created", "response.queued", "response.in_progress")

#: Fields of a reasoning item that are sent back.
_REASONING_KEYS = ("type", "id", "summary", "encrypted_content")


class ResponsesReader(ChunkReader):
    """Turns the events of one response into deltas."""

    def __init__(self, reading: Reading, endpoint: Endpoint) -> None:
        super().__init__(reading, endpoint)
        self._shown: set[tuple[str, str]] = set()  # kinds and places of items with pieces
        self._begun: dict[str, dict[str, Any]] = {}  # incomplete calls, by each of their places
        self._reasoning: list[dict[str, Any]] = []  # items before the next message or call
        self._has_encrypted = False
        self._kept_chars = 0

    def _read_chunk(self, found: list[Delta], chunk: dict[str, Any], joins: bool) -> None:
        """Read one event, or one whole response."""
        kind = to_text(chunk.get("type"))
        if kind.startswith("response."):
            self._read_event(found, kind, chunk, joins)
        elif chunk.get("object") == "response":
            self._end(found, chunk)
        else:
            super()._read_chunk(found, chunk, joins)

    def _read_event(
        self, found: list[Delta], kind: str, event: Mapping[str, Any], joins: bool
    ) -> None:
        message, index = self._message, event.get("output_index")
        if kind in _TEXT:
            self._shown.add(("message", _list_places(index, event)[0]))
            message.read_text(found, event.get("delta") or "", joins)
        elif kind in _THOUGHT:
            self._shown.add(("reasoning", _list_places(index, event)[0]))
            message.read_reasoning(found, event.get("delta"), joins)
        elif kind == "response.reasoning_summary_part.added":
            if event.get("summary_index"):
                message.read_reasoning(found, "\n\n")
        elif kind == "response.output_item.done":
            self._read_item(found, event.get("item"), index)
        elif kind in _ENDS:
            response = event.get("response")
            self._end(found, response if isinstance(response, dict) else {})
        elif kind not in _WAITS:
            message.has_progress = True  # such as pieces of arguments, or a search
            self._note_call(kind, event, index)

    def _note_call(self, kind: str, event: Mapping[str, Any], index: Any) -> None:
        """Keep what is known of a call, as some gateways omit a part of it, or all, at its end.

        Source: issues 12652 of SGLang (no end), 1004 of CLIProxyAPI (no name).
        """
        item = event.get("item")
        if kind == "response.output_item.added" and isinstance(item, dict):
            if item.get("type") == "function_call" and self._may_keep(item):
                for place in _list_places(index, item):
                    self._begun[place] = item
        elif (
            kind == "response.function_call_arguments.done"
            and event.get("arguments")
            and self._may_keep(event)
        ):
            self._find_begun(index, event)["arguments"] = event["arguments"]

    def _find_begun(self, index: Any, one: Mapping[str, Any]) -> dict[str, Any]:
        """Return the incomplete call of an event or item, or an empty object."""
        places = reversed(_list_places(index, one))  # several calls of LiteLLM have one index
        return next((self._begun[place] for place in places if place in self._begun), {})

    def _read_item(self, found: list[Delta], item: Any, index: Any) -> None:
        """Read a complete item of the output."""
        if not isinstance(item, dict):
            return
        kind = item.get("type")
        places = {(str(kind), place) for place in _list_places(index, item)}
        is_shown = not places.isdisjoint(self._shown)
        if kind == "reasoning":
            parts = item.get("summary") or item.get("content")
            if not is_shown and isinstance(parts, list):
                self._message.read_reasoning(found, "\n\n".join(map(find_thought, parts)))
            self._keep_encrypted(item)
        elif kind == "function_call":
            begun = self._find_begun(index, item)
            call = {key: item.get(key) or begun.get(key) for key in ("name", "arguments")}
            call_id = item.get("call_id") or begun.get("call_id")
            self._message.read_calls({"id": call_id, "function": call, **self._take()})
            begun["type"] = ""  # complete
        elif kind == "message":
            content = item.get("content")
            known = content if isinstance(content, list) else []
            said = (one for one in known if isinstance(one, dict))
            text = "".join(to_text(one.get("text") or one.get("refusal")) for one in said)
            if not is_shown:
                self._message.read_text(found, text, False)
            self._shown |= places
            items = self._take()
            if text.strip():  # a blank message is not returned, and so its reasoning must not be
                self._message.attached |= items  # several messages become one, with the last's
        elif kind == "image_generation_call" and item.get("result"):
            url = f"data:image/{item.get('output_format') or 'png'};base64,{item['result']}"
            self._message.read(found, {"images": [{"image_url": {"url": url}}]}, False)

    def _keep_encrypted(self, item: Mapping[str, Any]) -> None:
        if item.get("encrypted_content") and self._may_keep(item):
            self._has_encrypted = True
            self._reasoning.append({key: item[key] for key in _REASONING_KEYS if key in item})

    def _may_keep(self, item: Mapping[str, Any]) -> bool:
        """Count an item, and return whether it can be stored with those before it."""
        try:
            self._kept_chars += measure(item)
        except RecursionError:
            return False
        return self._kept_chars <= MAX_CHARS

    def _take(self) -> dict[str, Any]:
        """Return the reasoning before a message or call, which gets it back with that."""
        items, self._reasoning = self._reasoning, []
        return {REASONING_ITEMS: items} if items else {}

    def _end(self, found: list[Delta], response: dict[str, Any]) -> None:
        """Read the end of the response: its usage, its status, and items without own events."""
        self._usage.add(response.get("usage"))
        self._model = self._model or to_text(response.get("model"))[:200]
        status = response.get("status")
        if response.get("error") or status in ("failed", "cancelled"):
            raise self.reported.read_error(response.get("error") or response)
        output = response.get("output")
        items = [one for one in output if isinstance(one, dict)] if isinstance(output, list) else []
        if self._message.is_empty:
            for index, item in enumerate(items):
                self._read_item(found, item, index)
        else:
            self._read_late(found, items)
        for begun in self._begun.values():
            if begun["type"]:
                self._read_item(found, begun, None)
        reason = read_finish_reason(response.get("incomplete_details"))
        if reason not in ("length", "content_filter"):
            reason = "length" if status == "incomplete" else "stop"
        self.finish_reason = reason
        self.ended_alone = True

    def _read_late(self, found: list[Delta], items: Sequence[Mapping[str, Any]]) -> None:
        """Read what LiteLLM sends only at the end: encrypted reasoning, or calls after a text."""
        has_encrypted, has_calls = self._has_encrypted, bool(self._message.calls)
        for index, item in enumerate(items):
            kind = item.get("type")
            if not has_encrypted:
                self._keep_encrypted(item)
            if kind == "function_call" and not has_calls:
                self._read_item(found, item, index)
            elif kind == "function_call" and not has_encrypted and self._reasoning:
                self._message.read_calls({"id": item.get("call_id"), **self._take()})
            elif kind == "message" and not has_encrypted and self._reasoning:
                self._message.attached |= self._take()


def _list_places(index: Any, one: Mapping[str, Any]) -> list[str]:
    """Return the index and the id of an item or of an event's item.

    llama.cpp sends no indices. Copilot sends another id in each event.
    """
    known = (index, one.get("item_id") or one.get("id"))
    return [str(value) for value in known if value is not None] or [""]

"""The bot's reply as it grows: what clients see, and what is stored."""

from __future__ import annotations

import time
from typing import Any

from ... import events
from ...agent.loop import AgentEvent, ToolFinished, ToolStarted
from ...agent.provider import ReasoningDelta, TextDelta, Usage
from ...db.attachments import AttachmentRow
from ...errors import ProviderError
from ...events import Event


class Reply:
    """Turns what the agent yields into stream events and stored parts.

    :param streaming: Whether text goes out piece by piece, or once at the end.
    :param show_reasoning: Whether thinking is shown and stored at all.
    :param max_chars: Most characters of answer and thinking.
    """

    def __init__(
        self, run_id: str, *, streaming: bool, show_reasoning: bool, max_chars: int
    ) -> None:
        self._run_id = run_id
        self._streaming = streaming
        self._show_reasoning = show_reasoning
        self._max_chars = max_chars
        self._chars = 0
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._parts: list[dict[str, Any]] = []
        self._open: tuple[str, list[str]] | None = None
        self._calls: dict[str, dict[str, Any]] = {}
        self._usage = Usage()
        self._started_at = time.time()
        self._first_token_at: float | None = None
        self._finished = False
        #: Numbers of the attachments among the parts.
        self.attachments: list[int] = []

    @property
    def text(self) -> str:
        """The whole answer so far."""
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        """The whole thinking so far."""
        return "".join(self._reasoning)

    def take(self, event: AgentEvent) -> list[Event]:
        """Add what the agent yielded; return the events that clients see now.

        :raises ProviderError: when the reply has become too long.
        """
        if isinstance(event, TextDelta):
            return self._take_text(event.text)
        if isinstance(event, ReasoningDelta):
            return self._take_reasoning(event.text)
        if isinstance(event, ToolStarted):
            return [self._start_call(event)]
        if isinstance(event, ToolFinished):
            return [self._finish_call(event)]
        self._usage += event
        return []

    def add_file(self, file: AttachmentRow) -> list[Event]:
        """Add a file that a tool has made; return the events that show it."""
        self._close_part()
        self._parts.append(
            {"type": file.type, "attachment_id": file.attachment_id, "filename": file.name}
        )
        self.attachments.append(file.id)
        return [
            events.media(self._run_id, file.type, file.name, streaming=self._streaming),
            events.attachment_saved(file.attachment_id, file.type),
        ]

    def finish(self) -> list[Event]:
        """Return the last events before the reply is stored: text that was held back.

        Empty from the second call on: an end that fails is ended once more.
        """
        if self._streaming or self._finished:
            return []
        self._finished = True
        held: list[Event] = []
        if self.reasoning:
            held += self._plain(self.reasoning, "reasoning")
        return held + self._plain(self.text, None)

    def to_parts(self) -> list[dict[str, Any]]:
        """Return the parts of the stored message, in the order they came."""
        self._close_part()
        return self._parts

    def to_stats(self) -> dict[str, Any]:
        """Return tokens and times: the ``agent_stats`` of the contract, in seconds."""
        now = time.time()
        first = self._first_token_at
        return {
            "token_usage": {
                "input_other": self._usage.input_other,
                "input_cached": self._usage.input_cached,
                "output": self._usage.output,
            },
            "start_time": self._started_at,
            "end_time": now,
            "time_to_first_token": 0.0 if first is None else first - self._started_at,
        }

    def to_content(self) -> dict[str, Any]:
        """Return the stored message, without its error, if it had one."""
        content: dict[str, Any] = {"type": "bot", "message": self.to_parts()}
        if self._reasoning:
            content["reasoning"] = self.reasoning
        content["agent_stats"] = self.to_stats()
        return content

    def _take_text(self, text: str) -> list[Event]:
        self._count(text)
        self._text.append(text)
        self._add_to_part("plain", text)
        return self._plain(text, None) if self._streaming else []

    def _take_reasoning(self, text: str) -> list[Event]:
        if not self._show_reasoning:
            return []
        self._count(text)
        self._reasoning.append(text)
        self._add_to_part("think", text)
        return self._plain(text, "reasoning") if self._streaming else []

    def _count(self, text: str) -> None:
        if self._first_token_at is None:
            self._first_token_at = time.time()
        self._chars += len(text)
        if self._chars > self._max_chars:
            raise ProviderError(
                f"The answer was cut off: it is longer than {self._max_chars} characters."
            )

    def _plain(self, text: str, chain_type: str | None) -> list[Event]:
        return events.plain_pieces(
            self._run_id, text, streaming=self._streaming, chain_type=chain_type
        )

    def _add_to_part(self, kind: str, text: str) -> None:
        if self._open is None or self._open[0] != kind:
            self._close_part()
            self._open = (kind, [])
        self._open[1].append(text)

    def _close_part(self) -> None:
        if self._open is None:
            return
        kind, pieces = self._open
        self._open = None
        key = "text" if kind == "plain" else "think"
        self._parts.append({"type": kind, key: "".join(pieces)})

    def _start_call(self, event: ToolStarted) -> Event:
        self._close_part()
        call = {"id": event.id, "name": event.name, "args": event.args, "ts": event.ts}
        self._calls[event.id] = dict(call)
        self._parts.append({"type": "tool_call", "tool_calls": [self._calls[event.id]]})
        return events.tool_call(self._run_id, call)

    def _finish_call(self, event: ToolFinished) -> Event:
        self._calls[event.id].update(result=event.result, finished_ts=event.ts)
        result = {"id": event.id, "ts": event.ts, "result": event.result}
        return events.tool_call_result(self._run_id, result)

"""The bot's reply while it grows: its events for clients, and its stored message."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ... import events
from ...agent.provider import Finished, ModelMessage, ReasoningDelta, Rewind, TextDelta, Usage
from ...agent.steps import AgentEvent, QueuePosition, ToolFinished, ToolProgress, ToolStarted
from ...db.attachments import AttachmentRow
from ...errors import ProviderError
from ...events import Event
from ..context.budget import Said, cost
from .fold import ReplyFold


class Reply:
    """Converts the agent's output into events, and folds them into the stored message.

    :param streaming: Whether text is sent in pieces, or once at the end.
    :param max_chars: Maximum length of answer and reasoning together, in characters.
    :param count_events: Returns the number of the run's events.
    """

    def __init__(
        self,
        run_id: str,
        *,
        streaming: bool,
        show_reasoning: bool,
        max_chars: int,
        count_events: Callable[[], int] = lambda: 0,
    ) -> None:
        self._run_id = run_id
        self._streaming = streaming
        self._show_reasoning = show_reasoning
        self._max_chars = max_chars
        self._chars = 0
        #: The reply so far.
        self.fold = ReplyFold()
        self._usage = Usage()
        # The model's input since it last reported its tokens, or None if it was not asked since.
        self._prompt: Sequence[ModelMessage] | None = None
        self._unreported: Said | None = None
        self._finished_step = Finished()
        self._steps: list[dict[str, Any]] = []
        self._context_tokens = 0
        self._started_at = time.time()
        self._clock_s = self._started_at - time.monotonic()
        self._first_token_at: float | None = None
        self._finished = False
        # Number of the event before the first text of this step, or None before any text.
        self._count_events = count_events
        self._text_begun = False
        self._step_after = 0

    def take(self, event: AgentEvent) -> list[Event]:
        """Add output of the agent; return the events to show now.

        :raises ProviderError: if the reply is too long.
        """
        if isinstance(event, TextDelta):
            if not self._text_begun:
                self._text_begun, self._step_after = True, self._count_events()
            return self._take_text(event.text, None)
        if isinstance(event, ReasoningDelta):
            if not self._show_reasoning:
                if self._unreported is not None:
                    self._unreported.add(event.text)
                return []
            return self._take_text(event.text, "reasoning")
        if isinstance(event, ToolStarted):
            call = {"id": event.id, "name": event.name, "args": event.args, "ts": event.ts}
            if event.by_caller:
                call["by_caller"] = True
            if self._steps:
                self._steps[-1]["calls"] += 1
            return self._add(events.tool_call(self._run_id, call))
        if isinstance(event, ToolFinished):
            if self._prompt is not None and self._unreported is None:
                self._unreported = Said()  # the next step asks the model again
            result = {"id": event.id, "ts": event.ts, "result": event.result}
            return self._add(events.tool_call_result(self._run_id, result))
        if isinstance(event, ToolProgress):
            return [
                events.tool_progress(
                    self._run_id, event.id, event.progress, event.total, event.message
                )
            ]
        if isinstance(event, QueuePosition):
            return [events.queue_position(self._run_id, event.position)]
        if isinstance(event, Rewind):
            self._chars -= event.chars
            shown = self._add(events.rewind(self._run_id, self._step_after, event.chars))
            return shown if self._streaming else []
        if isinstance(event, Finished):
            self._finished_step, self._text_begun = event, False
            self._steps.append({"calls": 0, "attached": dict(event.attached)})
        elif isinstance(event, Usage):
            self._usage += event
            self._context_tokens = event.input_other + event.input_cached
            if event != Usage():
                self._unreported = None
        return []

    def to_state(self) -> dict[str, Any]:
        """Return the state that :meth:`restore` needs besides the events, as JSON."""
        usage = self._usage
        return {
            "usage": [usage.input_other, usage.input_cached, usage.output],
            "context_tokens": self._context_tokens,
            "started_at": self._started_at,
            "first_token_at": self._first_token_at,
        }

    def restore(
        self, events: Iterable[Event], state: Mapping[str, Any], steps: Sequence[dict[str, Any]]
    ) -> None:
        """Restore a reply that another worker began.

        :param events: The events of the reply so far.
        :param state: From :meth:`to_state`, or empty if no step was complete.
        """
        for event in events:
            self.fold.add(event)
        self._chars = len(self.fold.text) + len(self.fold.reasoning)
        self._steps = list(steps)
        if state:
            self._usage = Usage(*state["usage"])
            self._context_tokens = state["context_tokens"]
            self._started_at, self._first_token_at = state["started_at"], state["first_token_at"]

    def note_prompt(self, messages: Sequence[ModelMessage]) -> None:
        """Keep the model's input, to estimate tokens if the provider reports none."""
        self._prompt, self._unreported = messages, Said()

    def add_file(self, file: AttachmentRow) -> list[Event]:
        """Add a file made by a tool; return the events that show it."""
        return self._add(
            events.media(self._run_id, file.type, file.name, streaming=self._streaming),
            events.attachment_saved(file.attachment_id, file.type),
        )

    def finish(self) -> list[Event]:
        """Return the last events before the reply is stored: text that was held back.

        Later calls return nothing.
        """
        if self._streaming or self._finished:
            return []
        self._finished = True
        return self._plain(self.fold.reasoning, "reasoning") + self._plain(self.fold.text, None)

    def to_stats(self, *, stopped: bool = False) -> dict[str, Any]:
        """Return tokens and times, the contract's ``agent_stats``, in seconds.

        :param stopped: The turn was stopped during a model call, so count its prompt in any case.
        """
        first, last = self._first_token_at, self._finished_step
        end = {"finish_reason": last.reason, "provider": last.provider, "model": last.model}
        return {
            "token_usage": {
                "input_other": self._usage.input_other,
                "input_cached": self._usage.input_cached,
                "output": self._usage.output,
            },
            "current_context_tokens": self._context_tokens,
            "start_time": self._started_at,
            "end_time": self._now(),
            "time_to_first_token": 0.0 if first is None else first - self._started_at,
            **{key: value for key, value in end.items() if value},
            **self._estimate_unreported(stopped),
        }

    def _now(self) -> float:
        """Return the time in a clock that is never set, and not before the start elsewhere."""
        return max(self._started_at, self._clock_s + time.monotonic())

    def _estimate_unreported(self, stopped: bool) -> dict[str, Any]:
        """Return an estimate of the tokens that no provider reported, marked as an estimate."""
        said = self._unreported
        if self._prompt is None or said is None or not (said.pieces or stopped):
            return {}
        return {"estimated_tokens": {"input": cost(self._prompt), "output": said.tokens}}

    def to_steps(self) -> list[dict[str, Any]]:
        """Return the calls of each step and its provider's data; empty if no step has any."""
        has_any = any(one["calls"] or one["attached"] for one in self._steps)
        return list(self._steps) if has_any else []

    def to_content(self, *, stopped: bool = False) -> dict[str, Any]:
        """Return the message to store, without its error."""
        return {**self.fold.to_content(), "agent_stats": self.to_stats(stopped=stopped)}

    def _add(self, *shown: Event) -> list[Event]:
        for event in shown:
            self.fold.add(event)
        return list(shown)

    def _take_text(self, text: str, chain_type: str | None) -> list[Event]:
        if self._first_token_at is None:
            self._first_token_at = self._now()
        self._chars += len(text)
        if self._unreported is not None:
            self._unreported.add(text)
        if self._chars > self._max_chars:
            raise ProviderError(
                f"The answer was cut off: it is longer than {self._max_chars} characters."
            )
        pieces = self._add(*self._plain(text, chain_type))
        return pieces if self._streaming else []

    def _plain(self, text: str, chain_type: str | None) -> list[Event]:
        return events.plain_pieces(
            self._run_id, text, streaming=self._streaming, chain_type=chain_type
        )

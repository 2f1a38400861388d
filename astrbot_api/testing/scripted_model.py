"""Scripted model for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..agent.cancel import Cancellation
from ..agent.provider import Delta, ModelMessage, ModelOptions, TextDelta, ToolSpec

#: Maximum wait for an event of a script, in seconds.
_LIMIT_S = 60.0

Step = str | Delta | Exception | threading.Event
Script = str | Iterable[Step] | Callable[[list[ModelMessage]], Iterable[Step]]


class ScriptedModel:
    """A :class:`~astrbot_api.Provider` that answers from scripts.

    ::

        go_on = threading.Event()
        model = ScriptedModel(["Let me see", go_on, " … it is four."], "You are welcome.")

    Each call to the model uses the next script. The last script repeats. A script
    is a text, a list of steps, or a function that takes the messages and returns
    steps. A step is one of these:

    - a text or a delta (:class:`~astrbot_api.ToolCallDelta`, …), which is yielded,
    - an exception, which is raised,
    - an event, which pauses the answer until the test sets it.
    """

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts or ("Hello",)
        self._lock = threading.Lock()
        #: The messages of each call.
        self.seen: list[list[ModelMessage]] = []
        #: The names of the tools that each call offered.
        self.offered: list[list[str]] = []

    def stream(
        self,
        messages: Sequence[ModelMessage],
        tools: Sequence[ToolSpec],
        options: ModelOptions,
    ) -> Iterator[Delta]:
        """Record the call, then yield the deltas of its script.

        :raises RunCancelled: when the turn is stopped while it waits for an event.
        :raises TimeoutError: when an event is not set within 60 s.
        """
        with self._lock:
            script = self._scripts[min(len(self.seen), len(self._scripts) - 1)]
            self.seen.append(list(messages))
            self.offered.append([spec["function"]["name"] for spec in tools])
        steps = script(list(messages)) if callable(script) else script
        for step in [steps] if isinstance(steps, str) else steps:
            if isinstance(step, threading.Event):
                _wait(step, options.cancel)
            elif isinstance(step, Exception):
                raise step
            else:
                yield TextDelta(step) if isinstance(step, str) else step


def _wait(event: threading.Event, cancel: Cancellation) -> None:
    for _ in range(round(_LIMIT_S / 0.01)):
        if event.wait(0.01):
            return
        cancel.raise_if_cancelled()
    raise TimeoutError(f"The test did not set the event of its script within {_LIMIT_S:g} s.")

"""Call the hooks of one turn, each with its own timeout, error handling and log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..agent.abandonable import AbandonableCalls
from ..agent.provider import ModelMessage
from ..agent.tools import Tool
from ..errors import RunCancelled
from ..event_lines import join_surrogates
from ..events import Event
from .commands import Command
from .context import Handled, TurnContext

log = logging.getLogger(__name__)

#: Seconds after which a slow hook is logged.
SLOW_S = 1.0

#: The same for on_event, which is called between two tokens.
_SLOW_EVENT_S = 0.05


@dataclass(frozen=True, slots=True)
class Implementation:
    """One plugin's method for one hook."""

    plugin: str
    hook: str
    function: Callable[..., Any]
    names: tuple[str, ...]
    settings: Mapping[str, Any]

    def call(self, **values: Any) -> Any:
        """Call it with the values for its parameters."""
        return self.function(**{name: values[name] for name in self.names})


@dataclass(frozen=True, slots=True)
class ConfigPlugins:
    """The plugins of one config: their tools, commands and hooks.

    :param implementations: By name of the hook, in calling order.
    :param settings: By plugin. Its keys are the enabled plugins.
    """

    tools: tuple[Tool, ...] = ()
    commands: Mapping[str, Command] = field(default_factory=dict)
    implementations: Mapping[str, Sequence[Implementation]] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)


class TurnHooks:
    """Calls the hooks of one turn. Exceptions of plugins are logged, not raised.

    :param asides: Runs the hooks, so that a hook that never returns cannot block the turn.
    :param timeout_s: Seconds after which the turn continues without the hook.
    """

    def __init__(
        self,
        implementations: Mapping[str, Sequence[Implementation]],
        context: TurnContext,
        asides: AbandonableCalls,
        timeout_s: float,
    ) -> None:
        self._implementations = implementations
        self._context = context
        self._asides = asides
        self._timeout_s = timeout_s
        self._observers = [
            (one, replace(context, settings=one.settings))
            for one in implementations.get("on_event", ())
        ]

    def rewrite_message(self, text: str) -> str | Handled:
        """Return the user's message as changed by the plugins.

        :raises RunCancelled: if the turn is cancelled meanwhile.
        """
        for one in self._implementations.get("on_message", ()):
            answer = self._run(one, message=text)
            if isinstance(answer, Handled) and isinstance(answer.text, str):
                return answer
            if isinstance(answer, str):
                text = join_surrogates(answer)
            elif answer is not None:
                kind = type(answer).__name__
                log.error("plugin %s: on_message returned a %s; ignored", one.plugin, kind)
        return text

    def rewrite_messages(self, messages: Sequence[ModelMessage]) -> list[ModelMessage]:
        """Return the model's input as changed by the plugins.

        :raises RunCancelled: if the turn is cancelled meanwhile.
        """
        kept = list(messages)
        for one in self._implementations.get("before_model", ()):
            # Copies, so that a hook that fails halfway changes nothing.
            answer = self._run(one, messages=[dict(message) for message in kept])
            if answer is None:
                continue
            fault = _find_messages_fault(answer)
            if fault:
                log.error("plugin %s: before_model returned %s; ignored", one.plugin, fault)
            else:
                kept = list(answer)
        return kept

    def observe_reply(self, reply: str) -> None:
        """Pass the whole answer to the plugins."""
        for one in self._implementations.get("after_model", ()):
            try:
                self._run(one, reply=reply)
            except RunCancelled:  # the answer is already stored
                return

    @property
    def observer(self) -> Callable[[Event], None] | None:
        """Function to call with each event, or None if no plugin observes events."""
        return self._observe_event if self._observers else None

    def _observe_event(self, event: Event) -> None:
        for entry in list(self._observers):
            one, context = entry
            started = time.monotonic()
            try:
                one.call(context=context, event=dict(event))
            except BaseException:  # SystemExit would end the turn's thread
                self._observers.remove(entry)
                log.exception("plugin %s failed in on_event and gets no more events of this run",
                              one.plugin)  # fmt: skip
            took_s = time.monotonic() - started
            if took_s > _SLOW_EVENT_S:
                log.warning("plugin %s delayed a stream for %.2f s in on_event", one.plugin, took_s)

    def _run(self, one: Implementation, **values: Any) -> Any:
        """Call one implementation; return None if it fails or exceeds its time limit."""
        context, started = self._context, time.monotonic()
        try:
            return self._asides.run(
                f"{one.hook} of plugin {one.plugin}",
                lambda cancel: one.call(
                    context=replace(context, cancel=cancel, settings=one.settings), **values
                ),
                timeout_s=self._timeout_s,
                cancel=context.cancel,
            )
        except Exception as error:
            context.cancel.raise_if_cancelled()
            log.error("plugin %s failed in %s", one.plugin, one.hook, exc_info=error)
        finally:
            took_s = time.monotonic() - started
            if took_s > SLOW_S:
                log.warning("plugin %s took %.1f s in %s", one.plugin, took_s, one.hook)
        return None


def _find_messages_fault(messages: Any) -> str:
    """Return why a model cannot get these messages, or an empty string."""
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        return f"a {type(messages).__name__}, no list"
    called: set[Any] = set()
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return f"no message with a role at {at}"
        for call in message.get("tool_calls") or ():
            called.add(call.get("id") if isinstance(call, dict) else None)
        if message["role"] == "tool" and message.get("tool_call_id") not in called:
            return f"a tool's result without its call at {at}"
    return ""

"""A chain of providers: the next provider is called if one fails before its first token."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ..agent.provider import Delta, Finished, ModelMessage, ModelOptions, Provider, ToolSpec, Usage
from ..config.agents import ProviderConfig
from ..errors import ProviderError

log = logging.getLogger(__name__)

#: Seconds for which a failed provider moves to the end of the chain.
_PAUSE_S = 30.0


class FallbackProvider:
    """Calls the first provider, and the next one if that fails before its first token.

    A model chosen by the caller applies to the first provider. The others use their own model.

    :param chain: Provider tables in order of preference.
    """

    def __init__(
        self, chain: Sequence[ProviderConfig], get_provider: Callable[[ProviderConfig], Provider]
    ) -> None:
        self._chain = chain
        self._get_provider = get_provider
        self._paused_until: dict[str, float] = {}
        self._lock = threading.Lock()

    def stream(
        self, messages: Sequence[ModelMessage], tools: Sequence[ToolSpec], options: ModelOptions
    ) -> Iterator[Delta]:
        """Yield the answer of the first provider that does not fail."""
        order = self._order()
        for config in order:
            shown = False
            try:
                asked = options if config is self._chain[0] else replace(options, model="")
                for delta in self._get_provider(config).stream(messages, tools, asked):
                    shown = shown or not isinstance(delta, (Usage, Finished))
                    yield delta
                return
            except ProviderError as error:
                if shown or config is order[-1]:
                    raise
                if error.retryable:
                    with self._lock:
                        self._paused_until[config.id] = time.monotonic() + _PAUSE_S
                log.warning("provider %s failed, trying the next one: %s", config.id, error)

    def _order(self) -> list[ProviderConfig]:
        now = time.monotonic()
        with self._lock:
            paused = {one for one, until in self._paused_until.items() if until > now}
        return sorted(self._chain, key=lambda config: config.id in paused)

"""Provider objects, one for each provider table, shared by all turns."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from ..agent.provider import Provider
from ..config.agents import ProviderConfig
from ..errors import SettingsError
from .fallback import FallbackProvider
from .local import LocalProvider, resolve_auto
from .mock import MockProvider
from .openai import OpenAIProvider
from .safe_names import SafeNames

#: Maximum number of cached provider objects. Each edit of a config adds one.
_MAX_KEPT = 100


class Providers:
    """Creates providers on first use and keeps their connections.

    :param own: Providers of the application, by id. They take precedence over a config's tables.
    """

    def __init__(self, own: Mapping[str, Provider] | None = None) -> None:
        self._own = dict(own or {})
        self._lock = threading.Lock()
        self._made: dict[ProviderConfig, Provider] = {}
        self._chains: dict[tuple[ProviderConfig, ...], Provider] = {}

    def get_provider(self, config: ProviderConfig) -> Provider:
        """Return the provider of a table.

        :raises ProviderError: when ``type = "auto"`` finds no model.
        """
        if config.id in self._own:
            return self._own[config.id]
        resolved = self.resolve(config)
        with self._lock:
            provider = self._made.get(resolved)
            if provider is None:
                if len(self._made) >= _MAX_KEPT:
                    self._made.clear()
                provider = self._made[resolved] = _make(resolved)
        return provider

    def resolve(self, config: ProviderConfig) -> ProviderConfig:
        """Return the table with the model that ``type = "auto"`` finds.

        :raises ProviderError: when it finds none.
        """
        if config.id in self._own:
            return config
        return resolve_auto(config, os.environ)

    def get_chain(self, config: ProviderConfig, others: Mapping[str, ProviderConfig]) -> Provider:
        """Return the provider of a table, with its fallbacks.

        :param others: Provider tables of the config, by id.
        :raises ProviderError: when ``type = "auto"`` finds no model.
        """
        chain = (config, *(others[one] for one in config.fallback if one in others))
        if len(chain) == 1:
            return self.get_provider(config)
        with self._lock:
            made = self._chains.get(chain)
            if made is None:
                if len(self._chains) >= _MAX_KEPT:
                    self._chains.clear()
                made = self._chains[chain] = FallbackProvider(chain, self.get_provider)
        return made

    def check(self, config: ProviderConfig) -> None:
        """Check that a provider table is complete, without calling its endpoint.

        :raises SettingsError: when the variable of ``api_key_env`` is not set.
        :raises ProviderError: when ``type = "auto"`` finds no model.
        """
        if config.id not in self._own and config.api_key_env and not config.resolve_api_key():
            raise SettingsError(
                f"[provider] api_key_env names {config.api_key_env}: set it in the environment"
            )
        self.get_provider(config)


def _make(config: ProviderConfig) -> Provider:
    if config.type == "mock":
        return MockProvider()
    if config.type == "local":
        return SafeNames(LocalProvider(config))
    return SafeNames(OpenAIProvider(config), makes_leaked=config.calls_in_text)

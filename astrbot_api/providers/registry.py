"""One provider object for each provider table, shared by all turns."""

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

#: Provider objects that are kept. A config that is edited again and again
#: leaves its older ones behind.
_MAX_KEPT = 100


class Providers:
    """Makes providers when they are first needed, and keeps their connections.

    :param own: Providers that the application gave, by id; they win over
        what a config's table says.
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
        resolved = resolve_auto(config, os.environ) if config.type == "auto" else config
        with self._lock:
            provider = self._made.get(resolved)
            if provider is None:
                if len(self._made) >= _MAX_KEPT:
                    self._made.clear()
                provider = self._made[resolved] = _make(resolved)
        return provider

    def get_chain(self, config: ProviderConfig, others: Mapping[str, ProviderConfig]) -> Provider:
        """Return the provider of a table, with its fallbacks behind it.

        :param others: The providers of the config, by id.
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
        """Return whether a table has what it takes to ask its model. It asks no endpoint.

        :raises SettingsError: when the key that it names is not there.
        :raises ProviderError: when ``type = "auto"`` finds no model.
        """
        if config.id not in self._own and config.api_key_env and not config.resolve_api_key():
            raise SettingsError(
                f"the environment has no {config.api_key_env}, which [provider] api_key_env names"
            )
        self.get_provider(config)


def _make(config: ProviderConfig) -> Provider:
    if config.type == "mock":
        return MockProvider()
    if config.type == "local":
        return SafeNames(LocalProvider(config))
    return SafeNames(OpenAIProvider(config))

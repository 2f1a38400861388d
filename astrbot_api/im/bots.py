"""The bots of one application, as configured in ``bots.toml``, with their adapters."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path

from ..deliveries.http import PlatformHttp
from ..errors import ApiError, SettingsError
from .adapter import Adapter, Bot
from .botfile import BotFile
from .registry import AdapterTypes

log = logging.getLogger(__name__)


class Bots:
    """Creates each bot's adapter on first use, and again after its table changes."""

    def __init__(self, data_dir: Path, types: AdapterTypes) -> None:
        self._types = types
        self.file = BotFile(data_dir, types)
        self._lock = threading.Lock()
        self._made: dict[str, tuple[Bot, Adapter | None, str]] = {}
        self.http = PlatformHttp()
        self._by_proxy: dict[str, PlatformHttp] = {}

    def list_ids(self) -> list[str]:
        """Return the bots' ids in the order of the file, including invalid ones."""
        return list(self.file.get())

    def list_bots(self) -> list[Bot]:
        """Return the bots. ``fault`` is the reason why a bot cannot run."""
        return [replace(bot, fault=self._find_fault(bot)) for bot in self.file.get().values()]

    def find_running(self, bot_id: str) -> tuple[Bot, Adapter] | None:
        """Return a bot and its adapter, or None if it cannot run."""
        bot = self.file.get().get(bot_id)
        if bot is None or not bot.enabled or bot.fault:
            return None
        adapter, _ = self._get(bot)
        return None if adapter is None else (bot, adapter)

    def get_running(self, bot_id: str) -> tuple[Bot, Adapter]:
        """Return a bot and its adapter.

        :raises ApiError: ``bot_not_found``.
        """
        found = self.find_running(bot_id)
        if found is None:
            raise ApiError("bot_not_found", f"Bot not found or not running for platform: {bot_id}")
        return found

    def close(self) -> None:
        """Close all adapters and HTTP clients."""
        with self._lock:
            made, self._made = self._made, {}
        for _, adapter, _ in made.values():
            _close(adapter)
        for http in (self.http, *self._by_proxy.values()):
            http.close()

    def _find_fault(self, bot: Bot) -> str:
        if bot.fault or not bot.enabled:
            return bot.fault
        return self._get(bot)[1]

    def _get(self, bot: Bot) -> tuple[Adapter | None, str]:
        known = self._made.get(bot.id)
        if known is not None and known[0] == bot:
            return known[1:]
        with self._lock:
            known = self._made.get(bot.id)
            if known is not None and known[0] == bot:
                return known[1:]
            adapter, fault = self._build(bot)
            self._made[bot.id] = (bot, adapter, fault)
        if known is not None:
            _close(known[1])
        return adapter, fault

    def _choose_http(self, bot: Bot) -> PlatformHttp:
        """Return the application's HTTP client, or one with the bot's own proxy."""
        if bot.proxy is None:
            return self.http
        if bot.proxy not in self._by_proxy:
            self._by_proxy[bot.proxy] = PlatformHttp(proxy=bot.proxy)
        return self._by_proxy[bot.proxy]

    def _build(self, bot: Bot) -> tuple[Adapter | None, str]:
        try:
            return self._types.load(bot.type).build(bot, self._choose_http(bot)), ""
        except SettingsError as error:
            fault = f"bots.toml: bot {bot.id}: {error}"
            log.error("%s (the bot cannot be used until this is fixed)", fault)
        except Exception as error:
            fault = f"bots.toml: bot {bot.id}: its adapter failed: {type(error).__name__}"
            log.exception("%s", fault)
        return None, fault


def _close(adapter: Adapter | None) -> None:
    if adapter is None:
        return
    try:
        adapter.close()
    except Exception:
        log.exception("the adapter of type %s could not be closed", adapter.type)

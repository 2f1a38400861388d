"""Reads and checks ``bots.toml``. Changes take effect without a restart."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import marshmallow as ma

from ..config.secrets import load_with_secrets
from ..config.tables import check_proxy, read_tables
from ..config.watched import WatchedFile
from ..errors import SettingsError
from .adapter import Bot
from .registry import AdapterTypes

log = logging.getLogger(__name__)

_OWN_KEYS = ("id", "type", "enabled", "config", "allow", "proxy")

#: Ids of built-in platforms.
_TAKEN_IDS = ("webchat",)


def read_bot_tables(path: Path) -> list[dict[str, Any]]:
    """Read the ``[[bot]]`` tables. A missing file has none.

    :returns: Tables, each with a unique ``id`` and a ``type``.
    :raises SettingsError: with file, key and error, in one line.
    """
    bots = read_tables(path, "bot")
    seen: set[str] = set()
    for number, bot in enumerate(bots, 1):
        for key in ("id", "type"):
            if not isinstance(bot.get(key), str) or not bot[key].strip():
                raise SettingsError(f"{path.name}: bot {number}: {key}: required, a string")
        _check_id(bot["id"], f"{path.name}: bot {number}: id")
        if bot["id"] in seen:
            raise SettingsError(f"{path.name}: bot {number}: id: {bot['id']} is used twice")
        seen.add(bot["id"])
    return bots


def read_bot(table: Mapping[str, Any], types: AdapterTypes, file: str = "bots.toml") -> Bot:
    """Check one table with the schema of its type.

    :raises SettingsError: with file, bot, key and error, in one line.
    """
    where = f"{file}: bot {table['id']}"
    own: dict[str, Any] = {key: table[key] for key in _OWN_KEYS if key in table}
    for key, kind, word in (("enabled", bool, "true or false"), ("config", str, "a string")):
        if not isinstance(own.get(key, kind()), kind):
            raise SettingsError(f"{where}: {key}: must be {word}")
    try:
        check_proxy(own.get("proxy", ""))
    except (ma.ValidationError, TypeError, AttributeError) as error:
        raise SettingsError(f"{where}: proxy: must be the URL of a proxy") from error
    own["allow"] = _read_allowed(own.get("allow", []), where)
    if not own.get("enabled", True):
        # A disabled bot needs neither its package nor its secrets.
        return Bot(**own)
    try:
        schema = types.load(own["type"]).SettingsSchema()
    except SettingsError as error:
        raise SettingsError(f"{where}: type: {error}") from error
    rest = {key: value for key, value in table.items() if key not in _OWN_KEYS}
    return Bot(**own, settings=load_with_secrets(rest, schema, where))


class BotFile(WatchedFile[Mapping[str, Bot]]):
    """The bots of one data directory by id, in the order of the file, kept up to date.

    If the file cannot be read, all bots stay as they were. An invalid table keeps the last
    valid settings of its bot. A new bot with an invalid table is listed, but cannot be used.
    """

    def __init__(self, data_dir: Path, types: AdapterTypes | None = None) -> None:
        self._types = types or AdapterTypes()
        super().__init__(data_dir / "bots.toml", self._read_bots, {})

    def _read_bots(self, path: Path, last: Mapping[str, Bot]) -> dict[str, Bot]:
        bots = {}
        for table in read_bot_tables(path):
            try:
                bot = read_bot(table, self._types, path.name)
            except SettingsError as error:
                bot = _keep_last_good(last.get(table["id"]), table, str(error))
            bots[bot.id] = bot
        return bots


def _keep_last_good(last: Bot | None, table: Mapping[str, Any], fault: str) -> Bot:
    if last is not None and last.enabled and not last.fault and last.type == table["type"]:
        log.error("%s (the bot keeps its last valid settings)", fault)
        return last
    log.error("%s (the bot cannot be used until this is fixed)", fault)
    return Bot(table["id"], table["type"], fault=fault)


def _check_id(bot_id: str, where: str) -> None:
    if ":" in bot_id or bot_id in _TAKEN_IDS:
        raise SettingsError(f"{where}: must not contain a colon or be webchat")
    # The id is part of the URL of the bot's hook.
    if "/" in bot_id or not bot_id.isprintable() or len(bot_id) > 100:
        raise SettingsError(f"{where}: must have at most 100 printable characters and no slash")


def _read_allowed(value: Any, where: str) -> frozenset[str]:
    # Most messengers use numbers as user ids.
    if not isinstance(value, list) or not all(
        isinstance(one, (str, int)) and not isinstance(one, bool) for one in value
    ):
        raise SettingsError(f"{where}: allow: must be a list of ids")
    return frozenset(str(one).strip() for one in value)

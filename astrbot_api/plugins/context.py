"""What a plugin is given: at its start, of a turn, and its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import marshmallow as ma
import peewee
from jsonschema import Draft202012Validator

from ..agent.cancel import Cancellation
from ..config.agents import AgentConfig, find_first_error
from ..db.store import Store
from ..errors import AstrBotError, SettingsError


class PluginError(AstrBotError):
    """A plugin cannot be loaded; one line says why."""


@dataclass(frozen=True, slots=True)
class Host:
    """The application that a plugin is part of.

    :param plugin: The name that the plugin has here.
    :param data_dir: The server's data directory.
    :param store: The database. The built-in plugins use it; its tables may
        change in any version, so keep what is yours in :meth:`make_folder`.
    :param check_room: Called with the database, in a transaction that stores something there,
        and the key that pays; raises :class:`~astrbot_api.errors.ApiError` beyond its quota.
    """

    plugin: str
    data_dir: Path
    store: Store
    check_room: Callable[[peewee.Database, str | None], None] = lambda db, payer: None

    def make_folder(self) -> Path:
        """Return a folder for the plugin's own files, made when it is missing.

        Several worker processes share it.
        """
        folder = self.data_dir / "plugin-data" / self.plugin
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(frozen=True, slots=True)
class TurnContext:
    """What a hook may know of the turn that it is called for.

    :param platform: Where the user is: ``webchat``, or the type of the bot.
    :param cancel: Fires when the turn is stopped, and when the hook's time
        is up: what waits for long should look at it.
    :param settings: What the turn's config sets for this plugin, checked.
    """

    run_id: str
    username: str
    session_id: str
    config_id: str
    platform: str
    cancel: Cancellation
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Handled:
    """A hook has answered the message itself: the model is not asked.

    :param text: What the user is shown.
    """

    text: str


def read_settings(plugin: object, name: str, config: AgentConfig) -> Mapping[str, Any]:
    """Return what a config sets for a plugin, with the defaults filled in.

    :param plugin: Its ``settings_schema`` is a marshmallow schema, a JSON
        schema, or missing when there is nothing to set.
    :raises SettingsError: One line: file, key, what is wrong.
    """
    schema = getattr(plugin, "settings_schema", None)
    table = dict(config.plugins.tables.get(name, {}))
    where = f"{config.path}: plugins.{name}"
    if schema is None:
        if table:
            raise SettingsError(f"{where}.{next(iter(table))}: this plugin has no settings")
        return {}
    if isinstance(schema, Mapping):
        return _read_json_schema(schema, table, where)
    loader: ma.Schema = schema() if isinstance(schema, type) else schema
    try:
        loaded: Mapping[str, Any] = loader.load(table)
    except ma.ValidationError as error:
        place, what = find_first_error(error.messages)
        raise SettingsError(f"{where}.{place}: {what}") from error
    return loaded


def _read_json_schema(
    schema: Mapping[str, Any], table: dict[str, Any], where: str
) -> Mapping[str, Any]:
    for key, one in schema.get("properties", {}).items():
        if isinstance(one, Mapping) and "default" in one:
            table.setdefault(key, one["default"])
    error = next(iter(Draft202012Validator(schema).iter_errors(table)), None)
    if error is not None:
        place = ".".join(map(str, (where, *error.path)))
        raise SettingsError(f"{place}: {error.message}")
    return table

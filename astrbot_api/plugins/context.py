"""Arguments of plugins: the host at startup, the turn, and settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import marshmallow as ma
import peewee
from jsonschema import Draft202012Validator

from ..agent.cancel import Cancellation
from ..config.agents import AgentConfig
from ..config.secrets import resolve_secrets
from ..config.tables import explain
from ..db.store import Store
from ..errors import AstrBotError, SettingsError


class PluginError(AstrBotError):
    """Raised if a plugin cannot be loaded, with the reason in one line."""


@dataclass(frozen=True, slots=True)
class Host:
    """The application that a plugin is part of.

    :param plugin: Name of the plugin in this application.
    :param data_dir: The server's data directory.
    :param store: The database, for the built-in plugins. Its tables may change in any version, so
        keep your own data in :meth:`make_folder`.
    :param check_room: Called with the database, in a transaction that stores data, and the paying
        key. Raises :class:`~astrbot_api.errors.ApiError` if the key's quota is exceeded.
    """

    plugin: str
    data_dir: Path
    store: Store
    check_room: Callable[[peewee.Database, str | None], None] = lambda db, payer: None

    def make_folder(self) -> Path:
        """Return a folder for the plugin's own files, and create it if it is missing.

        Several worker processes share it.
        """
        folder = self.data_dir / "plugin-data" / self.plugin
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(frozen=True, slots=True)
class TurnContext:
    """The turn of a hook.

    :param platform: The user's platform: ``webchat``, or the type of the bot.
    :param cancel: Fires when the turn is stopped or the hook's time is over. Hooks that wait should
        check it.
    :param settings: The config's validated settings for this plugin.
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
    """Returned by a hook that answers the message itself, without the model.

    :param text: Text for the user.
    """

    text: str


def read_settings(plugin: object, name: str, config: AgentConfig) -> Mapping[str, Any]:
    """Return a config's settings for a plugin, with defaults filled in.

    :param plugin: Its ``settings_schema`` is a marshmallow schema, a JSON schema, or missing if it
        has no settings.
    :raises SettingsError: with file, key and reason in one line.
    """
    schema = getattr(plugin, "settings_schema", None)
    table = dict(config.plugins.tables.get(name, {}))
    where = f"{config.path}: plugins.{name}"
    if schema is None:
        if table:
            raise SettingsError(f"{where}.{next(iter(table))}: this plugin has no settings")
        return {}
    try:
        if isinstance(schema, Mapping):
            return _read_json_schema(schema, table, where)
        loader: ma.Schema = schema() if isinstance(schema, type) else schema
        loaded: Mapping[str, Any] = loader.load(resolve_secrets(table, loader, where))
    except ma.ValidationError as error:
        place, what = explain(error, loader)
        raise SettingsError(f"{where}.{place}: {what}") from error
    except SettingsError:
        raise
    except Exception as error:  # of the plugin's own schema
        what = " ".join(str(error).split())[:300]
        raise SettingsError(
            f"{where}: the plugin's settings_schema failed: {type(error).__name__}: {what}"
        ) from error
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

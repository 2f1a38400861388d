"""A plugin's own settings: ``[plugins.NAME]`` of a config, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from jsonschema import Draft202012Validator

from ..config.agents import AgentConfig, find_first_error
from ..errors import SettingsError


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

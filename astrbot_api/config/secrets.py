"""Settings that no log, response or ``repr`` may show."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import marshmallow as ma

from ..errors import SettingsError
from .tables import explain


class Secret(ma.fields.String):
    """A setting that no log, response or ``repr`` may show.

    In ``bots.toml``, and in the settings of a plugin, ``KEY_env`` may name a variable with its
    value.
    """


def load_with_secrets(table: Mapping[str, Any], schema: ma.Schema, where: str) -> Any:
    """Load a table with a schema, after its secrets' ``KEY_env`` are resolved.

    :raises SettingsError: with ``where``, key and error, in one line.
    """
    try:
        return schema.load(resolve_secrets(table, schema, where))
    except ma.ValidationError as error:
        place, what = explain(error, schema)
        raise SettingsError(f"{where}: {place}: {what}") from error


def resolve_secrets(table: Mapping[str, Any], schema: ma.Schema, where: str) -> Mapping[str, Any]:
    """Return the settings with the variables in each secret's ``KEY_env`` resolved.

    :raises SettingsError: if a variable is not set, or a secret is set twice.
    """
    resolved = dict(table)
    for key, one in schema.fields.items():
        variable = f"{key}_env"
        if not isinstance(one, Secret) or variable not in resolved:
            continue
        name = resolved.pop(variable)
        if key in resolved:
            raise SettingsError(f"{where}: {variable}: {key} is also set; use one of them")
        if not isinstance(name, str) or not os.environ.get(name):
            raise SettingsError(f"{where}: {variable}: the variable {name} is not set")
        resolved[key] = os.environ[name]
    return resolved

"""``astrbot-api plugins list | new``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import click

from ..config.files import ConfigFiles
from ..config.settings import Settings
from ..server.doctor import Finding
from .options import as_json_option, settings_option

# Imported on use: plugins, jsonschema and msgspec would add 0.3 s to every command.
if TYPE_CHECKING:
    from ..plugins.registry import PluginRecord

_FILES = ("plugin.py", "pytest.ini", "test_plugin.py", "README.rst")


@click.group("plugins")
def plugins_group() -> None:
    """List the plugins, or create a new one."""


@plugins_group.command("new")
@click.argument("name")
@settings_option
def new_plugin(name: str, settings: Settings) -> None:
    """Write a working example plugin to the data directory."""
    folder = _create_plugin(settings.data_dir, name)
    click.echo(f"{folder} has a plugin with a tool and the command /{name}.")
    click.echo(f"Its tests: python -m pytest {folder}")
    click.echo("Restart a running server to load it.")


@plugins_group.command("list")
@as_json_option
@settings_option
def list_plugins(as_json: bool, settings: Settings) -> None:
    """List the plugins with their source, their features and errors.

    Enabled plugins are imported, but not started.
    """
    ConfigFiles(settings.data_dir).create_default()
    found = _describe_plugins(settings.data_dir)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for one in found:
        click.echo(f"{one['name']:16} {one['state']:8} {one['source']:12} {one['where']}")
        adds = [*one["tools"], *(f"/{name}" for name in one["commands"])]
        adds += ["HTTP"] if one["answers_http"] else []
        notes = [one["reason"], *one["faults"], "adds " + ", ".join(adds) if adds else ""]
        for note in filter(None, notes):
            click.echo(f"{'':16} {note}")


def _describe_plugins(data_dir: Path) -> list[dict[str, Any]]:
    """Return all plugins of a data directory, one object each.

    ``state`` is ``on``, ``off`` (no config enables it) or ``failed``, with the ``reason``.
    ``faults`` lists errors in its settings, per config.
    """
    from ..db.sqlite_store import SqliteStore
    from ..plugins.builtin import BUILT_IN_PLUGINS
    from ..plugins.finding import BUILT_IN, find_plugins, from_classes
    from ..plugins.registry import Plugins

    configs = ConfigFiles(data_dir)
    everything = [*find_plugins(data_dir), *from_classes(BUILT_IN_PLUGINS, BUILT_IN)]
    # Nothing is started, so the database is never opened.
    plugins = Plugins(everything, data_dir=data_dir, store=SqliteStore(data_dir / "unused.db"))
    wanted = configs.list_configs()
    plugins.load(wanted)
    faults = plugins.find_settings_faults(wanted)
    try:
        return [_describe(one, faults.get(one.name, [])) for one in plugins.list_records()]
    finally:
        plugins.close()


def iter_plugin_findings(data_dir: Path) -> Iterator[Finding]:
    """Yield the findings of ``doctor`` about plugins that are not built in."""
    from ..plugins.finding import BUILT_IN

    if not (data_dir / "configs").is_dir():
        return
    for one in _describe_plugins(data_dir):
        what, faults = f"plugin {one['name']}", "; ".join(one["faults"])
        if one["state"] == "failed":
            remedy = "correct it, or disable it in [plugins]"
            yield Finding(what, "fail", one["reason"], remedy)
        elif faults:
            yield Finding(what, "fail", faults, "correct its table in [plugins]")
        elif one["source"] != BUILT_IN:
            yield Finding(what, "ok" if one["state"] == "on" else "off", one["where"])


def _describe(record: PluginRecord, faults: list[str]) -> dict[str, Any]:
    loaded = record.plugin is not None
    return {
        "name": record.name,
        "state": "on" if loaded else "failed" if record.reason else "off",
        "source": record.found.source,
        "where": record.found.where,
        "reason": record.reason,
        "faults": faults,
        "tools": [tool.name for tool in record.tools] if loaded else [],
        "commands": [command.name for command in record.commands] if loaded else [],
        "answers_http": loaded and record.blueprint is not None,
    }


def _create_plugin(data_dir: Path, name: str) -> Path:
    """Write a plugin with its README and its test, and return its folder.

    :raises PluginError: if the name is invalid or already used.
    """
    from ..plugins.context import PluginError
    from ..plugins.finding import find_name_fault

    fault = find_name_fault(name)
    if fault:
        raise PluginError(f"{name}: {fault}")
    folder = data_dir / "plugins" / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise PluginError(f"{folder} already exists") from None
    values = {
        "NAME": name,
        "IDENTIFIER": name.replace("-", "_"),
        "UNDERLINE": "=" * len(name),
        "FOLDER": str(folder),
    }
    for file in _FILES:
        text = (files("astrbot_api.plugins") / "template" / f"{file}.txt").read_text(
            encoding="utf-8"
        )
        (folder / file).write_text(Template(text).substitute(values), encoding="utf-8")
    return folder

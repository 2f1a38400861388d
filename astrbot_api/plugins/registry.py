"""The plugins of one application: loaded once, started, and selected per config."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import peewee

from ..agent.tools import Tool
from ..config.agents import AgentConfig, PluginSettings
from ..db.store import Store
from ..errors import SettingsError
from .commands import AskModel, Command
from .context import Host, PluginError, read_settings
from .finding import APPLICATION, BUILT_IN, FoundPlugin, forget_modules
from .hooks import ConfigPlugins, Implementation
from .hookspecs import HOOKS
from .loading import Loader, Methods

log = logging.getLogger(__name__)


@dataclass(slots=True)
class PluginRecord:
    """One plugin and its status. ``reason`` says why it could not be loaded."""

    found: FoundPlugin
    plugin: object | None = None
    reason: str = ""
    started: bool = False
    tools: tuple[Tool, ...] = ()
    commands: tuple[Command, ...] = ()
    #: Its ``flask.Blueprint``, or None if it has no HTTP routes.
    blueprint: Any = None
    implementations: Methods = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.found.name


class Plugins:
    """Loads the plugins that configs enable.

    :param found: Plugins by priority. The first plugin, tool or command of a name wins.
    :param check_room: Checks the quota of a key, in a transaction.
    :param complete: Whether these are all plugins. Unknown names in configs are then logged.
    """

    def __init__(
        self,
        found: Sequence[FoundPlugin],
        *,
        data_dir: Path,
        store: Store,
        check_room: Callable[[peewee.Database, str | None], None] = lambda db, payer: None,
        complete: bool = True,
    ) -> None:
        self._check_room = check_room
        self._complete = complete
        self._data_dir = data_dir
        self._store = store
        self._lock = threading.Lock()
        self._loader = Loader()
        self._records: dict[str, PluginRecord] = {}
        self._refused: list[PluginRecord] = []
        #: By path, since the configs of an upstream AstrBot share the plugins of their file.
        self._chosen: dict[str, tuple[PluginSettings, ConfigPlugins]] = {}
        self._closed = False
        for one in found:
            self._enter(PluginRecord(one))

    def load(self, configs: Iterable[AgentConfig]) -> None:
        """Import the plugins that these configs enable. Invalid plugins are skipped."""
        configs = list(configs)
        for record in self._records.values():
            wanted = any(_is_on(record, config) for config in configs)
            if wanted and record.plugin is None and not record.reason:
                self._load(record)

    def start(self) -> None:
        """Call ``startup`` of every loaded plugin that was not started."""
        for record in self._records.values():
            if record.plugin is None or record.started:
                continue
            host = Host(record.name, self._data_dir, self._store, self._check_room)
            try:
                self._loader.call(record.plugin, "startup", host=host)
                record.started = True
            except (Exception, SystemExit) as error:
                self._leave_out(record, error)

    def choose(self, config: AgentConfig) -> ConfigPlugins:
        """Return the plugins of a config's current version.

        Plugins that the config newly enables are loaded.
        """
        known = self._chosen.get(config.path)
        if known is not None and known[0] is config.plugins:
            return known[1]
        with self._lock:
            known = self._chosen.get(config.path)
            if known is not None and known[0] is config.plugins:
                return known[1]
            if not self._closed:
                self.load([config])
                self.start()
            if self._complete:
                _warn_of_strangers(config, self._records)
            chosen = self._choose(config, known[1] if known else ConfigPlugins())
            self._chosen[config.path] = config.plugins, chosen
            return chosen

    def find_record(self, name: str) -> PluginRecord | None:
        """Return the plugin of this name, loaded or not."""
        return self._records.get(name)

    def list_records(self) -> list[PluginRecord]:
        """Return every plugin that was found, loaded or not."""
        return [*self._records.values(), *self._refused]

    def find_settings_faults(self, configs: Iterable[AgentConfig]) -> dict[str, list[str]]:
        """Return faults in the settings of the loaded plugins, by plugin."""
        faults: dict[str, list[str]] = {}
        for config in configs:
            for name, fault in self._choose(config, ConfigPlugins()).faults.items():
                faults.setdefault(name, []).append(fault)
        return faults

    def close(self) -> None:
        """Call ``shutdown`` of every started plugin."""
        with self._lock:
            self._closed = True
            for record in self._records.values():
                if record.started:
                    try:
                        self._loader.call(record.plugin, "shutdown")
                    except (Exception, SystemExit):
                        log.exception("plugin %s failed in shutdown", record.name)
                forget_modules(record.plugin)
                record.started = False

    def _enter(self, record: PluginRecord) -> None:
        taken = self._records.get(record.name)
        if taken is None:
            self._records[record.name] = record
            return
        record.reason = f"there is a plugin of this name already: {taken.found.where}"
        if record.found.source == APPLICATION:
            record.reason += "; set another `name` in one of the classes"
        log.error("plugin %s (%s) is disabled: %s", record.name, record.found.where, record.reason)
        self._refused.append(record)

    def _load(self, record: PluginRecord) -> None:
        try:
            plugin = self._loader.load(record.found)
            record.plugin = plugin
            record.implementations = self._loader.list_implementations(plugin)
            record.tools = self._loader.collect(plugin, "register_tools", Tool)
            record.commands = self._loader.collect(plugin, "register_commands", Command)
            record.blueprint = self._loader.find_blueprint(plugin)
        # A module that exits at import must not exit the server.
        except (Exception, SystemExit) as error:
            self._leave_out(record, error)

    def _leave_out(self, record: PluginRecord, error: BaseException) -> None:
        foreign = not isinstance(error, PluginError)
        reason = f"{type(error).__name__}: {error}" if foreign else str(error)
        # A terminal shows neither half of an emoji nor, in a table, several lines.
        record.reason = " ".join(reason.encode(errors="replace").decode().split())
        log.error(
            "plugin %s (%s) is disabled: %s", record.name, record.found.where, record.reason,
            exc_info=error if foreign else None,
        )  # fmt: skip
        record.plugin = None

    def _choose(self, config: AgentConfig, before: ConfigPlugins) -> ConfigPlugins:
        settings: dict[str, Mapping[str, Any]] = {}
        faults: dict[str, str] = {}
        for record in self._records.values():
            if record.plugin is None or not _is_on(record, config):
                continue
            try:
                settings[record.name] = read_settings(record.plugin, record.name, config)
            except SettingsError as error:
                faults[record.name] = str(error)
                if record.name in before.settings:
                    settings[record.name] = before.settings[record.name]
                kept = "the last good settings stay" if record.name in settings else "it is off"
                log.error("%s (%s)", error, kept)
        on = [(one, settings[one.name]) for one in self._records.values() if one.name in settings]
        return ConfigPlugins(
            tools=_gather_tools(on),
            commands=_gather_commands(on),
            implementations={hook: _gather_hook(on, hook) for hook in HOOKS},
            settings=settings,
            faults=faults,
        )


_On = Sequence[tuple[PluginRecord, Mapping[str, Any]]]


def _is_on(record: PluginRecord, config: AgentConfig) -> bool:
    return record.found.source == BUILT_IN or config.plugins.enables(record.name)


def _warn_of_strangers(config: AgentConfig, records: Mapping[str, PluginRecord]) -> None:
    """Log unknown plugins of a config, usually typing errors."""
    named = [one for one in config.plugins.enabled if not set(one) & set("*?[")]
    for name in dict.fromkeys((*named, *config.plugins.tables)):
        if name not in records:
            log.warning("%s: plugins.%s: there is no plugin of this name", config.path, name)


def _gather_tools(on: _On) -> tuple[Tool, ...]:
    tools: dict[str, Tool] = {}
    for record, settings in on:
        for tool in record.tools:
            if tool.name in tools:
                log.warning("plugin %s: the name of its tool %s is taken", record.name, tool.name)
                continue
            tools[tool.name] = tool.with_settings(settings)
    return tuple(tools.values())


def _gather_commands(on: _On) -> Mapping[str, Command]:
    """Return the commands by name. Built-in commands come first, but others override them."""
    chosen: dict[str, Command] = {}
    for record, settings in on:
        for command in record.commands:
            if command.name in chosen:
                log.warning("plugin %s: the name /%s is taken", record.name, command.name)
                continue
            chosen[command.name] = replace(command, run=_bind_command(command, settings))
    built_in = [
        one.name for record, _ in on if record.found.source == BUILT_IN for one in record.commands
    ]
    return {name: chosen[name] for name in dict.fromkeys((*built_in, *chosen))}


def _bind_command(command: Command, settings: Mapping[str, Any]) -> Callable[..., str | AskModel]:
    return lambda context: command.run(replace(context, settings=settings))


def _gather_hook(on: _On, hook: str) -> list[Implementation]:
    found = [
        (order, Implementation(record.name, hook, function, names, settings))
        for record, settings in on
        if hook in record.implementations
        for function, names, order in [record.implementations[hook]]
    ]
    return [one for _, one in sorted(found, key=lambda entry: entry[0])]

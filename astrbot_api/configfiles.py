"""The configs: ``configs/*.toml`` of the data directory, one agent each.

A config says which model answers, what it is told and which tools it has.
Its id is the file's stem. A changed file is picked up by the next turn; a
bad one gives one clear line in the log, and the last good one stays.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import marshmallow as ma

from .errors import ApiError, SettingsError
from .mcpservers import MCP_FIELD, McpServerConfig, make_servers

log = logging.getLogger(__name__)

#: Id of the config that is used where none was chosen.
DEFAULT_CONFIG_ID = "default"

#: How long a look at the folder holds, in seconds.
_RECHECK_S = 1.0

#: Keys of ``[plugins]`` that are no plugin's table.
RESERVED_PLUGIN_NAMES = ("enabled", "disabled", "hook_timeout_s")

_DEFAULT_TOML = """\
# The default config. A change is picked up by the next turn; no restart.
name = "default"

[provider]
# "auto": ASTRBOT_MODEL_URL if set, else OpenAI if OPENAI_API_KEY is set, else an
# Ollama on this machine, else the embedded demonstration model.
# To name a model of your own, put its two lines in the place of this one:
#   type = "openai"
#   base_url = "http://127.0.0.1:11434/v1"
# and, where they are needed, model = "…" and api_key_env = "NAME_OF_A_VARIABLE".
type = "auto"

[agent]
system_prompt = "You are a helpful AI assistant."
history_tokens = 8000
"""


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One ``[provider]`` (or ``[providers.ID]``) table.

    ``type`` is ``openai``, ``local``, ``mock`` or ``auto``. ``models``, when
    not empty, lists what ``selected_model`` may name. ``modalities``, of
    ``text``, ``image`` and ``audio``, say what the model takes in. ``extra`` goes into
    each request body as it stands (``temperature``, ``max_tokens``, …).
    """

    id: str
    type: str = "auto"
    base_url: str = ""
    model: str = ""
    api_key: str = field(default="", repr=False)
    api_key_env: str = ""
    models: tuple[str, ...] = ()
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 120.0
    max_retries: int = 2
    modalities: tuple[str, ...] = ("text",)
    gguf: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def resolve_api_key(self) -> str:
        """Return the endpoint's key: from the file, or from the variable it names.

        ``OPENAI_API_KEY`` is taken unasked for OpenAI's own host alone: no
        other endpoint is sent that key unless the file says so.
        """
        if self.api_key or self.api_key_env:
            return self.api_key or os.environ.get(self.api_key_env, "")
        if urlsplit(self.base_url).hostname == "api.openai.com":
            return os.environ.get("OPENAI_API_KEY", "")
        return ""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The ``[agent]`` table.

    ``history`` says what becomes of turns beyond ``history_tokens``: ``drop``
    leaves them out, ``summarise`` has the model sum them up once.
    """

    system_prompt: str = "You are a helpful assistant."
    max_steps: int = 10
    history_tokens: int = 8000
    history: str = "drop"
    show_reasoning: bool = True
    titles: bool = True
    tool_timeout_s: float = 60.0
    tool_output_chars: int = 20_000
    file_tokens: int = 8000


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """The ``[tools]`` table: patterns of tool names; ``deny`` wins."""

    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """The ``[plugins]`` table: patterns of names, and a table for each plugin.

    ``disabled`` wins over ``enabled``. The built-in plugins are always on.
    """

    enabled: tuple[str, ...] = ("*",)
    disabled: tuple[str, ...] = ()
    hook_timeout_s: float = 10.0
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)

    def enables(self, name: str) -> bool:
        """Tell whether the plugin of this name is on."""
        return any(fnmatch.fnmatchcase(name, one) for one in self.enabled) and not any(
            fnmatch.fnmatchcase(name, one) for one in self.disabled
        )


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """One file of ``configs/``.

    ``providers`` holds every provider that a turn may select, by id; the
    one of ``[provider]`` is ``provider``. ``mcp`` holds the MCP servers that
    are enabled, by name.
    """

    id: str
    name: str
    path: str
    provider: ProviderConfig
    providers: Mapping[str, ProviderConfig]
    agent: AgentSettings = AgentSettings()
    tools: ToolSettings = ToolSettings()
    plugins: PluginSettings = PluginSettings()
    mcp: Mapping[str, McpServerConfig] = field(default_factory=dict, hash=False)


class _Strict(ma.Schema):
    class Meta:
        unknown = ma.RAISE


class _ProviderSchema(_Strict):
    id = ma.fields.String(validate=ma.validate.Length(1, 200))
    type = ma.fields.String(validate=ma.validate.OneOf(["auto", "openai", "local", "mock"]))
    base_url = ma.fields.Url(schemes={"http", "https"}, require_tld=False)
    model = ma.fields.String()
    api_key = ma.fields.String()
    api_key_env = ma.fields.String()
    models = ma.fields.List(ma.fields.String())
    connect_timeout_s = ma.fields.Float(validate=ma.validate.Range(0.1, 300))
    read_timeout_s = ma.fields.Float(validate=ma.validate.Range(0.1, 3600))
    max_retries = ma.fields.Integer(validate=ma.validate.Range(0, 10))
    modalities = ma.fields.List(
        ma.fields.String(validate=ma.validate.OneOf(["text", "image", "audio"]))
    )
    gguf = ma.fields.String()
    extra = ma.fields.Dict(keys=ma.fields.String())


class _AgentSchema(_Strict):
    system_prompt = ma.fields.String()
    max_steps = ma.fields.Integer(validate=ma.validate.Range(1, 100))
    history_tokens = ma.fields.Integer(validate=ma.validate.Range(0, 10_000_000))
    history = ma.fields.String(validate=ma.validate.OneOf(["drop", "summarise"]))
    show_reasoning = ma.fields.Boolean()
    titles = ma.fields.Boolean()
    tool_timeout_s = ma.fields.Float(validate=ma.validate.Range(0.1, 3600))
    tool_output_chars = ma.fields.Integer(validate=ma.validate.Range(100, 10_000_000))
    file_tokens = ma.fields.Integer(validate=ma.validate.Range(0, 10_000_000))


class _ToolsSchema(_Strict):
    allow = ma.fields.List(ma.fields.String())
    deny = ma.fields.List(ma.fields.String())


class _PluginsSchema(ma.Schema):
    class Meta:
        unknown = ma.INCLUDE

    enabled = ma.fields.List(ma.fields.String())
    disabled = ma.fields.List(ma.fields.String())
    hook_timeout_s = ma.fields.Float(validate=ma.validate.Range(0.1, 600))

    @ma.validates_schema
    def _check_tables(self, data: dict[str, Any], **options: Any) -> None:
        for key, value in data.items():
            if key not in RESERVED_PLUGIN_NAMES and not isinstance(value, dict):
                raise ma.ValidationError({key: ["Must be a table: the settings of a plugin."]})


class _ConfigSchema(_Strict):
    name = ma.fields.String(validate=ma.validate.Length(1, 200))
    provider = ma.fields.Nested(_ProviderSchema)
    providers = ma.fields.Dict(keys=ma.fields.String(), values=ma.fields.Nested(_ProviderSchema))
    agent = ma.fields.Nested(_AgentSchema)
    tools = ma.fields.Nested(_ToolsSchema)
    plugins = ma.fields.Nested(_PluginsSchema)
    mcp = MCP_FIELD


def read_config(path: Path, shown_path: str) -> AgentConfig:
    """Read and check one config file.

    :param path: The file.
    :param shown_path: How the file is named to people and clients.
    :raises SettingsError: One line: file, key, what is wrong.
    """
    try:
        with path.open("rb") as file:
            data = tomllib.load(file)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{shown_path}: {error}") from error
    try:
        loaded: dict[str, Any] = _ConfigSchema().load(data)
    except ma.ValidationError as error:
        where, what = find_first_error(error.messages)
        raise SettingsError(f"{shown_path}: {where}: {what}") from error
    own = loaded.get("provider", {})
    provider = _provider(own.get("id") or own.get("type") or "auto", own)
    if provider.type == "openai" and not provider.base_url:
        raise SettingsError(f"{shown_path}: provider.base_url: required for type openai")
    providers = {provider.id: provider}
    for name, table in loaded.get("providers", {}).items():
        other = _provider(table.get("id") or name, table)
        if other.type == "openai" and not other.base_url:
            raise SettingsError(
                f"{shown_path}: providers.{name}.base_url: required for type openai"
            )
        providers[other.id] = other
    tools = {key: tuple(value) for key, value in loaded.get("tools", {}).items()}
    return AgentConfig(
        id=path.stem,
        name=loaded.get("name", path.stem),
        path=shown_path,
        provider=provider,
        providers=providers,
        agent=AgentSettings(**loaded.get("agent", {})),
        tools=ToolSettings(**tools),
        plugins=_plugins(loaded.get("plugins", {})),
        mcp=make_servers(loaded.get("mcp", {})),
    )


def _plugins(table: Mapping[str, Any]) -> PluginSettings:
    own: dict[str, Any] = {
        key: value for key, value in table.items() if key in RESERVED_PLUGIN_NAMES
    }
    tables = {key: value for key, value in table.items() if key not in own}
    for key in {"enabled", "disabled"} & own.keys():
        own[key] = tuple(own[key])
    return PluginSettings(**own, tables=tables)


def _provider(provider_id: str, table: Mapping[str, Any]) -> ProviderConfig:
    lists = {key: tuple(table[key]) for key in ("models", "modalities") if key in table}
    values = {**table, **lists, "id": provider_id}
    if "base_url" in values:
        values["base_url"] = values["base_url"].rstrip("/")
    return ProviderConfig(**values)


def find_first_error(messages: Any, path: str = "") -> tuple[str, str]:
    """Return the dotted place and the text of the first fault that was found."""
    if isinstance(messages, Mapping):
        key, inner = next(iter(messages.items()))
        key = "" if key == "value" else str(key)
        return find_first_error(inner, f"{path}.{key}" if path and key else path or key)
    if isinstance(messages, list) and messages:
        return path or "file", str(messages[0])
    return path or "file", str(messages)


def _iter_stamps(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    """Yield each config file with what changes when it is written."""
    for path in folder.glob("*.toml"):
        try:
            stat = path.stat()
        except FileNotFoundError:  # an editor renames its files
            continue
        yield path, (stat.st_mtime_ns, stat.st_size)


class ConfigFiles:
    """The configs of one data directory, kept up to date.

    :param data_dir: Holds ``configs/``; both are made when missing, with a
        ``default.toml`` to start from.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._folder = data_dir / "configs"
        self._lock = threading.Lock()
        self._seen: dict[Path, tuple[int, int]] = {}
        self._configs: dict[str, AgentConfig] = {}
        self._checked_at = float("-inf")

    def create_default(self) -> Path:
        """Write ``configs/default.toml`` unless it is there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{DEFAULT_CONFIG_ID}.toml"
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(_DEFAULT_TOML)
        except FileExistsError:
            pass
        return path

    def load_all(self) -> None:
        """Read every file now and refuse a bad one, for the start of the server.

        :raises SettingsError: for the first file that is wrong.
        """
        self.create_default()
        for path in sorted(self._folder.glob("*.toml")):
            read_config(path, self._shown(path))
        self._refresh(force=True)

    def list_configs(self) -> list[AgentConfig]:
        """Return every config, the default one last."""
        self._refresh()
        return sorted(self._configs.values(), key=lambda one: (one.id == DEFAULT_CONFIG_ID, one.id))

    def find_config(self, config_id: str) -> AgentConfig | None:
        """Return the config of this id, or None."""
        self._refresh()
        return self._configs.get(config_id)

    def get_default(self) -> AgentConfig:
        """Return the default config.

        :raises ApiError: ``configuration_error`` when its file is unusable.
        """
        config = self.find_config(DEFAULT_CONFIG_ID)
        if config is None:
            raise ApiError(
                "configuration_error",
                "The default config is missing or wrong; its fault is in the server's log.",
            )
        return config

    def choose_config(self, config_id: str, config_name: str) -> AgentConfig | None:
        """Resolve what a caller asked for; the id wins.

        :returns: None when both are blank.
        :raises ApiError: ``config_not_found``, or ``config_ambiguous`` for a
            name that two configs have.
        """
        if config_id:
            config = self.find_config(config_id)
            if config is None:
                raise ApiError("config_not_found", f"config_id not found: {config_id}")
            return config
        if not config_name:
            return None
        named = [one for one in self.list_configs() if one.name == config_name]
        if not named:
            raise ApiError("config_not_found", f"config_name not found: {config_name}")
        if len(named) > 1:
            raise ApiError(
                "config_ambiguous",
                f"config_name is ambiguous, please use config_id: {config_name}",
            )
        return named[0]

    def _shown(self, path: Path) -> str:
        return path.relative_to(self._data_dir).as_posix()

    def _refresh(self, force: bool = False) -> None:
        """Look for changed files, at most once a second."""
        now = time.monotonic()
        if not force and now - self._checked_at < _RECHECK_S:
            return
        with self._lock:
            self._checked_at = now
            found = dict(_iter_stamps(self._folder))
            for path in self._seen.keys() - found.keys():
                self._configs.pop(path.stem, None)
            for path, stamp in found.items():
                if self._seen.get(path) != stamp:
                    self._reload(path)
            self._seen = found

    def _reload(self, path: Path) -> None:
        try:
            self._configs[path.stem] = read_config(path, self._shown(path))
        except SettingsError as error:
            kept = "the last good one stays" if path.stem in self._configs else "it is left out"
            log.error("%s (%s)", error, kept)

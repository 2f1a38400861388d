"""Agent configs: their values, and the validation of their files."""

from __future__ import annotations

import fnmatch
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import marshmallow as ma

from ..errors import SettingsError
from ..runtime.addresses import PROXY_SCHEMES
from .mcp import MCP_FIELD, McpServerConfig, make_servers
from .transcription import TranscriptionConfig, TranscriptionSchema, make_transcription
from .upstream import CONFIG_SEPARATOR, UpstreamConfig, UpstreamSchema, make_upstream
from .widget import WidgetConfig, WidgetSchema, make_widget

#: Keys of ``[plugins]`` that are not the table of a plugin.
RESERVED_PLUGIN_NAMES = ("enabled", "disabled", "hook_timeout_s")


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One ``[provider]`` (or ``[providers.ID]``) table.

    ``type`` is ``openai``, ``local``, ``mock`` or ``auto``. ``models`` lists the allowed values
    of ``selected_model``; empty allows all. ``modalities`` lists the model's inputs: ``text``,
    ``image`` and ``audio``. ``extra`` is added to each request body (``temperature``,
    ``max_tokens``, …). ``fallback`` lists the ids of providers to use if this one fails.
    ``proxy`` overrides the environment's proxy; ``""`` means no proxy.
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
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    fallback: tuple[str, ...] = ()
    proxy: str | None = field(default=None, repr=False)
    strict_roles: bool = False
    reasoning_tags: tuple[str, ...] | None = None
    retry_limit_s: float = 120.0
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def resolve_api_keys(self) -> tuple[str, ...]:
        """Return all keys, which are used in rotation. See :meth:`resolve_api_key`."""
        return tuple(filter(None, (self.resolve_api_key(), *self.api_keys)))

    def resolve_api_key(self) -> str:
        """Return the endpoint's key from the file, or from the variable in ``api_key_env``.

        The default ``OPENAI_API_KEY`` applies only to OpenAI's own host. Other endpoints get that
        key only if the file names the variable.
        """
        if self.api_key or self.api_key_env or self.api_keys:
            return self.api_key or os.environ.get(self.api_key_env, "")
        if urlsplit(self.base_url).hostname == "api.openai.com":
            return os.environ.get("OPENAI_API_KEY", "")
        return ""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The ``[agent]`` table.

    ``history`` is the handling of turns beyond ``history_tokens``: ``drop`` omits them,
    ``summarise`` lets the model summarise them once.
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
    video_frames: int = 0


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """The ``[tools]`` table.

    ``allow`` and ``deny`` are patterns of tool names; ``deny`` takes precedence. A person must
    approve each call of a tool in ``approve``. At most ``max_tools`` are offered to the model.
    The other limits apply per turn.
    """

    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    approve: tuple[str, ...] = ()
    max_tools: int = 128
    max_calls: int = 200
    max_seconds: float = 1800.0
    max_output_chars: int = 500_000
    max_repeats: int = 5


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """The ``[plugins]`` table: patterns of names, and a table for each plugin.

    ``disabled`` takes precedence. The built-in plugins are always on.
    """

    enabled: tuple[str, ...] = ("*",)
    disabled: tuple[str, ...] = ()
    hook_timeout_s: float = 10.0
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)

    def enables(self, name: str) -> bool:
        """Return whether the plugin with this name is on."""
        return any(fnmatch.fnmatchcase(name, one) for one in self.enabled) and not any(
            fnmatch.fnmatchcase(name, one) for one in self.disabled
        )


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """One file of ``configs/``.

    ``providers`` contains every provider that a turn may select, by id, including
    ``provider``, which is the one of ``[provider]``. ``mcp`` contains the enabled MCP servers by
    name. ``upstream`` is an AstrBot that answers instead of a model. ``transcription`` converts
    recordings to text. ``widget`` allows chat without a key on web pages.
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
    upstream: UpstreamConfig | None = None
    transcription: TranscriptionConfig | None = None
    widget: WidgetConfig | None = None


class _Strict(ma.Schema):
    class Meta:
        unknown = ma.RAISE


def check_proxy(value: str) -> None:
    """:raises marshmallow.ValidationError: if the value is not the URL of a proxy."""
    if value and urlsplit(value).scheme not in PROXY_SCHEMES:
        raise ma.ValidationError("Must begin with http://, https://, socks5:// or socks5h://.")


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
    api_keys = ma.fields.List(ma.fields.String(validate=ma.validate.Length(1, 10_000)))
    fallback = ma.fields.List(ma.fields.String())
    proxy = ma.fields.String(validate=check_proxy)
    strict_roles = ma.fields.Boolean()
    reasoning_tags = ma.fields.List(
        ma.fields.String(validate=ma.validate.Regexp(r"[A-Za-z][\w:|-]{0,63}\Z"))
    )
    retry_limit_s = ma.fields.Float(validate=ma.validate.Range(0, 3600))
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
    video_frames = ma.fields.Integer(validate=ma.validate.Range(0, 32))


class _ToolsSchema(_Strict):
    allow = ma.fields.List(ma.fields.String())
    deny = ma.fields.List(ma.fields.String())
    approve = ma.fields.List(ma.fields.String())
    max_tools = ma.fields.Integer(validate=ma.validate.Range(0, 10_000))
    max_calls = ma.fields.Integer(validate=ma.validate.Range(1, 10_000))
    max_seconds = ma.fields.Float(validate=ma.validate.Range(0.1, 86_400))
    max_output_chars = ma.fields.Integer(validate=ma.validate.Range(100, 100_000_000))
    max_repeats = ma.fields.Integer(validate=ma.validate.Range(1, 1000))


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
    upstream = ma.fields.Nested(UpstreamSchema)
    transcription = ma.fields.Nested(TranscriptionSchema)
    widget = ma.fields.Nested(WidgetSchema)

    @ma.validates_schema
    def _check_one_answers(self, data: dict[str, Any], **_: Any) -> None:
        if "upstream" in data and ("provider" in data or "providers" in data):
            raise ma.ValidationError(
                "an AstrBot answers instead of a model; remove [provider]", "upstream"
            )


def read_toml(path: Path, shown_path: str, *, optional: bool = False) -> dict[str, Any]:
    """Parse a TOML file. A byte order mark is skipped, since editors on Windows write it.

    :param optional: Whether a missing file is the same as an empty one.
    :raises SettingsError: with file and error, in one line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        if optional and isinstance(error, FileNotFoundError):
            return {}
        raise SettingsError(f"{shown_path}: {error}") from error


def read_config(path: Path, shown_path: str) -> AgentConfig:
    """Read and check one config file.

    :param path: The file.
    :param shown_path: The file's path in messages.
    :raises SettingsError: with file, key and error, in one line.
    """
    data = read_toml(path, shown_path)
    try:
        loaded: dict[str, Any] = _ConfigSchema().load(data)
    except ma.ValidationError as error:
        where, what = find_first_error(error.messages)
        raise SettingsError(f"{shown_path}: {where}: {what}") from error
    provider, providers = _read_providers(loaded, shown_path)
    tools: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in loaded.get("tools", {}).items()
    }
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
        upstream=make_upstream(loaded.get("upstream")),
        transcription=make_transcription(loaded.get("transcription")),
        widget=make_widget(loaded.get("widget")),
    )


def _read_providers(
    loaded: Mapping[str, Any], shown_path: str
) -> tuple[ProviderConfig, dict[str, ProviderConfig]]:
    """Return the provider of ``[provider]``, and all providers by id.

    :raises SettingsError: if a ``base_url`` is missing or a ``fallback`` is unknown.
    """
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
    for one in providers.values():
        for fallback in one.fallback:
            if fallback not in providers or fallback == one.id:
                known = ", ".join(sorted(providers.keys() - {one.id})) or "none"
                raise SettingsError(
                    f"{shown_path}: provider.fallback: no other provider has the id {fallback}; "
                    f"use one of: {known}"
                )
    return provider, providers


def choose_upstream_config(config: AgentConfig, other: str) -> AgentConfig | None:
    """Return a copy of a config that uses another config of its AstrBot.

    :param other: Id of the config at AstrBot, which is not checked here.
    :returns: None if the config has no upstream.
    """
    if config.upstream is None or not other:
        return None
    upstream = replace(config.upstream, config_id=other, config_name="")
    return replace(config, id=f"{config.id}{CONFIG_SEPARATOR}{other}", upstream=upstream)


def _plugins(table: Mapping[str, Any]) -> PluginSettings:
    own: dict[str, Any] = {
        key: value for key, value in table.items() if key in RESERVED_PLUGIN_NAMES
    }
    tables = {key: value for key, value in table.items() if key not in own}
    for key in {"enabled", "disabled"} & own.keys():
        own[key] = tuple(own[key])
    return PluginSettings(**own, tables=tables)


def _provider(provider_id: str, table: Mapping[str, Any]) -> ProviderConfig:
    lists = {key: tuple(one) for key, one in table.items() if isinstance(one, list)}
    values = {**table, **lists, "id": provider_id}
    if "base_url" in values:
        values["base_url"] = values["base_url"].strip().rstrip("/")
    return ProviderConfig(**values)


def find_first_error(messages: Any, path: str = "") -> tuple[str, str]:
    """Return the dotted path and the text of the first error."""
    if isinstance(messages, Mapping):
        key, inner = next(iter(messages.items()))
        key = "" if key == "value" else str(key)
        return find_first_error(inner, f"{path}.{key}" if path and key else path or key)
    if isinstance(messages, list) and messages:
        return path or "file", str(messages[0])
    return path or "file", str(messages)

"""Agent configs: their values, and the validation of their files."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import marshmallow as ma
from marshmallow.validate import Length, OneOf, Range, Regexp

from ..errors import SettingsError
from .mcp import McpServerConfig, McpServers
from .tables import (
    BaseUrl,
    KnownKeys,
    check_proxy,
    check_variable,
    find_first_error,
    key,
    make_schema,
    read_toml,
    resolve_key,
)
from .transcription import TranscriptionConfig
from .upstream import CONFIG_SEPARATOR, UpstreamConfig, UpstreamSchema
from .widget import WidgetConfig

#: Keys of ``[plugins]`` that are not the table of a plugin.
RESERVED_PLUGIN_NAMES = ("enabled", "disabled", "hook_timeout_s")


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One ``[provider]`` (or ``[providers.ID]``) table.

    ``type`` is ``openai``, ``local``, ``mock`` or ``auto``. ``api`` is ``chat`` (chat completions)
    or ``responses``. ``models`` lists the allowed values of ``selected_model``; empty allows all.
    ``modalities`` lists the model's inputs: ``text``, ``image`` and ``audio``. ``extra`` is added
    to each request body (``temperature``, ``max_tokens``, …), and ``headers`` to its headers.
    ``fallback`` lists the ids of providers to use if this one fails. ``proxy`` overrides the
    environment's proxy; ``""`` means no proxy.
    """

    id: str = key("", Length(1, 200))
    type: str = key("auto", OneOf(["auto", "openai", "local", "mock"]))
    base_url: str = key("", field=BaseUrl())
    api: str = key("chat", OneOf(["chat", "responses"]))
    model: str = ""
    api_key: str = key("", secret=True)
    api_key_env: str = key("", check_variable)
    models: tuple[str, ...] = ()
    connect_timeout_s: float = key(10.0, Range(0.1, 300))
    read_timeout_s: float = key(120.0, Range(0.1, 3600))
    max_retries: int = key(2, Range(0, 10))
    modalities: tuple[str, ...] = key(
        ("text",), each=ma.fields.String(validate=OneOf(["text", "image", "audio"]))
    )
    gguf: str = ""
    api_keys: tuple[str, ...] = key(
        (), each=ma.fields.String(validate=Length(1, 10_000)), secret=True
    )
    fallback: tuple[str, ...] = ()
    proxy: str | None = key(None, check_proxy, secret=True)
    strict_roles: bool = False
    reasoning_tags: tuple[str, ...] | None = key(
        None, each=ma.fields.String(validate=Regexp(r"[A-Za-z][\w:|-]{0,63}\Z"))
    )
    calls_in_text: bool = False
    retry_limit_s: float = key(120.0, Range(0, 3600))
    extra: Mapping[str, Any] = key({})
    headers: Mapping[str, str] = key({}, secret=True)

    def resolve_api_keys(self) -> tuple[str, ...]:
        """Return all keys, which are used in rotation. See :meth:`resolve_api_key`."""
        keys = (self.resolve_api_key(), *(one.strip() for one in self.api_keys))
        return tuple(filter(None, keys))

    def resolve_api_key(self) -> str:
        """Return the endpoint's key from the file, or from the variable in ``api_key_env``.

        The default ``OPENAI_API_KEY`` applies only to OpenAI's own host. Other endpoints get that
        key only if the file names the variable.
        """
        if self.api_key or self.api_key_env or self.api_keys:
            return resolve_key(self.api_key, self.api_key_env)
        if urlsplit(self.base_url).hostname == "api.openai.com":
            return resolve_key("", "OPENAI_API_KEY")
        return ""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The ``[agent]`` table.

    ``history`` is the handling of turns beyond ``history_tokens``: ``drop`` omits them,
    ``summarise`` lets the model summarise them once.
    """

    system_prompt: str = "You are a helpful assistant."
    max_steps: int = key(10, Range(1, 100))
    history_tokens: int = key(8000, Range(0, 10_000_000))
    history: str = key("drop", OneOf(["drop", "summarise"]))
    show_reasoning: bool = True
    titles: bool = True
    tool_timeout_s: float = key(60.0, Range(0.1, 3600))
    tool_output_chars: int = key(20_000, Range(100, 10_000_000))
    file_tokens: int = key(8000, Range(0, 10_000_000))
    video_frames: int = key(0, Range(0, 32))


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """The ``[tools]`` table.

    ``allow`` and ``deny`` are patterns of tool names; ``deny`` takes precedence. A person must
    approve each call of a tool in ``approve``. At most ``max_tools`` are offered to the model.
    The other limits apply per turn: ``max_seconds`` to the sum of the calls' durations,
    ``max_output_chars`` to the total length of the results, and ``max_repeats`` to the steps in
    which the same call may give the same result.
    """

    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    approve: tuple[str, ...] = ()
    max_tools: int = key(128, Range(0, 10_000))
    max_calls: int = key(200, Range(1, 10_000))
    max_seconds: float = key(1800.0, Range(0.1, 86_400))
    max_output_chars: int = key(500_000, Range(100, 100_000_000))
    max_repeats: int = key(5, Range(1, 1000))


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


class _PluginsSchema(ma.Schema):
    class Meta:
        unknown = ma.INCLUDE

    enabled = ma.fields.List(ma.fields.String())
    disabled = ma.fields.List(ma.fields.String())
    hook_timeout_s = ma.fields.Float(validate=Range(0.1, 600))

    @ma.validates_schema
    def _check_tables(self, data: dict[str, Any], **options: Any) -> None:
        for name, value in data.items():
            if name not in RESERVED_PLUGIN_NAMES and not isinstance(value, dict):
                raise ma.ValidationError({name: ["Must be a table: the settings of a plugin."]})

    @ma.post_load
    def _make(self, data: dict[str, Any], **options: Any) -> PluginSettings:
        own: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in data.items()
            if name in RESERVED_PLUGIN_NAMES
        }
        tables = {name: value for name, value in data.items() if name not in own}
        return PluginSettings(**own, tables=tables)


_Provider = make_schema(ProviderConfig)


class _ConfigSchema(KnownKeys):
    name = ma.fields.String(validate=Length(1, 200))
    provider = ma.fields.Nested(_Provider)
    providers = ma.fields.Dict(keys=ma.fields.String(), values=ma.fields.Nested(_Provider))
    agent = ma.fields.Nested(make_schema(AgentSettings))
    tools = ma.fields.Nested(make_schema(ToolSettings))
    plugins = ma.fields.Nested(_PluginsSchema)
    mcp = McpServers()
    upstream = ma.fields.Nested(UpstreamSchema)
    transcription = ma.fields.Nested(make_schema(TranscriptionConfig))
    widget = ma.fields.Nested(make_schema(WidgetConfig))

    @ma.validates_schema
    def _check_one_answers(self, data: dict[str, Any], **_: Any) -> None:
        if "upstream" in data and ("provider" in data or "providers" in data):
            raise ma.ValidationError(
                "an AstrBot answers instead of a model; remove [provider]", "upstream"
            )


def read_config(path: Path, shown_path: str) -> AgentConfig:
    """Read and check one config file.

    :param shown_path: The file's path in messages.
    :raises SettingsError: with file, key and error, in one line.
    """
    data = read_toml(path, shown_path)
    try:
        loaded: dict[str, Any] = _ConfigSchema().load(data)
    except ma.ValidationError as error:
        where, what = find_first_error(error.messages)
        raise SettingsError(f"{shown_path}: {where}: {what}") from error
    loaded["provider"], loaded["providers"] = _read_providers(loaded, shown_path)
    return AgentConfig(**{"id": path.stem, "name": path.stem, "path": shown_path, **loaded})


def _read_providers(
    loaded: Mapping[str, Any], shown_path: str
) -> tuple[ProviderConfig, dict[str, ProviderConfig]]:
    """Return the provider of ``[provider]``, and all providers by id.

    :raises SettingsError: if a ``base_url`` is missing, an id is used twice, or a ``fallback`` is
        unknown.
    """
    own = loaded.get("provider", ProviderConfig())
    provider = replace(own, id=own.id or own.type)
    providers = {provider.id: provider}
    tables = {"provider": provider}
    for name, other in loaded.get("providers", {}).items():
        other = tables[f"providers.{name}"] = replace(other, id=other.id or name)
        if other.id in providers:
            raise SettingsError(
                f"{shown_path}: providers.{name}: the id {other.id} is used twice; set another id"
            )
        providers[other.id] = other
    for where, one in tables.items():
        if one.type == "openai" and not one.base_url:
            raise SettingsError(f"{shown_path}: {where}.base_url: required for type openai")
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
    if config.upstream is None:
        return None
    upstream = replace(config.upstream, config_id=other, config_name="")
    return replace(config, id=f"{config.id}{CONFIG_SEPARATOR}{other}", upstream=upstream)

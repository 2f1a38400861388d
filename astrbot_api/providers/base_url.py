"""Base URLs of endpoints as users write them, and the lists of their models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

#: Paths of operations that users paste with the base URL.
_PASTED = re.compile(
    r"/(chat/completions|completions|responses|embeddings|models|messages)$", re.IGNORECASE
)

#: Path segments that show that the base URL already has a version.
_VERSION = re.compile(r"/(v\d+\w*|openai|deployments/[^/]+|compatible-mode)(/|$)", re.IGNORECASE)

#: Azure's path of models of all makers, which is no pasted operation.
_AZURE_MODELS = re.compile(r"\.azure\.com/models$", re.IGNORECASE)

_AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")


#: The path of OpenAI's Responses.
_RESPONSES = re.compile(r"/responses/?$", re.IGNORECASE)


def names_responses(base_url: str) -> bool:
    """Return whether a ``base_url`` is the full path of OpenAI's Responses."""
    return bool(_RESPONSES.search(re.split("[?#]", base_url.strip(), maxsplit=1)[0]))


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A base URL without the path of an operation: ``http://host:1/v1`` and a query."""

    address: str
    query: str = ""

    @classmethod
    def parse(cls, text: str) -> BaseUrl:
        """Parse a ``base_url``, without an operation's path, trailing slashes and fragment."""
        address, _, query = text.strip().partition("#")[0].partition("?")
        address = address.rstrip("/")
        while _PASTED.search(address) and not _AZURE_MODELS.search(address):
            address = _PASTED.sub("", address).rstrip("/")
        return cls(address, query)

    def join(self, path: str) -> str:
        """Return the URL of an operation."""
        return f"{self.address}{path}" + (f"?{self.query}" if self.query else "")

    def with_version(self) -> BaseUrl | None:
        """Return the base URL with ``/v1``, or None if it already has a version."""
        if _VERSION.search(urlsplit(self.address).path):
            return None
        return replace(self, address=f"{self.address}/v1")

    @property
    def host(self) -> str:
        return urlsplit(self.address).hostname or ""

    @property
    def is_azure(self) -> bool:
        """Whether the host is Azure, which takes the key in the ``api-key`` header."""
        # Called for each request: the substring test avoids most URL parsing.
        return ".azure.com" in self.address.lower() and self.host.endswith(_AZURE_HOSTS)


#: Names of models that cannot chat. Source: model lists of LM Studio, Ollama, vLLM, OpenAI,
#: SiliconFlow, New API.
_NO_CHAT = re.compile(
    r"embed|rerank|re-rank|whisper|tts|speech|\basr\b|transcri|dall-?e|moderation|stable-diffusion"
    r"|sdxl|\bflux|imagen|veo-|sora|bge-|gte-|\be5-|nomic|minilm|text-similarity|davinci-|babbage"
    r"|image|imagine|realtime|(?:^|[-/])clip|colbert|parler|kokoro|music|gpt-audio|nano-banana"
    r"|guard|\bocr\b|paddleocr|cogv|\bwanx?[-\d]|kolors|hidream|ideogram|recraft|midjourney|seedream"
    r"|seedance|sensevoice|cosyvoice|paraformer|(?:^|[-/])(?:mj|suno|luma|kling|vidu|runway|hailuo|veo\d?"
    r"|lyria|sd3|m3e|aqa)\b|(?:^|/)(?:mj|suno|luma|kling)_|mpnet|paraphrase",
    re.IGNORECASE,
)

#: Fields of a model with what it can do: Cohere, New API, Gemini.
_ABILITIES = ("endpoints", "supported_endpoint_types", "supportedGenerationMethods")

#: Abilities of models that can chat.
_CHAT = re.compile(r"chat|text|openai|anthropic|gemini|response|generateContent", re.IGNORECASE)


def choose_model(listed: object) -> str:
    """Return the first model of a list that can chat, or an empty string if the list is empty.

    If no model looks like a chat model, return the first model.

    :param listed: JSON of ``GET /models``, in any of the shapes in use.
    """
    names = list_models(listed)
    return next((name for name in names if not _NO_CHAT.search(name)), names[0] if names else "")


def list_models(listed: object) -> list[str]:
    """Return the names of a model list: of those that may chat, or else of all."""
    if isinstance(listed, dict):
        listed = listed.get("data") or listed.get("models")
    able: dict[str, bool] = {}
    for one in listed if isinstance(listed, list) else ():
        entry = one if isinstance(one, dict) else {"id": one}
        name = next((entry[key] for key in ("id", "name", "model") if entry.get(key)), None)
        if isinstance(name, str):
            able[name] = _may_chat(entry)
    return [name for name in able if able[name]] or list(able)


def _may_chat(entry: Mapping[str, Any]) -> bool:
    """Return whether what a list says of a model allows that it can chat."""
    kinds = f"{entry.get('type') or ''} {entry.get('task') or ''}"
    if _NO_CHAT.search(kinds.replace("image-text-to-text", "")):
        return False
    capabilities, form = entry.get("capabilities"), entry.get("architecture")
    if isinstance(capabilities, Mapping) and capabilities.get("completion_chat") is False:
        return False  # Mistral
    outputs = form.get("output_modalities") if isinstance(form, Mapping) else None  # OpenRouter
    named = [one for one in (outputs, *map(entry.get, _ABILITIES)) if one and isinstance(one, list)]
    return all(_CHAT.search(" ".join(map(str, one))) for one in named)

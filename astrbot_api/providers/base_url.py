"""Addresses of endpoints as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

#: What is pasted along with an address.
_PASTED = re.compile(
    r"/(chat/completions|completions|responses|embeddings|models|messages)$", re.IGNORECASE
)

#: A version in a path: then it is whole.
_VERSION = re.compile(r"/(v\d+\w*|openai|deployments/[^/]+|compatible-mode)(/|$)", re.IGNORECASE)

_AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com")


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """An address of the API without its operation: ``http://host:1/v1`` and a query."""

    address: str
    query: str = ""

    @classmethod
    def parse(cls, text: str) -> BaseUrl:
        """Understand a ``base_url``: with the whole path, a query or slashes at its end."""
        address, _, query = text.strip().partition("#")[0].partition("?")
        address = address.rstrip("/")
        while _PASTED.search(address):
            address = _PASTED.sub("", address).rstrip("/")
        return cls(address, query)

    def join(self, path: str) -> str:
        """Return the address of an operation."""
        return f"{self.address}{path}" + (f"?{self.query}" if self.query else "")

    def with_version(self) -> BaseUrl | None:
        """Return the address with ``/v1``; None: it has a version already."""
        if _VERSION.search(urlsplit(self.address).path):
            return None
        return replace(self, address=f"{self.address}/v1")

    @property
    def host(self) -> str:
        """Its host's name."""
        return urlsplit(self.address).hostname or ""

    @property
    def is_azure(self) -> bool:
        """Whether it is Azure's, whose keys go in a header of their own."""
        # Asked for at each request: its host is read where it may be.
        return ".azure.com" in self.address.lower() and self.host.endswith(_AZURE_HOSTS)


#: Models of a list that do not chat. Source: the lists of LM Studio, Ollama, vLLM, OpenAI.
_NO_CHAT = re.compile(
    r"embed|rerank|re-rank|whisper|tts|speech|\basr\b|transcri|dall-?e|moderation|stable-diffusion"
    r"|sdxl|\bflux|imagen|veo-|sora|bge-|gte-|\be5-|nomic|minilm|text-similarity|davinci-|babbage"
    r"|gpt-image|realtime|(?:^|[-/])clip|colbert|voxtral-tts|parler|kokoro|musicgen",
    re.IGNORECASE,
)


def choose_model(listed: object) -> str:
    """Return the first model of an endpoint's list that can chat; empty: there is none.

    :param listed: The JSON of ``GET /models``, in any of the shapes in use.
    """
    names = list_models(listed)
    return next((name for name in names if not _NO_CHAT.search(name)), names[0] if names else "")


def list_models(listed: object) -> list[str]:
    """Return the names of a list of models, without those whose type is not to chat."""
    if isinstance(listed, dict):
        listed = listed.get("data") or listed.get("models")
    names: list[str] = []
    for one in listed if isinstance(listed, list) else ():
        entry = one if isinstance(one, dict) else {"id": one}
        name = next((entry[key] for key in ("id", "name", "model") if entry.get(key)), None)
        kinds = f"{entry.get('type') or ''} {entry.get('task') or ''}"
        if isinstance(name, str) and not _NO_CHAT.search(kinds):
            names.append(name)
    return names

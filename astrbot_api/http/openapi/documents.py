"""The OpenAPI document of one application, in each language."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from ...config.settings import Settings
from ...runtime.per_process import PerProcess
from ...runtime.threads import run_native
from ...translations import LANGUAGES, translate_text
from .complete import complete_document

#: Keys whose value, where it is a string, is written for people.
_TEXTS = frozenset({"title", "summary", "description"})

#: Keys whose value is data, whatever it looks like.
_DATA = frozenset({"example", "default", "enum", "const", "value"})

#: Keys whose value is an object with names of our own as its keys.
_NAMED = frozenset(
    {
        "callbacks", "content", "examples", "headers", "links", "parameters", "paths",
        "patternProperties", "properties", "requestBodies", "responses", "schemas",
        "securitySchemes",
    }
)  # fmt: skip


#: Documents that are kept as bytes: a language at an address.
_MAX_KEPT = 8


class RenderedDocument(NamedTuple):
    """A document as JSON, and its ETag."""

    body: bytes
    tag: str


class OpenapiDocuments:
    """Makes the document, and each translation of it, once: when it is first asked for.

    That takes a fifth of a second, so it is done beside the hub.

    :param make: Returns what the routes say; it is completed here. Called once.
    :param settings: The limits in force.
    :param scopes: Tag -> scope that a key needs for its routes.
    """

    def __init__(
        self,
        make: Callable[[], dict[str, Any]],
        settings: Settings,
        scopes: Mapping[str, str | None],
    ) -> None:
        self._english = PerProcess(
            lambda: run_native(lambda: complete_document(make(), settings, scopes))
        )
        self._translated: dict[str, Mapping[str, Any]] = {}
        self._rests: dict[str, bytes] = {}
        self._rendered: dict[tuple[str, str], RenderedDocument] = {}

    def get(self, language: str) -> Mapping[str, Any]:
        """Return the document, without its servers.

        :param language: One of :data:`~astrbot_api.translations.LANGUAGES`.
        """
        english = self._english.get()
        if language == LANGUAGES[0]:
            return english
        document = self._translated.get(language)
        if document is None:
            # Two threads may both make it: they make the same.
            document = run_native(map_texts, english, lambda text: translate_text(text, language))
            self._translated[language] = document
        return document

    def render(self, language: str, server_url: str) -> RenderedDocument:
        """Return the document as JSON; the last few are kept.

        :param language: One of :data:`~astrbot_api.translations.LANGUAGES`.
        :param server_url: Where the paths begin. It differs from proxy to
            proxy, so it is put before the rest, which is made once.
        """
        rendered = self._rendered.get((language, server_url))
        if rendered is None:
            body = self._render(language, server_url)
            rendered = RenderedDocument(body, hashlib.sha256(body).hexdigest()[:32])
            if len(self._rendered) >= _MAX_KEPT:
                self._rendered.clear()
            self._rendered[language, server_url] = rendered
        return rendered

    def _render(self, language: str, server_url: str) -> bytes:
        rest = self._rests.get(language)
        if rest is None:
            document = dict(self.get(language))
            document.pop("openapi")
            rest = self._rests[language] = orjson.dumps(document)[1:]
        version = self.get(language)["openapi"]
        first = orjson.dumps({"openapi": version, "servers": [{"url": server_url}]})
        return first[:-1] + b"," + rest


def map_texts(node: Any, change: Callable[[str], str], *, named: bool = False) -> Any:
    """Return a copy of a document with each text for people changed.

    :param change: Gives the new text for an old one.
    :param named: Whether the keys of ``node`` are names, not OpenAPI's words.
    """
    if isinstance(node, list):
        return [map_texts(item, change) for item in node]
    if not isinstance(node, dict):
        return node
    if named:
        return {name: map_texts(value, change) for name, value in node.items()}
    return {key: _map_member(key, value, change) for key, value in node.items()}


def _map_member(key: str, value: Any, change: Callable[[str], str]) -> Any:
    if key in _DATA or (key == "examples" and isinstance(value, list)):
        return value
    if key in _TEXTS and isinstance(value, str):
        return change(value)
    if key == "tags":
        return [_map_tag(tag, change) for tag in value]
    return map_texts(value, change, named=key in _NAMED)


def _map_tag(tag: Any, change: Callable[[str], str]) -> Any:
    """Change a tag: an object at the top of the document, its name in an operation."""
    if isinstance(tag, str):
        return change(tag)
    return {**map_texts(tag, change), "name": change(tag["name"])}

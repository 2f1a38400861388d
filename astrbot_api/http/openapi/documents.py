"""The OpenAPI document of one application, in each language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from ...config.settings import Settings
from ...runtime.lru_cache import LruCache
from ...runtime.per_process import PerProcess
from ...runtime.threads import run_native
from ...translations import LANGUAGES, translate_text
from .complete import complete_document

#: Keys of translated texts, if their value is a string.
_TEXTS = frozenset({"title", "summary", "description"})

#: Keys of data, which is never translated.
_DATA = frozenset({"example", "default", "enum", "const", "value"})

#: Keys of objects whose own keys are names instead of OpenAPI keywords.
_NAMED = frozenset(
    {
        "callbacks", "content", "examples", "headers", "links", "parameters", "paths",
        "patternProperties", "properties", "requestBodies", "responses", "schemas",
        "securitySchemes",
    }
)  # fmt: skip


#: Maximum number of cached JSON documents, one for each language and server URL.
_MAX_KEPT = 8


class OpenapiDocuments:
    """Builds the document and its translations once, on first use.

    This takes 0.2 seconds, so it runs on a native thread and does not block the hub.

    :param make: Returns the document built from the routes, which is completed here.
        Called once.
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
        self._rendered = LruCache[tuple[str, str], bytes](_MAX_KEPT)

    def get(self, language: str) -> Mapping[str, Any]:
        """Return the document, without its servers.

        :param language: One of :data:`~astrbot_api.translations.LANGUAGES`.
        """
        english = self._english.get()
        if language == LANGUAGES[0]:
            return english
        document = self._translated.get(language)
        if document is None:
            # Two threads may both translate it. Their results are equal.
            document = run_native(map_texts, english, lambda text: translate_text(text, language))
            self._translated[language] = document
        return document

    def render(self, language: str, server_url: str) -> bytes:
        """Return the document as JSON. A few results are cached.

        :param language: One of :data:`~astrbot_api.translations.LANGUAGES`.
        :param server_url: The base URL of the paths, which depends on the proxy.
        """
        rendered = self._rendered.get((language, server_url))
        if rendered is None:
            document = {"openapi": "", "servers": [{"url": server_url}], **self.get(language)}
            rendered = self._rendered.put((language, server_url), orjson.dumps(document))
        return rendered


def map_texts(node: Any, change: Callable[[str], str], *, named: bool = False) -> Any:
    """Return a copy of a document with all translatable texts replaced.

    :param change: Returns the new text for an old one.
    :param named: Whether the keys of ``node`` are names instead of OpenAPI keywords.
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
    """Replace the texts of a tag: an object at the top level, a name in an operation."""
    if isinstance(tag, str):
        return change(tag)
    return {**map_texts(tag, change), "name": change(tag["name"])}

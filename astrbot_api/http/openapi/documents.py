"""The OpenAPI document of one application, in each language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from ...config.settings import Settings
from .chinese import CHINESE
from .complete import complete_document
from .translate import LANGUAGES, map_texts, translate_text


class OpenapiDocuments:
    """Holds the document and makes each translation of it once.

    :param document: What the routes gave; it is completed here.
    :param settings: The limits in force.
    :param scopes: Tag -> scope that a key needs for its routes.
    """

    def __init__(
        self, document: dict[str, Any], settings: Settings, scopes: Mapping[str, str | None]
    ) -> None:
        self._documents: dict[str, Mapping[str, Any]] = {
            LANGUAGES[0]: complete_document(document, settings, scopes)
        }
        self._rendered: dict[str, bytes] = {}

    def get(self, language: str) -> Mapping[str, Any]:
        """Return the document, without its servers.

        :param language: One of :data:`~.translate.LANGUAGES`.
        """
        document = self._documents.get(language)
        if document is None:
            # Two threads may both make it: they make the same.
            english = self._documents[LANGUAGES[0]]
            document = map_texts(english, lambda text: translate_text(text, CHINESE))
            self._documents[language] = document
        return document

    def render(self, language: str, server_url: str) -> bytes:
        """Return the document as JSON.

        :param language: One of :data:`~.translate.LANGUAGES`.
        :param server_url: Where the paths begin. It differs from proxy to
            proxy, so it is put before the rest, which is made once.
        """
        rest = self._rendered.get(language)
        if rest is None:
            document = dict(self.get(language))
            document.pop("openapi")
            rest = self._rendered[language] = orjson.dumps(document)[1:]
        version = self._documents[language]["openapi"]
        first = orjson.dumps({"openapi": version, "servers": [{"url": server_url}]})
        return first[:-1] + b"," + rest

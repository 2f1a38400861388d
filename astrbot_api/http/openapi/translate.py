"""The texts of the OpenAPI document in the reader's language."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from flask import Request

#: Languages of the documentation; the first is what it is written in.
LANGUAGES = ("en", "zh")

#: The same as values of ``<html lang>`` and ``Content-Language``.
LANGUAGE_TAGS = {"en": "en", "zh": "zh-CN"}

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

#: What differs between texts that are one text to a translator: lists of
#: codes, and numbers.
_VARIABLE = re.compile(r"`[^`]*`(?:, `[^`]*`)*|\d+")


def choose_language(request: Request, *, negotiate: bool = False) -> str:
    """Return the language of an answer; English where none of ours is asked for.

    :param negotiate: Whether ``Accept-Language`` counts when ``?lang=`` does not help.
    :returns: One of :data:`LANGUAGES`; ``zh-CN`` and other regions are ``zh``.
    """
    wanted = [request.args.get("lang", "")]
    if negotiate:
        # Best first. Its own best_match() takes "en" for better than "zh-CN".
        wanted += [tag for tag, quality in request.accept_languages if quality > 0]
    for tag in wanted:
        language = re.split("[-_]", tag.strip().lower())[0]
        if language in LANGUAGES:
            return language
    return LANGUAGES[0]


def find_key(text: str, catalogue: Mapping[str, str]) -> str | None:
    """Return the key of a catalogue that translates a paragraph.

    It is the paragraph itself, or the paragraph with ``{}`` in the place of
    its numbers and of its words between backticks.
    """
    if text in catalogue:
        return text
    pattern = _VARIABLE.sub("{}", text)
    return pattern if pattern in catalogue else None


def translate_text(text: str, catalogue: Mapping[str, str]) -> str:
    """Return a text in the catalogue's language, paragraph by paragraph.

    A paragraph that the catalogue lacks stays as it is.
    """
    return "\n\n".join(_translate(part, catalogue) for part in split_paragraphs(text))


def split_paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, without their line breaks."""
    return [" ".join(part.split()) for part in text.strip().split("\n\n")]


def _translate(paragraph: str, catalogue: Mapping[str, str]) -> str:
    key = find_key(paragraph, catalogue)
    if key is None:
        return paragraph
    if key == paragraph:
        return catalogue[key]
    found = [one.replace("`, `", "`、`") for one in _VARIABLE.findall(paragraph)]
    return catalogue[key].format(*found)


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

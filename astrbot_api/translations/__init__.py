"""Translations of the admin pages, the OpenAPI document and the widget.

Each language has one catalogue, ``<language>/LC_MESSAGES/messages.po``. The
source texts are English. A text without a translation stays English. This
module uses Babel instead of Flask-Babel, because Flask-Babel configures the
whole application, and a host application may use its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from babel.messages.pofile import read_po

#: Available languages. The first is the language of the source texts.
LANGUAGES = ("en", "zh")

#: Language -> value of ``<html lang>`` and ``Content-Language``.
LANGUAGE_TAGS = {"en": "en", "zh": "zh-CN"}

#: References in a catalogue: admin pages, OpenAPI document, widget.
OWNER_PAGES, DOCUMENTATION, WIDGET = "astrbot_api/admin", "astrbot_api/http", "widget"

#: Variable parts of paragraphs that share a translation: codes and numbers.
_VARIABLE = re.compile(r"`[^`]*`(?:, `[^`]*`)*|\d+")


def choose_language(asked: str, accepted: Iterable[tuple[str, float]] = ()) -> str:
    """Return the first available language of a request, or English.

    :param asked: The requested language, or empty. ``zh-CN`` and other regions
        are ``zh``.
    :param accepted: Languages of ``Accept-Language`` with their quality, best
        first. Werkzeug's ``best_match()`` would prefer "en" to "zh-CN".
    """
    for tag in (asked, *(tag for tag, quality in accepted if quality > 0)):
        language = re.split("[-_]", tag.strip().lower())[0]
        if language in LANGUAGES:
            return language
    return LANGUAGES[0]


@cache
def load_catalogue(language: str, place: str = "") -> Mapping[str, str]:
    """Return a map of English texts to translations, which is empty for English.

    :param place: Return only texts with this reference: :data:`OWNER_PAGES`,
        :data:`DOCUMENTATION` or :data:`WIDGET`.
    """
    path = Path(__file__).parent / language / "LC_MESSAGES" / "messages.po"
    if not path.exists():
        return {}
    with path.open("rb") as file:
        catalogue = read_po(file, locale=language)
    return {
        str(one.id): str(one.string)
        for one in catalogue
        if one.id and one.string and (not place or place in dict(one.locations))
    }


def make_gettext(language: str) -> Callable[..., str]:
    """Return the ``_`` function of the templates: ``_("Kept for %(days)s days", days=3)``."""
    catalogue = load_catalogue(language)

    def gettext(text: str, **values: object) -> str:
        found = catalogue.get(text, text)
        return found % values if values else found

    return gettext


def translate_text(text: str, language: str) -> str:
    """Translate a text of the OpenAPI document, paragraph by paragraph."""
    catalogue = load_catalogue(language)
    return "\n\n".join(_translate(part, catalogue) for part in split_paragraphs(text))


def split_paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, without line breaks."""
    return [" ".join(part.split()) for part in text.strip().split("\n\n")]


def find_key(paragraph: str, catalogue: Mapping[str, str]) -> str | None:
    """Return the catalogue key of a paragraph, or None without a translation.

    The key is the paragraph itself, or the paragraph with ``{}`` instead of each
    number and each text between backticks.
    """
    if paragraph in catalogue:
        return paragraph
    pattern = _VARIABLE.sub("{}", paragraph)
    return pattern if pattern in catalogue else None


def _translate(paragraph: str, catalogue: Mapping[str, str]) -> str:
    key = find_key(paragraph, catalogue)
    if key is None:
        return paragraph
    if key == paragraph:
        return catalogue[key]
    found = [one.replace("`, `", "`、`") for one in _VARIABLE.findall(paragraph)]
    return catalogue[key].format(*found)

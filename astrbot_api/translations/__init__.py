"""The texts of pages and documentation in the reader's language.

One catalogue a language, ``<language>/LC_MESSAGES/messages.po``: the owner's
pages and the OpenAPI document share it. The texts are written in English, and
a text that the catalogue lacks stays English. Babel reads it, and not
Flask-Babel: that one belongs to the whole application, and a host that we are
embedded in may have its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from babel.messages.pofile import read_po

#: What the texts may be read in; the first is what they are written in.
LANGUAGES = ("en", "zh")

#: The same as values of ``<html lang>`` and ``Content-Language``.
LANGUAGE_TAGS = {"en": "en", "zh": "zh-CN"}

#: References in a catalogue: the texts of the owner's pages, of the API's documentation, and of
#: the widget.
OWNER_PAGES, DOCUMENTATION, WIDGET = "astrbot_api/admin", "astrbot_api/http", "widget"

#: What differs between paragraphs that share a translation: codes and numbers.
_VARIABLE = re.compile(r"`[^`]*`(?:, `[^`]*`)*|\d+")


def choose_language(asked: str, accepted: Iterable[tuple[str, float]] = ()) -> str:
    """Return the first language of ours that a request names, else English.

    :param asked: The language that was asked for; "" where none was. ``zh-CN``
        and other regions are ``zh``.
    :param accepted: ``Accept-Language``, best first: languages with their
        quality. Werkzeug's ``best_match()`` prefers "en" to "zh-CN".
    """
    for tag in (asked, *(tag for tag, quality in accepted if quality > 0)):
        language = re.split("[-_]", tag.strip().lower())[0]
        if language in LANGUAGES:
            return language
    return LANGUAGES[0]


@cache
def load_catalogue(language: str, place: str = "") -> Mapping[str, str]:
    """Return English text -> translation; empty for English itself.

    :param place: Only the texts with this reference: :data:`OWNER_PAGES`, :data:`DOCUMENTATION`
        or :data:`WIDGET`.
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
    """Return the ``_`` of the templates: ``_("Kept for %(days)s days", days=3)``."""
    catalogue = load_catalogue(language)

    def gettext(text: str, **values: object) -> str:
        found = catalogue.get(text, text)
        return found % values if values else found

    return gettext


def translate_text(text: str, language: str) -> str:
    """Return a text of the documentation in a language, paragraph by paragraph."""
    catalogue = load_catalogue(language)
    return "\n\n".join(_translate(part, catalogue) for part in split_paragraphs(text))


def split_paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, without their line breaks."""
    return [" ".join(part.split()) for part in text.strip().split("\n\n")]


def find_key(paragraph: str, catalogue: Mapping[str, str]) -> str | None:
    """Return the key of a catalogue that translates a paragraph.

    It is the paragraph itself, or the paragraph with ``{}`` for each number
    and each run of words between backticks.
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

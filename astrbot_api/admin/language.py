"""The pages' texts in the reader's language, with Babel's catalogues.

Babel itself and not Flask-Babel: that one belongs to the whole application,
and a host that we are embedded in may have its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from babel.messages.pofile import read_po
from flask import Request

from ..http.openapi.translate import LANGUAGE_TAGS, LANGUAGES, choose_language

_FOLDER = Path(__file__).parent / "translations"

#: Keeps the choice of ``?lang=``.
LANGUAGE_COOKIE = "astrbot_lang"

#: What a language is called by those who read it.
OWN_NAMES = {"en": "English", "zh": "中文"}


def choose_page_language(request: Request) -> str:
    """Return the language: ``?lang=``, else the cookie's, else the browser's."""
    if "lang" not in request.args:
        kept = request.cookies.get(LANGUAGE_COOKIE, "")
        if kept in LANGUAGES:
            return kept
    return choose_language(request, negotiate=True)


def other_language(language: str) -> str:
    """Return the language that a page offers instead."""
    return next(one for one in LANGUAGES if one != language)


def tag_of(language: str) -> str:
    """Return the value of ``<html lang>``."""
    return LANGUAGE_TAGS[language]


@cache
def load_catalogue(language: str) -> Mapping[str, str]:
    """Return English text -> translation; empty for English itself."""
    path = _FOLDER / language / "LC_MESSAGES" / "messages.po"
    if not path.exists():
        return {}
    with path.open("rb") as file:
        catalogue = read_po(file, locale=language)
    return {str(one.id): str(one.string) for one in catalogue if one.id and one.string}


def make_gettext(language: str) -> Callable[..., str]:
    """Return the ``_`` of the templates: ``_("Kept for %(days)s days", days=3)``."""
    catalogue = load_catalogue(language)

    def gettext(text: str, **values: object) -> str:
        found = catalogue.get(text, text)
        return found % values if values else found

    return gettext

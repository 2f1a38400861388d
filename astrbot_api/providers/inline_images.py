"""Pictures that gateways write into an answer's text as ``data:`` URLs.

Gateways in front of image models write ``![image](data:image/png;base64,…)``, or the bare URL.
Such text would be shown to the user, and sent back to the model, with millions of characters.
"""

from __future__ import annotations

import re

from ..agent.provider import MediaDelta
from .generated import MediaCollector

#: Text with one of these must be fed, and all text while a picture is read.
PICTURE, SCHEME = "![", "data:image/"

#: Beginning of a Markdown picture at the end of a piece. Its URL may be in the next piece. An end
#: after "!" is not noticed, because texts would be delayed at each exclamation mark.
_CUT = re.compile(r"!\[[^\]\n]{0,200}(?:\](?:\(\s{0,9}([a-z:/]{0,11}))?)?")

#: Beginning of a Markdown picture, up to its URL.
_OPENING = re.compile(r"!\[[^\]\n]{0,200}\]\(\s{0,9}\Z")

#: A character that no such URL has.
_END = re.compile(r"[^A-Za-z0-9+/=:;,._-]")

#: End of a Markdown picture, maybe with a title.
_CLOSING = re.compile(r"[^)\n]{0,200}\)")

#: Minimum length of a bare URL in one piece. Models write short ones as examples.
_MIN_BARE_CHARS = 256


class InlineImages:
    """Separates an answer's text from its pictures.

    :param media: Decodes the pictures, and limits their size.
    """

    def __init__(self, media: MediaCollector) -> None:
        self._media = media
        self._opening = ""
        #: A beginning that was cut, with which the next text continues.
        self._cut = ""
        #: Pieces of the URL that is read.
        self._pieces: list[str] | None = None

    @property
    def is_reading(self) -> bool:
        """Whether all text must be fed."""
        return bool(self._cut) or self._pieces is not None

    def feed(self, text: str) -> list[str | MediaDelta]:
        """Add a piece of text, and return its complete texts and pictures in order.

        :raises ProviderError: when the answer has too much media.
        """
        found: list[str | MediaDelta] = []
        text, self._cut = self._cut + text, ""
        while text:
            if self._pieces is None:
                text = self._open(found, text)
                continue
            end = _END.search(text)
            piece = text[: end.start()] if end else text
            self._media.count(len(piece))
            self._pieces.append(piece)
            text = text[len(piece) :]
            if end:
                text = self._close(found, text)
        return found

    def finish(self) -> list[str | MediaDelta]:
        """Return the buffered picture or text after the end of the answer."""
        found: list[str | MediaDelta] = [self._cut] if self._cut else []
        if self._pieces is not None:
            self._close(found, "")
        return found

    def _open(self, found: list[str | MediaDelta], text: str) -> str:
        """Return the text from the next URL on, after the text before it was added."""
        at = text.find(SCHEME)
        if at < 0:
            at = text.rfind(PICTURE)
            cut = _CUT.fullmatch(text, at) if at >= 0 else None
            if cut and SCHEME.startswith(cut[1] or ""):
                text, self._cut = text[:at], text[at:]
            if text:
                found.append(text)
            return ""
        before = text[:at]
        opening = _OPENING.search(before)
        is_bare = not before.strip()[-1:] and len(text) - at >= _MIN_BARE_CHARS
        if opening is None and not is_bare:
            found.append(text[: at + len(SCHEME)])
            return text[at + len(SCHEME) :]
        self._opening = opening[0] if opening else ""
        before = before[: opening.start()] if opening else before
        if before:
            found.append(before)
        self._pieces = []
        return text[at:]

    def _close(self, found: list[str | MediaDelta], text: str) -> str:
        """Add the picture, or its text if it is invalid, and return the text behind it."""
        url, self._pieces = "".join(self._pieces or ()), None
        picture = self._media.read_inline(url)
        if picture is None:
            found.append(self._opening + url)
            return text
        found.append(picture)
        closing = _CLOSING.match(text) if self._opening else None
        return text[closing.end() :] if closing else text

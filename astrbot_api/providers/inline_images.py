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
        at = 0  # the rest is not copied for each URL: a text may have 100,000
        while at < len(text):
            if self._pieces is None:
                at = self._open(found, text, at)
                continue
            end = _END.search(text, at)
            piece = text[at : end.start()] if end else text[at:]
            self._media.count(len(piece))
            self._pieces.append(piece)
            at += len(piece)
            if end:
                at = self._close(found, text, at)
        return found

    def finish(self) -> list[str | MediaDelta]:
        """Return the buffered picture or text after the end of the answer."""
        found: list[str | MediaDelta] = [self._cut] if self._cut else []
        if self._pieces is not None:
            self._close(found, "", 0)
        return found

    def _open(self, found: list[str | MediaDelta], text: str, begin: int) -> int:
        """Return the position of the next URL, after the text before it was added."""
        at = text.find(SCHEME, begin)
        if at < 0:
            end, at = len(text), text.rfind(PICTURE, begin)
            cut = _CUT.fullmatch(text, at) if at >= 0 else None
            if cut and SCHEME.startswith(cut[1] or ""):
                end, self._cut = at, text[at:]
            if end > begin:
                found.append(text[begin:end])
            return len(text)
        before = text[begin:at]
        opening = _OPENING.search(before)
        is_bare = not before.strip()[-1:] and len(text) - at >= _MIN_BARE_CHARS
        if opening is None and not is_bare:
            found.append(text[begin : at + len(SCHEME)])
            return at + len(SCHEME)
        self._opening = opening[0] if opening else ""
        before = before[: opening.start()] if opening else before
        if before:
            found.append(before)
        self._pieces = []
        return at

    def _close(self, found: list[str | MediaDelta], text: str, at: int) -> int:
        """Add the picture, or its text if it is invalid, and return the position behind it."""
        url, self._pieces = "".join(self._pieces or ()), None
        picture = self._media.read_inline(url)
        if picture is None:
            found.append(self._opening + url)
            return at
        found.append(picture)
        closing = _CLOSING.match(text, at) if self._opening else None
        return closing.end() if closing else at

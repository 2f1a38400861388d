"""Convert files to pictures, texts and sounds for models, once per content.

:mod:`.media` decides what a model gets.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...db.attachments import AttachmentRow
from ...files.attachments import Attachments
from ...files.reading.reader import (
    DESCRIBE_VIDEO,
    EXTRACT_TEXT,
    GRAB_FRAMES,
    PREPARE_PICTURE,
    RENDER_PAGES,
    TO_WAV,
    FileReader,
)
from ...runtime.calls import Cancellable
from ...runtime.lru_cache import LruCache
from ...runtime.once import Once
from ...runtime.threads import run_native

#: Maximum size of a recording that is sent unchanged, and of a converted one, in bytes.
MAX_SOUND_BYTES = 14 * 1024 * 1024
_MAX_SOUND_S = 420

#: Size of the cache of converted files, in characters. Users ask repeatedly about a document, and
#: reading a PDF costs much more than caching its text.
_KEPT_CHARS = 32_000_000

#: Maximum number of scanned pages for a vision model.
_MAX_PAGES = 8


@dataclass(frozen=True, slots=True)
class Made:
    """A converted file.

    :param notes: Remarks for the model, one per line.
    :param text: The text of a document.
    :param parts: The data of each part with the file's content.
    :param images: Indices of the pages without readable text, or of the pictures to show.
    """

    notes: str = ""
    text: str = ""
    parts: tuple[str, ...] = ()
    images: tuple[int, ...] = ()

    @property
    def chars(self) -> int:
        return len(self.notes) + len(self.text) + sum(map(len, self.parts))


class PreparedFiles:
    """Converts files for models, and caches costly results.

    Each method may raise the errors of reading a file, and ``RunCancelled``.
    """

    def __init__(self, attachments: Attachments, reader: FileReader) -> None:
        self._attachments = attachments
        self._reader = reader
        self._kept = LruCache[tuple[str, str], Made](_KEPT_CHARS)
        self._once = Once()

    def get_picture(
        self, attachment: AttachmentRow, side_px: int, cancel: Cancellable | None
    ) -> Made:
        """Return a picture as a data URL, with the indices of its pages if it has several."""

        def make() -> Made:
            meta, data = self._reader.run(PREPARE_PICTURE, attachment, cancel, max_side_px=side_px)
            pages = tuple(range(meta["pages"])) if meta["pages"] > 1 else ()
            url = _to_url(meta["mime"], data)
            return Made(_to_notes(meta["notes"]), parts=(url,), images=pages)

        return self._make_once(f"image {side_px}", attachment, make, cancel)

    def get_text(self, attachment: AttachmentRow, cancel: Cancellable | None) -> Made:
        """Return the text of a document."""

        def make() -> Made:
            meta, text = self._reader.run(
                EXTRACT_TEXT, attachment, cancel, mime=attachment.mime, name=attachment.name
            )
            return Made(_to_notes(meta["notes"]), text.decode(), images=tuple(meta["images"]))

        return self._make_once(f"text {attachment.mime}", attachment, make, cancel)

    def get_pages(
        self,
        attachment: AttachmentRow,
        pages: Sequence[int],
        side_px: int,
        cancel: Cancellable | None,
    ) -> Made:
        """Return the first of these pages, or pictures of the document, as pictures."""
        shown = list(pages[:_MAX_PAGES])

        def make() -> Made:
            meta, data = self._reader.run(
                RENDER_PAGES, attachment, cancel, numbers=shown, max_side_px=side_px
            )
            urls = _cut_urls(data, meta["sizes"])
            return Made(_to_notes([meta["note"]]), parts=tuple(urls))

        return self._make_once(f"pages {side_px}", attachment, make, cancel)

    def get_sound(self, attachment: AttachmentRow) -> Made:
        """Return an unchanged recording, in base64."""

        def make() -> Made:
            data = self._attachments.read_bytes(attachment, MAX_SOUND_BYTES)
            return Made(parts=(_to_base64(data),))

        return self._make_once("audio", attachment, make)

    def get_wav(self, attachment: AttachmentRow, cancel: Cancellable | None) -> Made:
        """Return a recording converted to WAV, in base64."""

        def make() -> Made:
            notes, wav = self.convert_to_wav(attachment, cancel)
            return Made(notes, parts=(_to_base64(wav),))

        return self._make_once("wav", attachment, make, cancel)

    def convert_to_wav(
        self, attachment: AttachmentRow, cancel: Cancellable | None
    ) -> tuple[str, bytes]:
        """Return the notes and the bytes of a recording converted to WAV. They are not cached."""
        meta, wav = self._reader.run(TO_WAV, attachment, cancel, max_s=_MAX_SOUND_S)
        return _to_notes(meta["notes"]), wav

    def describe_video(self, attachment: AttachmentRow, cancel: Cancellable | None) -> Made:
        """Return the duration and the size of a video, and an index if it has pictures."""

        def make() -> Made:
            meta, _ = self._reader.run(DESCRIBE_VIDEO, attachment, cancel)
            images = (0,) if "width" in meta else ()
            return Made(_to_notes([_describe_video(meta)]), images=images)

        return self._make_once("video", attachment, make, cancel)

    def get_frames(
        self, attachment: AttachmentRow, count: int, side_px: int, cancel: Cancellable | None
    ) -> Made:
        """Return frames of a video as pictures."""

        def make() -> Made:
            meta, data = self._reader.run(
                GRAB_FRAMES, attachment, cancel, count=count, max_side_px=side_px
            )
            seconds = ", ".join(f"{one:g}" for one in meta["at_s"])
            note = f"The pictures are of the seconds {seconds}."
            return Made(_to_notes([note]), parts=tuple(_cut_urls(data, meta["sizes"])))

        return self._make_once(f"frames {count} {side_px}", attachment, make, cancel)

    def _make_once(
        self,
        kind: str,
        attachment: AttachmentRow,
        make: Callable[[], Made],
        cancel: Cancellable | None = None,
    ) -> Made:
        """Convert a file, or return the cached result for the same bytes."""
        key = (kind, attachment.sha256)

        def make_and_keep() -> Made:
            made = make()
            return self._kept.put(key, made, made.chars)

        return self._once.make(key, lambda: self._kept.get(key), make_and_keep, cancel)


def _to_notes(sentences: Sequence[str]) -> str:
    """Return notes for the model, one per line."""
    return "".join(f"\n[{one}]" for one in sentences)


def _to_base64(data: bytes) -> str:
    return run_native(base64.b64encode, data).decode()


def _to_url(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{_to_base64(data)}"


def _cut_urls(data: bytes, sizes: Sequence[int]) -> list[str]:
    """Split concatenated pictures into data URLs."""
    urls, start = [], 0
    for size in sizes:
        urls.append(_to_url("image/jpeg", data[start : start + size]))
        start += size
    return urls


def _describe_video(meta: dict[str, Any]) -> str:
    length = f"{meta['seconds']:g} seconds long" if meta["seconds"] else "of unknown length"
    size = f", {meta['width']} x {meta['height']} pixels" if meta.get("width") else ""
    return f"It is {length}{size}."

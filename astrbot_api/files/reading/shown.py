"""Job that shows pages of a PDF or TIFF, parts of a picture, or pictures of a document."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from PIL import Image

from ...errors import Unreadable
from .package import Package
from .pictures import prepare_picture

_TIFF = (b"II*\0", b"MM\0*")

#: Seconds of CPU time after which no further picture is shown, of the 10 that the job has.
_ENOUGH_S = 6.0


def show_pages(source: BinaryIO, numbers: Sequence[int], max_side_px: int) -> tuple[Any, bytes]:
    """Return pages or pictures as JPEG images.

    :param numbers: Indices of the pages of a PDF or a TIFF, of all parts of another picture, or of
        the pictures of another document.
    :returns: ``{"note": sentence, "sizes": [bytes, …]}``, and the concatenated images.
    :raises Unreadable: when none can be shown.
    """
    head = source.read(1024)
    source.seek(0)
    if head.startswith(_TIFF):
        meta, _ = prepare_picture(source, max_side_px)
        return _show(
            [one for one in numbers if one < meta["pages"]],
            lambda number: _prepare(source, max_side_px, number),
            lambda shown: " ".join(
                (f"{len(shown)} of its {meta['pages']} pages are shown.", *meta["notes"])
            ),
        )
    if b"%PDF-" in head:
        from .pdf import open_pdf, render_page, write_numbers

        document = open_pdf(source)
        return _show(
            [one for one in numbers if one < len(document)],
            lambda number: render_page(document, number, max_side_px),
            lambda shown: f"The pictures are its pages {write_numbers(shown)} of {len(document)}.",
        )
    if not head.startswith(b"PK"):
        return _show_parts(source, numbers, max_side_px)
    package = Package(source)
    names = package.list_pictures()
    return _show(
        [one for one in numbers if one < len(names)],
        lambda number: _prepare(io.BytesIO(package.read(names[number])), max_side_px),
        lambda shown: f"{len(shown)} of its {len(names)} pictures are shown.",
    )


def _show_parts(source: BinaryIO, numbers: Sequence[int], max_side_px: int) -> tuple[Any, bytes]:
    """Return a long picture in parts, which overlap because a cut may split a line of text."""
    count = len(numbers)
    meta, data = prepare_picture(source, max_side_px * count * 19 // 20)
    whole = Image.open(io.BytesIO(data))
    step = max(max(whole.size) - max_side_px, 0) / max(count - 1, 1)
    is_tall = whole.height > whole.width

    def cut(number: int) -> Image.Image:
        start = int(number * step)
        end = start + max_side_px
        return whole.crop(
            (0, start, whole.width, end) if is_tall else (start, 0, end, whole.height)
        )

    way = "the top to the bottom" if is_tall else "the left to the right"
    note = f"It is shown in parts that overlap, from {way}."
    return _show(numbers, cut, lambda shown: " ".join((note, *meta["notes"])))


def _prepare(source: BinaryIO, max_side_px: int, page: int = 0) -> Image.Image:
    return Image.open(io.BytesIO(prepare_picture(source, max_side_px, page)[1]))


def _show(
    numbers: Sequence[int],
    prepare: Callable[[int], Image.Image],
    write_note: Callable[[list[int]], str],
) -> tuple[Any, bytes]:
    pictures: dict[int, bytes] = {}
    began = time.process_time()
    for number in numbers:
        if pictures and time.process_time() - began > _ENOUGH_S:
            break
        out = io.BytesIO()
        # RuntimeError: pypdfium2, for a damaged page.
        with suppress(Unreadable, OSError, EOFError, RuntimeError):
            prepare(number).convert("RGB").save(out, "JPEG", quality=85)
            pictures[number] = out.getvalue()
    if not pictures:
        raise Unreadable("its pictures are damaged or their format is not supported")
    sizes = [len(one) for one in pictures.values()]
    return {"note": write_note(list(pictures)), "sizes": sizes}, b"".join(pictures.values())

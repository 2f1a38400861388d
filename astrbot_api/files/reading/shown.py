"""Job that shows the pages of a PDF or a TIFF, or the pictures of a document, as images."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from PIL import Image

from ...errors import Unreadable
from .office import Package
from .pictures import prepare_picture

_TIFF = (b"II*\0", b"MM\0*")

#: Seconds of CPU time after which no further picture is shown, of the 10 that the job has.
_ENOUGH_S = 6.0


def show_pages(source: BinaryIO, numbers: Sequence[int], max_side_px: int) -> tuple[Any, bytes]:
    """Return pages or pictures as JPEG images.

    :param numbers: Indices of the pages of a PDF or a TIFF, or of the pictures of another document.
    :returns: ``{"note": sentence, "sizes": [bytes, …]}``, and the concatenated images.
    :raises Unreadable: when none can be shown.
    """
    head = source.read(4)
    source.seek(0)
    if head in _TIFF:
        meta, _ = prepare_picture(source, max_side_px)
        return _show(
            [one for one in numbers if one < meta["pages"]],
            lambda number: prepare_picture(source, max_side_px, number),
            " ".join((f"{{}} of its {meta['pages']} pages are shown.", *meta["notes"])),
        )
    if not head.startswith(b"PK"):
        from .pdf import render_pages

        return render_pages(source, numbers, max_side_px)
    package = Package(source)
    names = package.list_pictures()
    return _show(
        [one for one in numbers if one < len(names)],
        lambda number: prepare_picture(io.BytesIO(package.read(names[number])), max_side_px),
        f"{{}} of its {len(names)} pictures are shown.",
    )


def _show(
    numbers: Sequence[int], prepare: Callable[[int], tuple[Any, bytes]], note: str
) -> tuple[Any, bytes]:
    pictures: list[bytes] = []
    began = time.process_time()
    for number in numbers:
        if pictures and time.process_time() - began > _ENOUGH_S:
            break
        try:
            _, data = prepare(number)
        except (Unreadable, OSError, EOFError):
            continue
        out = io.BytesIO()
        Image.open(io.BytesIO(data)).convert("RGB").save(out, "JPEG", quality=85)
        pictures.append(out.getvalue())
    if not pictures:
        raise Unreadable("its pictures are damaged or their format is not supported")
    sizes = [len(one) for one in pictures]
    return {"note": note.format(len(pictures)), "sizes": sizes}, b"".join(pictures)

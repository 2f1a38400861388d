"""Job that shows the pages of a PDF, or the pictures of a document, as images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, BinaryIO

from PIL import Image

from ...errors import Unreadable
from .office import Package
from .pictures import prepare_picture


def show_pages(source: BinaryIO, numbers: Sequence[int], max_side_px: int) -> tuple[Any, bytes]:
    """Return pages or pictures as JPEG images.

    :param numbers: Indices of the pages of a PDF, or of the pictures of another document.
    :returns: ``{"note": sentence, "sizes": [bytes, …]}``, and the concatenated images.
    :raises Unreadable: when none can be shown.
    """
    if source.read(2) != b"PK":
        from .pdf import render_pages

        source.seek(0)
        return render_pages(source, numbers, max_side_px)
    source.seek(0)
    package = Package(source)
    names = package.list_pictures()
    pictures = []
    for number in (one for one in numbers if one < len(names)):
        try:
            _, data = prepare_picture(io.BytesIO(package.read(names[number])), max_side_px)
        except (Unreadable, OSError):
            continue
        out = io.BytesIO()
        picture = Image.open(io.BytesIO(data)).convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        Image.alpha_composite(paper, picture).convert("RGB").save(out, "JPEG", quality=85)
        pictures.append(out.getvalue())
    if not pictures:
        raise Unreadable("its pictures are damaged or their format is not supported")
    note = f"{len(pictures)} of its {len(names)} pictures are shown."
    return {"note": note, "sizes": [len(one) for one in pictures]}, b"".join(pictures)

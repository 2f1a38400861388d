"""Pictures of a fair size. Jobs: they run aside."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

from PIL import Image, ImageOps

from ...errors import Unreadable

#: Most pixels of a picture that is decoded at all: beyond, a small file could
#: fill the memory.
_MAX_PIXELS = 20_000_000

#: Formats that every model that sees can read.
_WEB_IMAGES = {"image/png", "image/jpeg", "image/webp", "image/gif"}


def scale_image(source: BinaryIO, mime: str, max_side_px: int) -> tuple[Any, bytes]:
    """Return a picture whose longer side is at most ``max_side_px``.

    One that is small enough and of a common format is returned as it is.

    :returns: Media type and bytes.
    :raises Unreadable: for a picture of too many pixels.
    """
    with Image.open(source) as picture:
        if picture.width * picture.height > _MAX_PIXELS:
            raise Unreadable(f"it has {picture.width} x {picture.height} pixels")
        if mime in _WEB_IMAGES and max(picture.size) <= max_side_px:
            source.seek(0)
            return mime, source.read()
        upright = ImageOps.exif_transpose(picture)
        upright.thumbnail((max_side_px, max_side_px))
        out = io.BytesIO()
        if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
            upright.convert("RGBA").save(out, "PNG")
            return "image/png", out.getvalue()
        upright.convert("RGB").save(out, "JPEG", quality=85)
        return "image/jpeg", out.getvalue()

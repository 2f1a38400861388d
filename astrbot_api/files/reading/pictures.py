"""Pictures as every model that sees can take them. Jobs: they run aside."""

from __future__ import annotations

import contextlib
import io
from typing import Any, BinaryIO

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ...errors import Unreadable

#: Formats that are opened. Not among them: EPS, which starts a program, and what has no
#: signature.
_FORMATS = {
    "PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "ICO", "JPEG2000", "PSD",
    "PPM", "QOI", "HEIF",
}  # fmt: skip

#: Most pixels that are decoded: beyond, a small file could fill the memory.
_MAX_PIXELS = 25_000_000

#: Most pixels of a JPEG, which can be decoded at an eighth of its size.
_MAX_JPEG_PIXELS = 220_000_000

#: A picture that was not scaled and has lost nothing is PNG up to this size, else JPEG.
_MAX_PNG_BYTES = 1_500_000

#: Formats whose pictures have lost detail already.
_LOSSY = {"JPEG", "MPO", "HEIF", "AVIF", "JPEG2000"}

Image.MAX_IMAGE_PIXELS = None  # the limits here are narrower

with contextlib.suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)

Image.init()


def prepare_picture(source: BinaryIO, max_side_px: int) -> tuple[Any, bytes]:
    """Return a picture upright and still, as PNG or JPEG of 8 bits, without metadata.

    :param max_side_px: A longer one is scaled down to this.
    :returns: ``{"mime": …, "notes": [sentence, …], "width": …, "height": …}`` and the bytes.
    :raises Unreadable: for a picture of too many pixels, or of an unknown format.
    :raises OSError: for a damaged one.
    """
    with _open(source) as picture:
        name = picture.format or ""
        notes = []
        if getattr(picture, "is_animated", False) and name not in ("MPO", "HEIF"):
            many = "pages" if name == "TIFF" else "pictures"
            notes.append(f"It has several {many}; the first is shown.")
        if name in ("JPEG", "MPO"):
            picture.draft(None, (max_side_px * 2, max_side_px * 2))
        _check_pixels(*picture.size)
        size, mode = picture.size, picture.mode
        profile = picture.info.get("icc_profile")
        if name not in ("JPEG", "MPO") or picture.mode not in ("RGB", "L"):
            upright = _to_rgb(ImageOps.exif_transpose(picture), profile)
            upright.thumbnail((max_side_px, max_side_px))
        else:  # scaled first: turning copies it
            picture.getexif()  # read before the pixels, kept beside them
            picture.thumbnail((max_side_px, max_side_px))
            upright = _to_rgb(ImageOps.exif_transpose(picture), profile)
    unscaled = upright.width * upright.height == size[0] * size[1]
    lossless = name not in _LOSSY and (unscaled or mode == "RGBA")
    mime, data = _save(upright, lossless)
    sides = {"width": upright.width, "height": upright.height}
    return {"mime": mime, "notes": notes, **sides}, data


def _open(source: BinaryIO) -> Image.Image:
    try:
        picture = Image.open(source, formats=sorted(_FORMATS & Image.OPEN.keys()))
    except UnidentifiedImageError as error:
        raise Unreadable("it is damaged, or of a format that is not known here") from error
    width, height = picture.size
    limit = _MAX_JPEG_PIXELS if picture.format in ("JPEG", "MPO") else _MAX_PIXELS
    if width * height > limit:
        raise Unreadable(f"it has {width} x {height} pixels, more than are decoded here")
    return picture


def _check_pixels(width: int, height: int) -> None:
    if width * height > _MAX_PIXELS:
        raise Unreadable(f"it has {width} x {height} pixels, more than are decoded here")


def _to_rgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Return a picture of 8 bits a channel in RGB or RGBA, in the colours of sRGB."""
    if picture.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        picture = _scale_down(picture.convert("I"))
    elif picture.mode == "F":
        extrema: Any = picture.getextrema()
        low, high = extrema
        scale = 255.0 / ((high - low) or 1.0)
        picture = picture.point(lambda value: value * scale - low * scale).convert("L")
    has_alpha = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa")
    if has_alpha or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            return rgba
        return rgba.convert("RGB")
    if profile and picture.mode in ("RGB", "CMYK", "L"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" not in ImageCms.getProfileDescription(own).lower():
                converted = ImageCms.profileToProfile(
                    picture, own, ImageCms.createProfile("sRGB"), outputMode="RGB"
                )
                if converted is not None:
                    return converted
    return picture.convert("RGB")


def _scale_down(picture: Image.Image) -> Image.Image:
    """Return a picture of 16 bits with 8."""
    _, high = picture.getextrema()
    divisor = 1.0 if isinstance(high, (int, float)) and high <= 255 else 256.0
    return picture.point(lambda value: value * (1 / divisor)).convert("L")


def _save(picture: Image.Image, lossless: bool) -> tuple[str, bytes]:
    """Return a picture as a file: PNG where it has transparency or lost nothing yet."""
    picture.info = {}  # what is in there would be written again
    out = io.BytesIO()
    if picture.mode == "RGBA" or lossless:
        picture.save(out, "PNG")
        if picture.mode == "RGBA" or out.tell() <= _MAX_PNG_BYTES:
            return "image/png", out.getvalue()
        out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return "image/jpeg", out.getvalue()

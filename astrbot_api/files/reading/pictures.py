"""Job that converts images to a format that all vision models accept."""

from __future__ import annotations

import contextlib
import io
import math
import re
from typing import Any, BinaryIO

from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from ...errors import Unreadable
from .sound import NO_READER

#: Maximum number of pages of a TIFF that are counted, and of parts of a long picture.
_MAX_PAGES = 1000
_MAX_PARTS = 8

#: Accepted formats. EPS is excluded, because it starts a program. So are formats without a
#: signature.
_FORMATS = {
    "PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "ICO", "JPEG2000", "PSD",
    "PPM", "QOI", "HEIF",
}  # fmt: skip

#: Maximum number of decoded pixels: a small file could otherwise fill the memory.
_MAX_PIXELS = 50_000_000

#: Maximum number of pixels of a JPEG, which can be decoded at an eighth of its size.
_MAX_JPEG_PIXELS = 220_000_000

#: Maximum size of a lossless PNG, in bytes. Larger images become JPEG.
_MAX_PNG_BYTES = 1_500_000

#: Coding style of a JPEG 2000, up to its number of smaller sizes (ISO/IEC 15444-1, A.6.1).
_CODING_STYLE = re.compile(rb"\xff\x52\x00.[\x00-\x07].{4}(.)", re.DOTALL)
_MAX_HEADER_BYTES = 64 * 1024

#: Formats whose pixels before the end of a cut file can be decoded.
_SHOWN_IF_CUT = {"JPEG", "MPO", "PNG", "BMP", "DIB", "TIFF", "PPM"}

_LOSSY = {"JPEG", "MPO", "HEIF", "AVIF", "JPEG2000"}

Image.MAX_IMAGE_PIXELS = None  # this module has lower limits

with contextlib.suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)

Image.init()


def prepare_picture(
    source: BinaryIO, max_side_px: int, page: int = 0, transparent: bool = False
) -> tuple[Any, bytes]:
    """Convert an image to an upright, still PNG or JPEG with 8 bits, without metadata.

    :param max_side_px: Maximum length of the longer side. Larger images are scaled down.
    :param page: Index of the page of a TIFF.
    :param transparent: Whether to keep transparency. Otherwise the image is put on white.
    :returns: ``{"mime": …, "notes": [sentence, …], "width": …, "height": …, "pages": …}`` and the
        bytes. The pages are those of a TIFF, or parts of a long picture.
    :raises Unreadable: when the image has too many pixels or an unknown format.
    :raises OSError: when the image is damaged, except that its end is missing.
    """
    with _open(source) as picture:
        name = picture.format or ""
        notes: list[str] = []
        is_tiff = name == "TIFF"
        pages = _count_pages(picture, notes) if is_tiff else _count_parts(picture, max_side_px)
        if getattr(picture, "is_animated", False) and name not in ("MPO", "HEIF", "TIFF"):
            notes.append("It has several pictures; the first is shown.")
        if page:
            picture.seek(page)
        if name in ("JPEG", "MPO"):
            _draft(picture, max_side_px)
        _check_pixels(*picture.size, _MAX_PIXELS)
        if name == "JPEG2000":
            _load_reduced(picture, source, max_side_px)
        _load(picture, notes)
        size, mode = picture.size, picture.mode
        profile = picture.info.get("icc_profile")
        if mode in ("RGB", "RGBA", "L") and "transparency" not in picture.info:
            # Scale first, because each further step copies the image.
            picture.thumbnail((max_side_px, max_side_px))
        upright = _to_rgb(ImageOps.exif_transpose(picture), profile)
        upright.thumbnail((max_side_px, max_side_px))
    if upright.mode == "RGBA" and not transparent:
        # Many endpoints drop the transparency, which leaves black letters on black.
        paper = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(paper, upright).convert("RGB")
    unscaled = upright.width * upright.height == size[0] * size[1]
    mime, data = _save(upright, upright.mode == "RGBA" or (unscaled and name not in _LOSSY))
    sides = {"width": upright.width, "height": upright.height}
    return {"mime": mime, "notes": notes, "pages": pages, **sides}, data


def _open(source: BinaryIO) -> Image.Image:
    try:
        picture = Image.open(source, formats=sorted(_FORMATS & Image.OPEN.keys()))
    except UnidentifiedImageError as error:
        source.seek(4)
        if "HEIF" not in Image.OPEN and source.read(4) == b"ftyp":
            raise Unreadable(NO_READER) from error
        raise Unreadable("it is damaged or its format is not supported") from error
    is_jpeg = picture.format in ("JPEG", "MPO")
    _check_pixels(*picture.size, _MAX_JPEG_PIXELS if is_jpeg else _MAX_PIXELS)
    return picture


def _draft(picture: Image.Image, max_side_px: int) -> None:
    """Let a JPEG be decoded at a half, a quarter or an eighth, if it is large enough."""
    width, height = picture.size
    for scale in (1, 2, 4, 8):
        fits = width * height <= _MAX_PIXELS * scale**2
        if fits and max(width, height) < 2 * scale * max_side_px:
            break
    picture.draft(None, (max(1, width // scale), max(1, height // scale)))


def _count_pages(picture: Any, notes: list[str]) -> int:
    """Return the number of pages before a damaged one. The first one stays open."""
    count = 1
    try:
        while count < _MAX_PAGES:
            picture.seek(count)
            count += 1
    except EOFError:  # there are no more
        pass
    except Exception:  # Pillow raises several types, such as for a file that is cut off
        notes.append("Its later pages are damaged.")
    picture.seek(0)
    return count


def _count_parts(picture: Image.Image, max_side_px: int) -> int:
    """Return in how many parts a picture has readable letters, such as a screenshot of a chat."""
    short, long = sorted(picture.size)
    if long <= max(max_side_px, 4 * short):
        return 1
    return min(_MAX_PARTS, math.ceil(long / (2 * short)), math.ceil(long / max_side_px))


def _load_reduced(picture: Any, source: BinaryIO, max_side_px: int) -> None:
    """Decode a JPEG 2000 at a power of two of its size, because each pixel takes 18 bytes."""
    source.seek(0)
    style = _CODING_STYLE.search(source.read(_MAX_HEADER_BYTES))
    levels = style[1][0] if style else 0
    picture.reduce = min(levels, max(0, (max(picture.size) // max_side_px).bit_length() - 1))
    picture.load()


def _load(picture: Image.Image, notes: list[str]) -> None:
    """Decode the pixels. Those behind the end of a cut file are gray or black."""
    try:
        picture.load()
    except OSError:
        if picture.format not in _SHOWN_IF_CUT:
            raise
        ImageFile.LOAD_TRUNCATED_IMAGES = True  # in the whole process, which has one thread
        try:
            picture.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        extrema: Any = picture.getextrema()
        if all(low == high for low, high in (extrema if picture.im.bands > 1 else (extrema,))):
            raise  # nothing was decoded
        notes.append("Its file is cut off: a part of it is missing.")


def _check_pixels(width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise Unreadable(
            f"it has {width} x {height} pixels; ask for one of at most {limit // 10**6} megapixels"
        )


def _to_rgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image to RGB or RGBA with 8 bits per channel, in sRGB."""
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
    """Convert an image from 16 to 8 bits."""
    _, high = picture.getextrema()
    divisor = 1.0 if isinstance(high, (int, float)) and high <= 255 else 256.0
    return picture.point(lambda value: value * (1 / divisor)).convert("L")


def _save(picture: Image.Image, lossless: bool) -> tuple[str, bytes]:
    """Encode an image: PNG if it is transparent or lossless and small, else JPEG."""
    picture.info = {}  # Pillow would write this metadata
    out = io.BytesIO()
    if lossless:
        picture.save(out, "PNG")
        if picture.mode == "RGBA" or out.tell() <= _MAX_PNG_BYTES:
            return "image/png", out.getvalue()
        out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return "image/jpeg", out.getvalue()

"""Thumbnails of attachments, cached in each worker."""

from __future__ import annotations

from ..db.attachments import AttachmentRow
from ..errors import ApiError, Unreadable
from ..runtime.aside import AsideError
from ..runtime.lru_cache import LruCache
from ..runtime.once import Once
from .reading.reader import GRAB_FRAMES, PREPARE_PICTURE, RENDER_PAGES, FileReader

#: Available sizes of the longer side, in pixels. Other sizes are rounded up.
_SIDES_PX = (64, 128, 256, 512, 1024)

#: Maximum size of a worker's cache, in bytes.
_KEPT_BYTES = 16 * 2**20


class Thumbnails:
    """The thumbnails of one application, for images, PDF documents and videos."""

    def __init__(self, reader: FileReader) -> None:
        self._reader = reader
        self._once = Once()
        self._kept = LruCache[tuple[str, int], tuple[str, bytes]](_KEPT_BYTES)

    def get(self, row: AttachmentRow, side_px: int) -> tuple[str, bytes]:
        """Return the media type and the bytes of a thumbnail.

        :param side_px: A value of :data:`_SIDES_PX`.
        :raises ApiError: ``attachment_not_found`` when the file has no thumbnail, or
            ``server_busy``.
        """
        key = (row.sha256, side_px)
        try:
            return self._once.make(
                key, lambda: self._kept.get(key), lambda: self._keep(key, self._make(row, side_px))
            )
        except Unreadable as error:
            raise _refuse(str(error)) from error
        except AsideError as error:
            if error.cause in ("busy", "unavailable"):
                raise ApiError("server_busy", f"{error.words}; try again later") from error
            raise _refuse(error.words) from error

    def _keep(self, key: tuple[str, int], made: tuple[str, bytes]) -> tuple[str, bytes]:
        return self._kept.put(key, made, len(made[1]))

    def _make(self, row: AttachmentRow, side_px: int) -> tuple[str, bytes]:
        if row.type == "image":
            meta, data = self._reader.run(
                PREPARE_PICTURE, row, max_side_px=side_px, transparent=True
            )
            return meta["mime"], data
        if row.mime == "application/pdf":
            _, data = self._reader.run(RENDER_PAGES, row, numbers=[0], max_side_px=side_px)
            return "image/jpeg", data
        if row.type == "video":
            _, data = self._reader.run(GRAB_FRAMES, row, count=1, max_side_px=side_px)
            return "image/jpeg", data
        raise Unreadable("it is not an image, a PDF or a video")


def choose_side(size: int) -> int:
    """Return the smallest available size that is not below the requested size."""
    return next((side for side in _SIDES_PX if side >= size), _SIDES_PX[-1])


def _refuse(words: str) -> ApiError:
    return ApiError("attachment_not_found", f"the attachment has no thumbnail: {words}")

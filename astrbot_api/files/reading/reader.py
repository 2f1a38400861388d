"""Running of jobs on attachments."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

from ...db.attachments import AttachmentRow
from ...errors import Unreadable
from ...runtime.aside import Aside, Job, Limits
from ...runtime.calls import Cancellable
from ..attachments import Attachments

T = TypeVar("T")

EXTRACT_TEXT = Job("astrbot_api.files.reading.documents:extract_text")

# A decoder needs up to 8 bytes per pixel, and phones take photos of 50 megapixels.
_PICTURE = Limits(memory_bytes=512 * 2**20)
PREPARE_PICTURE = Job("astrbot_api.files.reading.pictures:prepare_picture", _PICTURE)
RENDER_PAGES = Job("astrbot_api.files.reading.shown:show_pages", _PICTURE)

# FFmpeg maps much memory, and a recording of minutes has tens of megabytes of samples.
_SOUND = Limits(cpu_s=20, wall_s=60.0, memory_bytes=512 * 2**20)
TO_WAV = Job("astrbot_api.files.reading.sound:to_wav", _SOUND)
DESCRIBE_VIDEO = Job("astrbot_api.files.reading.sound:describe", _SOUND)
GRAB_FRAMES = Job("astrbot_api.files.reading.sound:grab_frames", _SOUND)

#: Maximum size of a file read into memory, in bytes. Files in S3 cannot be opened locally.
_MAX_READ_BYTES = 32 * 2**20


class FileReader:
    """Runs jobs on the bytes of attachments.

    A local file of any size is passed to the job as an open descriptor.
    """

    def __init__(self, attachments: Attachments, aside: Aside) -> None:
        self._attachments = attachments
        self._aside = aside

    def run(
        self, job: Job, row: AttachmentRow, cancel: Cancellable | None = None, **arguments: Any
    ) -> tuple[Any, bytes]:
        """Run a job on an attachment and return its result.

        :raises Unreadable: when the job rejects the file, with a text for the model.
        :raises AsideError: when the job exceeds a limit or fails.
        :raises StorageError: when the bytes cannot be read.
        """
        reader = self._attachments.open_reader(row, 0, row.size_bytes)
        try:
            source = reader.descriptor
            if source is None and row.size_bytes > _MAX_READ_BYTES:
                raise Unreadable(f"it is larger than {_MAX_READ_BYTES // 2**20} MiB")
            return self._aside.run(
                job,
                partial(self._attachments.read_bytes, row, row.size_bytes)
                if source is None
                else source,
                arguments,
                key=row.sha256,
                owner=row.key_id or "",
                cancel=cancel,
            )
        finally:
            reader.close()

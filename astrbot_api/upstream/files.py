"""File transfers between this server and an AstrBot."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing

from ..agent.cancel import Cancellation
from ..db.attachments import AttachmentRow
from ..errors import AstrBotError, ProviderError
from ..files.attachments import Attachments, Readable
from ..runtime.lru_cache import LruCache
from ..runtime.outbound import Call
from .client import AstrBotClient, UpstreamFile
from .reading import UpstreamAttachment
from .transport import UpstreamError

log = logging.getLogger(__name__)

#: Maximum number of remembered uploads, and their lifetime in seconds. AstrBot may delete files.
_MAX_UPLOADS = 1000
_UPLOAD_KEPT_S = 3600.0

_PIECE_BYTES = 64 * 1024


class ExchangedFiles:
    """Transfers the files of messages and answers. Equal bytes are uploaded once."""

    def __init__(self, attachments: Attachments) -> None:
        self._attachments = attachments
        self._uploads = LruCache[tuple[str, str], tuple[str, float]](_MAX_UPLOADS)

    def upload(
        self, client: AstrBotClient, place: str, row: AttachmentRow, cancel: Cancellation
    ) -> str:
        """Return AstrBot's id of a file, after an upload if necessary.

        :raises ProviderError: if the upload fails.
        """
        key = (place, f"{row.sha256} {row.name}")
        known, uploaded_at = self._uploads.get(key) or ("", 0.0)
        if known and time.monotonic() - uploaded_at < _UPLOAD_KEPT_S:
            return known
        # 4.25 stores the files of all users under their names: the later one replaces the earlier.
        name = f"{row.sha256[:16]}_{row.name}"
        with closing(self._attachments.open_reader(row, 0, row.size_bytes)) as reader:
            chunks = iter(lambda: reader.read(_PIECE_BYTES), b"")
            try:
                with Call(cancel) as call:
                    there = client.upload(
                        UpstreamFile(name, row.mime, row.size_bytes, chunks), call
                    )
            except UpstreamError as error:
                raise ProviderError(
                    f"The file {row.name} could not be uploaded to AstrBot: {error}"
                ) from error
        self._uploads.put(key, (there, time.monotonic()))
        return there

    def fetch(
        self,
        client: AstrBotClient,
        file: UpstreamAttachment,
        receive: Callable[[Readable, str], object],
        cancel: Cancellation,
    ) -> bool:
        """Store a file of an answer. After a failure, only this file is missing.

        :param receive: Stores the bytes under the given name.
        :returns: Whether the file is stored.
        """
        try:
            with Call(cancel) as call, closing(client.open_file(file.id, call)) as answer:
                receive(answer, file.name)
                return True
        except (AstrBotError, OSError) as error:
            cancel.raise_if_cancelled()
            log.warning("a file of AstrBot's answer could not be fetched: %s", error)
            return False

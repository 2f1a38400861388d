"""Files that tools send in the middle of a turn."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from ..attachments import Attachments
from ..db.attachments import AttachmentRow
from ..errors import AstrBotError, ToolError


class FileOutbox:
    """Takes files from tools, whichever thread they run in, for the run's own thread.

    :param key_id: The key whose uploads they count as.
    """

    def __init__(self, attachments: Attachments, key_id: str | None) -> None:
        self._attachments = attachments
        self._key_id = key_id
        self._sent: deque[AttachmentRow] = deque()

    def send(self, source: Path | str | bytes, filename: str) -> str:
        """Store a file and have it shown; return its attachment id.

        :param source: A path, or the bytes themselves.
        :raises ToolError: when it cannot be read or stored, for the model.
        """
        content = Path(source) if isinstance(source, str) else source
        try:
            row = self._attachments.store_bytes(content, filename, self._key_id)
        except (AstrBotError, OSError) as error:
            raise ToolError(f"the file {filename} could not be sent: {error}") from error
        self._sent.append(row)
        return row.attachment_id

    def take_all(self) -> list[AttachmentRow]:
        """Return what was sent since the last call, in order."""
        taken = []
        while self._sent:
            taken.append(self._sent.popleft())
        return taken

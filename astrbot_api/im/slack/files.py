"""The files of Slack's messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..adapter import FileType, InFile

_TYPES: dict[str, FileType] = {"image": "image", "audio": "record", "video": "video"}


def list_files(message: dict[str, Any]) -> Iterator[InFile]:
    """Return the files of a message, or of one that was shared."""
    for file in message.get("files") or ():
        url = file.get("url_private_download") or file.get("url_private")
        # A file of a channel that is shared between companies is named by its id alone.
        if file.get("file_access") == "check_file_info":
            url = file.get("id")
        # Others are tombstones, or lie at another service.
        if url and not file.get("is_external"):
            kind = str(file.get("mimetype") or "").partition("/")[0]
            name = str(file.get("name") or file.get("title") or "file")
            yield InFile(_TYPES.get(kind, "file"), name, str(url))

"""Files in Slack messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..adapter import FileType, InFile

_TYPES: dict[str, FileType] = {"image": "image", "audio": "record", "video": "video"}


def list_files(message: dict[str, Any]) -> Iterator[InFile]:
    """Yield the files of a message or of a shared message."""
    for file in message.get("files") or ():
        url = file.get("url_private_download") or file.get("url_private")
        # A file of a channel shared between workspaces has only an id.
        if file.get("file_access") == "check_file_info":
            url = file.get("id")
        # Skip tombstones and files at external services.
        if url and not file.get("is_external"):
            kind = str(file.get("mimetype") or "").partition("/")[0]
            name = str(file.get("name") or file.get("title") or "file")
            yield InFile(_TYPES.get(kind, "file"), name, str(url))

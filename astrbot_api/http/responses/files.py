"""Files in the items of a request, as data or as ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import ApiError, refuse
from ..openai.files import SentFiles, decode_base64
from ..state import get_state
from .items import is_of_user, read_text

FILE_TYPES = ("input_image", "input_file", "input_audio")


class ItemFiles:
    """The files of one request, stored as attachments.

    :param username: Owner of the conversation.
    """

    def __init__(self, username: str) -> None:
        self._files = SentFiles(username)
        self._skipped = 0

    def limit_earlier(self, items: Iterable[Any]) -> None:
        """Let :meth:`read_earlier` read only the newest files with data.

        The client cannot remove the others from its history.

        :param items: The items of the request without its last message, unchecked.
        """
        most = get_state().settings.max_segments
        self._skipped = max(0, sum(map(_count_data, items)) - most)

    def read(self, part: Mapping[str, Any], where: str) -> str:
        """Return the attachment id of a file in the last message, and store its data.

        :raises ApiError: ``invalid_request``, or the error of storing the file.
        """
        if isinstance(part.get("file_id"), str):
            return read_text(part, "file_id", where).strip()
        return self._files.store(*_decode(part, where))

    def read_earlier(self, part: Mapping[str, Any], where: str) -> str | None:
        """Return the attachment id of a file in an earlier item, or None if it is not read.

        Clients send the data again with each request, so data that the user already has is not
        stored again.

        :raises ApiError: the errors of :meth:`read`, with the name of the field.
        """
        if isinstance(part.get("file_id"), str):
            return read_text(part, "file_id", where).strip()
        if not _has_data(part):
            return None
        if self._skipped:
            self._skipped -= 1
            return None
        data, name = _decode(part, where)
        try:
            return self._files.store_once(data, name)
        except ApiError as error:
            raise ApiError(
                error.code, f"{where}: {error.message}", headers=error.headers
            ) from error


def _count_data(item: Any) -> int:
    """Return the number of files with data in an earlier message or in a tool's output."""
    if not isinstance(item, dict):
        return 0
    parts = item.get("output") if item.get("type") == "function_call_output" else None
    if is_of_user(item):
        parts = item.get("content")
    return sum(
        isinstance(part, dict) and part.get("type") in FILE_TYPES
        and not isinstance(part.get("file_id"), str) and _has_data(part)
        for part in (parts if isinstance(parts, list) else ())
    )  # fmt: skip


def _has_data(part: Mapping[str, Any]) -> bool:
    """Return whether a part carries the file's data. URLs of files are not fetched."""
    if part["type"] == "input_image":
        url = part.get("image_url")
        return isinstance(url, str) and url.startswith("data:")
    inner = part.get("input_audio")
    data = inner.get("data") if isinstance(inner, dict) else part.get("file_data")
    return isinstance(data, str) and bool(data)


def _decode(part: Mapping[str, Any], where: str) -> tuple[bytes, str]:
    """Return the data and the name of a file."""
    if part["type"] == "input_image":
        return decode_base64(part.get("image_url"), f"{where}.image_url", must_be_url=True), "image"
    if part["type"] == "input_audio":
        inner = part.get("input_audio")
        if not isinstance(inner, dict):
            raise refuse(f"{where}.input_audio must be an object")
        name = "audio." + ("mp3" if inner.get("format") == "mp3" else "wav")
        return decode_base64(inner.get("data"), f"{where}.input_audio.data"), name
    if part.get("file_data") is None and part.get("file_url") is not None:
        raise refuse(f"{where}.file_url is not supported; send file_data or file_id")
    data = decode_base64(part.get("file_data"), f"{where}.file_data")
    return data, str(part.get("filename") or "file")

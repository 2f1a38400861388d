"""A form with one file, made while it is sent: the file is never in memory."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping

from .adapter import OutFile

_PIECE_BYTES = 256 * 1024

#: What browsers do with what would end a quoted name.
#: Source: the HTML standard, "multipart form data".
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class MultipartBody:
    """The body of a ``multipart/form-data`` request.

    :param fields: The form's other fields.
    :param name: Of the field that holds the file.
    """

    def __init__(self, fields: Mapping[str, str], name: str, file: OutFile) -> None:
        boundary = secrets.token_hex(16)
        head = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in fields.items()
        ]
        head.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; '
            f'filename="{file.filename.translate(_ESCAPES)}"\r\n'
            f"Content-Type: {file.mime}\r\n\r\n"
        )
        self._head = "".join(head).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._file = file
        size_bytes = len(self._head) + file.size_bytes + len(self._tail)
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(size_bytes),
        }

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        yield from iter_file(self._file)
        yield self._tail


def iter_file(file: OutFile) -> Iterator[bytes]:
    """Return the bytes of a file in pieces, exactly as many as it says it has.

    :raises OSError: when it has fewer: the request would never end.
    """
    left = file.size_bytes
    reader = file.open()
    try:
        while left > 0:
            piece = reader.read(min(_PIECE_BYTES, left))
            if not piece:
                raise OSError("a file to send ended too early")
            left -= len(piece)
            yield piece
    finally:
        reader.close()

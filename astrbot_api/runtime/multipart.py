"""Forms with a file (``multipart/form-data``) whose file is never in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from urllib3.filepost import encode_multipart_formdata


class FileForm:
    """A form that is written while it is sent. The file is its last field.

    :param name: Name of the file's field.
    :param iter_bytes: Returns the file in pieces, of ``size_bytes`` in total.
    """

    def __init__(
        self,
        fields: Mapping[str, str],
        name: str,
        *,
        filename: str,
        mime: str,
        size_bytes: int,
        iter_bytes: Callable[[], Iterable[bytes]],
    ) -> None:
        empty, content_type = encode_multipart_formdata({**fields, name: (filename, b"", mime)})
        at = empty.rindex(b"\r\n--")  # the end of the file
        self._head, self._tail = empty[:at], empty[at:]
        self._iter_bytes = iter_bytes
        self.headers = {
            "Content-Type": content_type,
            "Content-Length": str(len(empty) + size_bytes),
        }

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        yield from self._iter_bytes()
        yield self._tail

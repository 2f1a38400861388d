"""Text extraction from mails that Outlook stored (msg), for jobs.

Sources: MS-OXMSG (the names of streams), MS-OXPROPS (the properties).
"""

from __future__ import annotations

import email
import email.policy
import io
import struct
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from ...errors import Unreadable
from ...runtime.decoding import decode
from .pages import read_page

#: Maximum depth of mails within mails, and number of attachments that are named.
_MAX_MAILS = 3
_MAX_ATTACHMENTS = 100

_MAX_STREAM_BYTES = 16 * 2**20

#: Header -> properties with its value; the first one that is set counts.
_HEADERS = {
    "From": ("0C1A", "0042"),
    "To": ("0E04",),
    "Cc": ("0E03",),
    "Date": (),
    "Subject": ("0037",),
}
_ADDRESSES = ("5D01", "0C1F")
_FILE_NAMES = ("3707", "3704", "3001")

_ATTACHMENT = "__attach_version1.0_#"

#: Properties of a fixed length: the time of sending, and the code page of texts in 8 bits.
_SENT = 0x00390040
_CODE_PAGE = 0x3FFD0003


def read_msg(data: bytes) -> str:
    """Return the headers and text of a mail, and the names of its attachments.

    :raises Unreadable: when the reader is not installed.
    """
    try:
        import olefile
    except ImportError as error:
        raise Unreadable("it is a mail of Outlook; ask for it as eml or PDF") from error
    with olefile.OleFileIO(io.BytesIO(data)) as file:
        return "\n".join(_Reader(file).iter_mail((), _MAX_MAILS))


class _Reader:
    """Reads the mail in a compound file, and the mails in its folders."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._charset = f"cp{self._read_fixed(()).get(_CODE_PAGE, 0) & 0xFFFF}"

    def iter_mail(self, folder: Sequence[str], depth: int) -> Iterator[str]:
        head = self._read_text(folder, "007D")
        headers = email.message_from_string(head, policy=email.policy.default)
        for name, properties in _HEADERS.items():
            value = str(headers[name] or self._find_text(folder, properties))
            if name == "Date":
                value = value or self._read_date(folder)
            elif name == "From":
                address = self._find_text(folder, _ADDRESSES)
                is_new = "@" in address and address not in value
                value = f"{value} <{address}>".lstrip() if is_new else value
            if value:
                yield f"{name}: {value}"
        yield ""
        page = self._read_stream(folder, "10130102")
        # Outlook derives the plain text from the page, in which tables are still tables.
        yield read_page(decode(page)[0]) if page else self._read_text(folder, "1000").strip()
        for name in self._list_attachments(folder):
            inner = (*folder, name, "__substg1.0_3701000D")
            is_mail = self._file.exists(inner)
            shown = self._find_text((*folder, name), _FILE_NAMES) or "without a name"
            yield f"[attached: {shown}{', a mail' if is_mail else ''}]"
            if is_mail and depth:
                yield from self.iter_mail(inner, depth - 1)

    def _list_attachments(self, folder: Sequence[str]) -> list[str]:
        at = len(folder)
        paths = self._file.listdir(streams=False, storages=True)
        names = {one[at] for one in paths if len(one) > at and one[:at] == list(folder)}
        return sorted(one for one in names if one.startswith(_ATTACHMENT))[:_MAX_ATTACHMENTS]

    def _find_text(self, folder: Sequence[str], properties: Sequence[str]) -> str:
        found = (self._read_text(folder, one) for one in properties)
        return next((" ".join(text.split()) for text in found if text.strip()), "")

    def _read_text(self, folder: Sequence[str], name: str) -> str:
        wide = self._read_stream(folder, f"{name}001F")
        if wide:
            return wide.decode("utf-16-le", "replace").rstrip("\0")
        return decode(self._read_stream(folder, f"{name}001E"), self._charset)[0].rstrip("\0")

    def _read_stream(self, folder: Sequence[str], name: str) -> bytes:
        return self._read([*folder, f"__substg1.0_{name}"])

    def _read(self, path: Sequence[str]) -> bytes:
        found = self._file.exists(path)
        return self._file.openstream(path).read(_MAX_STREAM_BYTES) if found else b""

    def _read_fixed(self, folder: Sequence[str]) -> dict[int, int]:
        """Return the properties of a fixed length."""
        data = self._read([*folder, "__properties_version1.0"])[24 if folder else 32 :]
        entries = struct.iter_unpack("<IIQ", data[: len(data) // 16 * 16])
        return {tag: value for tag, _, value in entries}

    def _read_date(self, folder: Sequence[str]) -> str:
        ticks = self._read_fixed(folder).get(_SENT)
        if not ticks:
            return ""
        sent = datetime(1601, 1, 1) + timedelta(microseconds=ticks // 10)
        return f"{sent:%Y-%m-%d %H:%M} UTC"

"""Files inside the requests of clients that speak another protocol."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import request

from ...db.attachments import find_same
from ...errors import StorageError, refuse
from ...files.names import clean_name
from ...runtime import decoding
from ...runtime.threads import let_others_run, run_native
from ..auth import get_caller, get_sender
from ..state import get_state

log = logging.getLogger(__name__)

#: Attachments that a request has stored for its turn, in the WSGI environment.
_STORED_KEY = "astrbot_api.sent_files"

#: Length of a text whose percent-encoding is decoded at once: this takes some milliseconds.
_PIECE_CHARS = 64 * 1024


@contextmanager
def discard_files_if_rejected() -> Iterator[None]:
    """Discard the files of a request if the block raises an exception.

    Otherwise each retry of a rejected request would store them again.
    """
    try:
        yield
    except BaseException:
        discard_files()
        raise


def discard_files() -> None:
    """Delete the new files of this request's last message, which no turn uses.

    Files of earlier messages stay: they are stored once, and another request may already use them.
    """
    for row in request.environ.pop(_STORED_KEY, ()):
        try:
            get_state().files.delete(row)
        except StorageError as error:  # `db sweep` deletes it
            log.warning("attachment %s of a request is unused: %s", row.attachment_id, error)


class SentFiles:
    """Stores the files of one request as attachments of its key.

    :param username: Owner of the conversation.
    """

    def __init__(self, username: str) -> None:
        self._username = username

    def store(self, data: bytes, name: str) -> str:
        """Store a file of the last message and return its attachment id.

        :raises ApiError: the error of storing the file.
        """
        row = get_state().files.store_bytes(data, name, get_sender())
        request.environ.setdefault(_STORED_KEY, []).append(row)
        return row.attachment_id

    def store_once(self, data: bytes, name: str) -> str:
        """Return the attachment id of a file that the client sends with each request.

        :raises ApiError: the error of storing the file, if the user does not have it already.
        """
        state, sender = get_state(), get_sender()
        sha256 = run_native(hashlib.sha256, data).hexdigest()
        with state.db.read() as db:
            row = find_same(
                db, sha256=sha256, name=clean_name(name), creator=self._username,
                key_id=sender.key_id, username=sender.username,
                session_id=get_caller().rules.session_id,
            )  # fmt: skip
        return (row or state.files.store_bytes(data, name, sender)).attachment_id


def decode_base64(value: Any, where: str, *, must_be_url: bool = False) -> bytes:
    """Return the data of base64, or of a ``data:`` URL. Other URLs are never fetched.

    Source: RFC 2397: names are case-insensitive, and any byte may be percent-encoded.
    """
    if isinstance(value, str):
        head, comma, rest = value.partition(",")
        if comma and head[:5].lower() == "data:":
            if not head.lower().endswith(";base64"):
                return _unquote(rest)
            value, must_be_url = _unquote(rest).decode("latin-1") if "%" in rest else rest, False
        if not must_be_url:
            with suppress(ValueError):
                return decoding.decode_base64(value)
    raise refuse(f"{where} must be base64 in a data: URL; other URLs are not fetched")


def _unquote(text: str) -> bytes:
    """Decode percent-encoding, and let other greenlets run between the pieces of a long text."""
    pieces, at = [], 0
    while at < len(text):
        end = at + _PIECE_CHARS
        begun = text.find("%", end - 2, end)  # an escape that continues in the next piece
        end = end if begun < 0 else begun
        pieces.append(unquote_to_bytes(text[at:end]))
        at = end
        let_others_run()
    return b"".join(pieces)

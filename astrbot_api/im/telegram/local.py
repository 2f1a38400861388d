"""Files of a Bot API server that runs with ``--local``: it names them by paths of its own disk.

Source: https://core.telegram.org/bots/api#using-a-local-bot-api-server
"""

from __future__ import annotations

import os
import re
import stat
from io import FileIO
from pathlib import Path

from ...deliveries.http import PlatformError
from ...files.storage.protocol import BlobReader
from ...runtime.threads import run_disk


def is_plain(path: str) -> bool:
    """Say whether a relative path leads nowhere else."""
    # The extension is the sender's: ``file_3.c++``.
    plain = re.fullmatch(r"[^\x00-\x1f\x7f\\]+", path)
    return bool(plain) and {"", ".", ".."}.isdisjoint(path.split("/"))


def split_local(path: str, token: str) -> tuple[Path, str]:
    """Split an absolute path into the bot's folder, which has the token's name, and the rest.

    :raises PlatformError: for any other path: the server must not choose what is read here.
    """
    folder, found, rest = path.partition(f"/{token}/")
    if not found or not is_plain(rest):
        raise PlatformError("Telegram named a file outside of the bot's own folder.")
    return Path(folder) / token, rest


def open_local(folder: Path, path: str) -> BlobReader | None:
    """Open a file where the server's disk is this machine's.

    :returns: None where there is no such file here: it may be served over HTTP.
    :raises PlatformError: when it is not a file of that folder, or may not be read.
    """
    # Without the path in the words: the token is part of it.
    try:
        return run_disk(_open, folder, path)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or "no regular file"
        message = f"A file of the local Bot API server cannot be read here: {reason}."
        raise PlatformError(message) from None


def _open(folder: Path, path: str) -> BlobReader:
    real = (folder / path).resolve(strict=True)
    if not real.is_relative_to(folder.resolve(strict=True)):
        raise OSError("a link that leads out of the folder")
    # A pipe would never end.
    descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("no regular file")
    return _LocalFile(FileIO(descriptor))


class _LocalFile:
    def __init__(self, file: FileIO) -> None:
        self._file = file

    def read(self, size_bytes: int, /) -> bytes:
        """Return the next bytes, read in a native thread."""
        data: bytes = run_disk(os.read, self._file.fileno(), size_bytes)
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

"""Files of a Bot API server in ``--local`` mode, which returns paths on its own disk.

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
    """Return whether a relative path stays inside its folder."""
    # The sender chooses the extension, as in ``file_3.c++``.
    plain = re.fullmatch(r"[^\x00-\x1f\x7f\\]+", path)
    return bool(plain) and {"", ".", ".."}.isdisjoint(path.split("/"))


def split_local(path: str, token: str) -> tuple[Path, str]:
    """Split an absolute path into the bot's folder, named after the token, and the rest.

    :raises PlatformError: for other paths. The server must not choose which files are read here.
    """
    folder, found, rest = path.partition(f"/{token}/")
    if not found or not is_plain(rest):
        raise PlatformError("Telegram returned a file path outside the bot's own folder.")
    return Path(folder) / token, rest


def open_local(folder: Path, path: str) -> BlobReader | None:
    """Open a file, if the Bot API server's disk is also on this machine.

    :returns: None if there is no such file. The server may offer it over HTTP.
    :raises PlatformError: if the path leaves the folder, is no regular file or is not readable.
    """
    # The message omits the path, which contains the token.
    try:
        return run_disk(_open, folder, path)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or "it is not a regular file"
        message = f"Cannot read a file of the local Bot API server: {reason}."
        raise PlatformError(message) from None


def _open(folder: Path, path: str) -> BlobReader:
    real = (folder / path).resolve(strict=True)
    if not real.is_relative_to(folder.resolve(strict=True)):
        raise OSError("a link that leads out of the folder")
    # Reading a pipe would never end.
    descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not a regular file")
    return _LocalFile(FileIO(descriptor))


class _LocalFile:
    def __init__(self, file: FileIO) -> None:
        self._file = file

    def read(self, size_bytes: int, /) -> bytes:
        """Return the next bytes. Reads in a native thread."""
        data: bytes = run_disk(os.read, self._file.fileno(), size_bytes)
        return data

    def close(self) -> None:
        self._file.close()

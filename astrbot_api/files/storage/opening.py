"""Opening of the configured storage, and the check of ``/readyz`` and ``astrbot-api doctor``."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

from ...config.settings import Settings
from ...errors import SettingsError, StorageError
from ...runtime.threads import run_disk
from .protocol import Storage

_S3 = "s3://"

#: Size of the check's file: one block of a disk, which a full disk refuses.
_BLOCK_BYTES = 4096


def open_storage(settings: Settings) -> Storage:
    """Return the configured storage, without connecting to it.

    :raises SettingsError: when S3 is configured and boto3 is not installed.
    """
    from .local import LocalStorage

    if not settings.storage_url:
        return LocalStorage(settings.files_dir)
    try:
        from .s3 import S3Storage
    except ImportError as error:
        raise SettingsError(
            "ASTRBOT_STORAGE_URL names S3, which needs boto3: pip install 'astrbot-api[s3]'"
        ) from error
    bucket, _, prefix = settings.storage_url.removeprefix(_S3).partition("/")
    return S3Storage(bucket, prefix.strip("/"))


def check_storage(storage: Storage, folder: Path) -> None:
    """Write a small file as an upload does, and delete it.

    :param folder: Folder of temporary files. It is not created, because the doctor may run as
        another user than the server. If it is missing, its parent folders are tried.
    :raises StorageError: names the folder and the remedy.
    """
    path = None
    try:
        path = run_disk(_write, folder)
        storage.check(path)
    except OSError as error:
        name = error.filename2 or error.filename
        at = Path(name).parent if name else folder
        raise StorageError(
            f"files cannot be stored in {at}: {error.strerror or error}. It must be a folder that "
            "the server's user may write, on a disk with free space"
        ) from error
    finally:
        if path is not None:
            run_disk(_remove, path)


def _write(folder: Path) -> Path:
    """Write a file into the folder, or into the first parent that exists, and return its path."""
    path = folder / f"check-{uuid.uuid4().hex}"
    try:
        with open(path, "xb", buffering=0) as file:
            file.write(bytes(_BLOCK_BYTES))
    except FileNotFoundError:
        # A link to a missing folder, for example an unmounted disk, breaks uploads.
        if folder.is_symlink() or folder == folder.parent:
            raise
        return _write(folder.parent)
    except OSError:
        _remove(path)
        raise
    return path


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()

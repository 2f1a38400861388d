"""Creation of the configured storage."""

from __future__ import annotations

from ...config.settings import Settings
from ...errors import SettingsError
from .protocol import Storage

_S3 = "s3://"


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

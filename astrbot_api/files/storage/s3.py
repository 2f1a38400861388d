"""Storage in an S3-compatible object store."""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ...errors import StorageError
from .protocol import StoredBlob, relative_path

log = logging.getLogger(__name__)

#: Timeouts of seconds, because a caller waits. More connections are opened, but not kept.
#: Over TLS, boto3 writes checksums into the body, which other stores than Amazon's may keep as a
#: part of the file. Only buckets with Object Lock need them.
_CONFIG = Config(
    connect_timeout=5, read_timeout=30, retries={"max_attempts": 3, "mode": "standard"},
    max_pool_connections=50,
    request_checksum_calculation=os.environ.get(
        "AWS_REQUEST_CHECKSUM_CALCULATION", "when_required"
    ),
)  # fmt: skip

#: Parts of a large upload are sent in sequence, so only one part is in memory.
_TRANSFER = TransferConfig(use_threads=False, multipart_chunksize=8 * 1024 * 1024)

#: Name of a blob that cannot exist. A working bucket reports it as missing.
_NO_BLOB = f"{'0' * 64}-{'0' * 12}"

_REMEDY = "Check ASTRBOT_STORAGE_URL, the AWS variables and this machine's clock"

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})


class S3Storage:
    """A bucket. boto3's settings define region, endpoint (``AWS_ENDPOINT_URL``) and credentials.

    :param bucket: Name of an existing bucket.
    :param prefix: Prefix of all keys. May be empty.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._lock = threading.Lock()
        self._known: Any = None

    def save(self, path: Path, blob: str) -> None:
        """Upload a file atomically."""
        with _translate_errors():
            self._client().upload_file(str(path), self._bucket, self._key(blob), Config=_TRANSFER)

    def open(self, blob: str, start: int, length: int) -> StoredBlob:
        """Request a part of an object. Its bytes are streamed."""
        if length == 0:
            return _Body(io.BytesIO())  # HTTP cannot request an empty range
        with _translate_errors():
            answer = self._client().get_object(
                Bucket=self._bucket,
                Key=self._key(blob),
                Range=f"bytes={start}-{start + length - 1}",
            )
        return _Body(answer["Body"])

    def delete(self, blob: str) -> None:
        """Delete an object. S3 ignores missing objects."""
        with _translate_errors():
            self._client().delete_object(Bucket=self._bucket, Key=self._key(blob))

    def size(self, blob: str) -> int | None:
        try:
            with _translate_errors():
                answer = self._client().head_object(Bucket=self._bucket, Key=self._key(blob))
        except FileNotFoundError:
            return None
        return int(answer["ContentLength"])

    def check(self, path: Path) -> None:
        """Check that the bucket responds. Nothing is stored, because each PUT is paid for.

        A GET, because an error in response to a HEAD has no code, and a missing bucket looks like a
        missing object.
        """
        with suppress(FileNotFoundError), _translate_errors(logged=False):
            self._client().get_object(Bucket=self._bucket, Key=self._key(_NO_BLOB))

    def close(self) -> None:
        """Close the connections. The next call opens new ones."""
        with self._lock:
            if self._known is not None:
                self._known.close()
                self._known = None

    def _key(self, blob: str) -> str:
        path = relative_path(blob)
        return f"{self._prefix}/{path}" if self._prefix else path

    def _client(self) -> Any:
        # Created on first use, so that each worker has its own connections
        # and startup connects to nothing.
        with self._lock:
            if self._known is None:
                self._known = boto3.session.Session().client("s3", config=_CONFIG)
            return self._known


class _Body:
    """A response body that raises StorageError."""

    descriptor = None

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, size_bytes: int, /) -> bytes:
        with _translate_errors():
            data: bytes = self._body.read(size_bytes)
        return data

    def close(self) -> None:
        self._body.close()


@contextmanager
def _translate_errors(*, logged: bool = True) -> Iterator[None]:
    """Translate boto3's errors into errors without bucket and key names.

    :param logged: Whether the cause is logged for the operator.
    """
    try:
        yield
    # ValueError: an address without http:// in AWS_ENDPOINT_URL.
    except (ClientError, BotoCoreError, boto3.exceptions.Boto3Error, ValueError) as error:
        # A failed upload is an error of another kind, raised while the response was handled.
        cause: Any = error if isinstance(error, ClientError) else error.__context__
        answered = isinstance(cause, ClientError)
        code = str(cause.response.get("Error", {}).get("Code", "")) if answered else ""
        if code in _MISSING:
            raise FileNotFoundError(code) from error
        what = f"returned {code}" if answered else "cannot be reached"
        made = StorageError(f"The object store {what}. Try again later.")
        made.operator_text = f"object store: {' '.join(str(error).split())}. {_REMEDY}"
        if logged:
            log.error("%s", made.operator_text)
        raise made from error

"""S3 storage has the same four methods, with a fake server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from werkzeug.serving import make_ssl_devcert
from werkzeug.wrappers import Request, Response

from astrbot_api.config.loading import load_settings
from astrbot_api.db.attachments import new_blob
from astrbot_api.db.sqlite_store import SqliteStore
from astrbot_api.errors import StorageError
from astrbot_api.files.attachments import Attachments
from astrbot_api.files.storage.opening import check_storage, open_storage
from astrbot_api.files.storage.protocol import Storage

from ..servers import serve

SHA = "ab" * 32


@pytest.fixture
def storage(s3_environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    for name, value in s3_environ.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="storage")  # the other one is shared with other tests
    settings = load_settings({"storage_url": "s3://storage/some/prefix/"}, environ={})
    made = open_storage(settings)
    yield made
    found = client.list_objects_v2(Bucket="storage").get("Contents", [])
    assert all(one["Key"].startswith("some/prefix/") for one in found)
    for one in found:
        client.delete_object(Bucket="storage", Key=one["Key"])
    client.close()
    made.close()  # type: ignore[attr-defined]


def test_bytes_are_kept_read_in_part_and_deleted(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)
    blob = new_blob(SHA)
    assert storage.size(blob) is None
    storage.save(path, blob)
    assert storage.size(blob) == 256_000
    reader = storage.open(blob, 255, 3)
    assert (reader.read(2), reader.read(9), reader.read(9)) == (b"\xff\x00", b"\x01", b"")
    reader.close()
    assert storage.open(blob, 0, 0).read(1) == b""
    storage.delete(blob)
    storage.delete(blob)
    assert storage.size(blob) is None
    with pytest.raises(FileNotFoundError):
        storage.open(blob, 0, 1)


def test_a_large_file_goes_in_parts(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(9 * 1024 * 1024))
    storage.save(path, blob := new_blob(SHA))
    assert storage.size(blob) == path.stat().st_size


def test_a_store_that_is_not_amazons_gets_only_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto3 adds checksums to bodies over TLS, which older stores keep as a part of the file."""
    tls = make_ssl_devcert(str(tmp_path / "tls"), host="localhost")
    bodies = []

    @Request.application
    def keep(request: Request) -> Response:
        bodies.append(request.get_data())
        return Response()

    with serve(keep, ssl_context=tls) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url.replace("http://127.0.0.1", "https://localhost"))
        monkeypatch.setenv("AWS_CA_BUNDLE", tls[0])
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        other = open_storage(load_settings({"storage_url": "s3://storage"}, environ={}))
        (tmp_path / "file").write_bytes(b"some bytes")
        other.save(tmp_path / "file", new_blob(SHA))
        other.close()  # type: ignore[attr-defined]
    assert bodies == [b"some bytes"]


def test_attachments_lie_in_the_bucket_alone(storage: Storage, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "astrbot.db")
    store.upgrade()
    attachments = Attachments(load_settings({"data_dir": tmp_path}, environ={}), store, storage)
    data = b"\x89PNG\r\n\x1a\n" + bytes(600_000)
    row = attachments.store_bytes(data, "a.png")
    assert storage.size(row.blob) == len(data)
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []
    assert attachments.read_bytes(row, 10**9) == data
    assert attachments.delete(row)
    assert storage.size(row.blob) is None
    store.close()


def test_a_missing_bucket_is_reported_without_its_name(storage: Storage, tmp_path: Path) -> None:
    other = open_storage(load_settings({"storage_url": "s3://absent"}, environ={}))
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StorageError) as caught:
        other.save(tmp_path / "file", new_blob(SHA))
    assert "absent" not in str(caught.value)
    with pytest.raises(StorageError, match="returned NoSuchBucket"):
        check_storage(other, tmp_path / "files" / "tmp")
    other.close()  # type: ignore[attr-defined]


def test_an_upload_restores_bytes_that_somebody_has_deleted(
    storage: Storage, tmp_path: Path
) -> None:
    store = SqliteStore(tmp_path / "astrbot.db")
    store.upgrade()
    attachments = Attachments(load_settings({"data_dir": tmp_path}, environ={}), store, storage)
    first = attachments.store_bytes(b"same", "a.txt")
    storage.delete(first.blob)
    with pytest.raises(StorageError, match="cannot be read"):
        attachments.read_bytes(first, 10)
    second = attachments.store_bytes(b"same", "b.txt")
    assert [attachments.read_bytes(one, 10) for one in (first, second)] == [b"same", b"same"]
    store.close()


def test_the_log_names_why_an_upload_was_refused(
    storage: Storage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = open_storage(load_settings({"storage_url": "s3://absent"}, environ={}))
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StorageError, match="returned NoSuchBucket"):
        other.save(tmp_path / "file", new_blob(SHA))
    assert "(NoSuchBucket)" in caplog.text
    assert "Check ASTRBOT_STORAGE_URL" in caplog.text
    other.close()  # type: ignore[attr-defined]


def test_a_check_sends_nothing_to_the_bucket(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(storage), "save", None)
    check_storage(storage, tmp_path / "files" / "tmp")
    assert boto3.client("s3").list_objects_v2(Bucket="storage")["KeyCount"] == 0
    assert list(tmp_path.iterdir()) == []


def test_an_object_store_that_is_down_is_a_storage_error(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    other = open_storage(load_settings({"storage_url": "s3://storage"}, environ={}))
    with pytest.raises(StorageError, match="cannot be reached"):
        other.size(new_blob(SHA))
    with pytest.raises(StorageError, match="cannot be reached"):
        check_storage(other, tmp_path)
    other.close()  # type: ignore[attr-defined]

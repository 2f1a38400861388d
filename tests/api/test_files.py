"""Attachments over HTTP: uploads can be downloaded unchanged."""

from __future__ import annotations

import hashlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrbot_api.db.attachment_uses import link_attachments
from astrbot_api.files.incoming import Incoming
from astrbot_api.files.storage.local import LocalStorage

from .conftest import Api
from .uploading import (
    PNG,
    MakeApi,
    assert_nothing_is_left,
    delete,
    error_of,
    get,
    multipart,
    post,
    stored_files,
    upload,
)


@pytest.mark.parametrize("path", ["/api/v1/file", "/api/v1/files"])
def test_a_download_returns_the_uploaded_bytes(api: Api, path: str) -> None:
    data = bytes(range(256)) * 5000
    answer = post(api, multipart(data, "猫.bin".encode()), path).get_json()["data"]
    assert answer == {
        "attachment_id": answer["attachment_id"], "filename": "猫.bin", "type": "file",
        "stored_filename": f"{answer['attachment_id']}.bin",
    }  # fmt: skip
    assert get(api, answer["attachment_id"]).get_data() == data
    content = api.get(f"/api/v1/files/{answer['attachment_id']}/content")
    assert content.get_data() == data


def test_an_empty_file_can_be_uploaded(api: Api) -> None:
    found = get(api, upload(api, b"")["attachment_id"])
    assert (found.status_code, found.get_data()) == (200, b"")


def test_the_same_bytes_are_stored_once(api: Api) -> None:
    first, second = upload(api, PNG, b"a.png"), upload(api, PNG, b"b.png")
    assert first["attachment_id"] != second["attachment_id"]
    assert len(stored_files(api)) == 1
    assert delete(api, first["attachment_id"]).status_code == 200
    assert get(api, second["attachment_id"]).get_data() == PNG
    delete(api, second["attachment_id"])
    assert_nothing_is_left(api)


def test_the_same_name_overwrites_nothing(api: Api) -> None:
    first, second = upload(api, b"one", b"a.txt"), upload(api, b"two", b"a.txt")
    assert get(api, first["attachment_id"]).get_data() == b"one"
    assert get(api, second["attachment_id"]).get_data() == b"two"


def test_the_type_comes_from_the_bytes(api: Api) -> None:
    assert upload(api, PNG, b"a.txt")["type"] == "image"
    assert upload(api, b"text", b"a.png")["type"] == "file"


@pytest.mark.parametrize("room", [0, 1])
def test_a_file_may_have_the_size_limit_but_not_more(make_api: MakeApi, room: int) -> None:
    api = make_api(ASTRBOT_MAX_FILE_BYTES=500_000)
    answer = post(api, multipart(bytes(500_001 - room)))
    if room:
        assert answer.status_code == 200
        return
    assert error_of(answer) == (413, "body_too_large")
    assert "500000 bytes (ASTRBOT_MAX_FILE_BYTES)" in answer.get_json()["message"]
    assert_nothing_is_left(api)


class _Unread(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        raise AssertionError("the body was read")


def test_a_body_declared_too_large_is_rejected_unread(make_api: MakeApi) -> None:
    api = make_api(ASTRBOT_MAX_FILE_BYTES=1000)
    overrides = {"wsgi.input": _Unread(), "CONTENT_LENGTH": "100000000"}
    answer = post(api, b"", environ_overrides=overrides)
    assert error_of(answer) == (413, "body_too_large")


@pytest.mark.parametrize("where", ["file", "note"])
def test_a_body_without_a_length_is_rejected_at_the_limit(make_api: MakeApi, where: str) -> None:
    api = make_api(ASTRBOT_MAX_FILE_BYTES=1000)
    body = io.BytesIO(multipart(bytes(5_000_000)).replace(b'"file"', f'"{where}"'.encode()))
    overrides = {"wsgi.input": body, "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    answer = post(api, b"", environ_overrides=overrides)
    assert error_of(answer) == (413, "body_too_large")
    assert_nothing_is_left(api)


def test_a_key_cannot_exceed_its_upload_bytes(make_api: MakeApi) -> None:
    api = make_api(ASTRBOT_MAX_BYTES_PER_KEY=1000)
    first = upload(api, bytes(600))
    answer = post(api, multipart(bytes(401)))
    assert error_of(answer) == (413, "quota_exceeded")
    assert "1000 bytes (ASTRBOT_MAX_BYTES_PER_KEY)" in answer.get_json()["message"]
    # Identical bytes count each time, so that uploads of others stay unknown.
    assert error_of(post(api, multipart(bytes(600)))) == (413, "quota_exceeded")
    upload(api, bytes(400))
    delete(api, first["attachment_id"])
    upload(api, bytes(600))
    assert len(stored_files(api)) == 2


def test_every_key_has_its_own_upload_bytes(make_api: MakeApi) -> None:
    api = make_api(ASTRBOT_MAX_BYTES_PER_KEY=1000)
    upload(api, bytes(1000))
    api.key = api.create_key("file")
    upload(api, bytes(1000))


def test_disallowed_types_are_rejected(make_api: MakeApi) -> None:
    api = make_api(ASTRBOT_ALLOWED_FILE_TYPES="image,record")
    upload(api, PNG)
    answer = post(api, multipart(b"text"))
    assert error_of(answer) == (415, "unsupported_media_type")
    assert "image, record (ASTRBOT_ALLOWED_FILE_TYPES)" in answer.get_json()["message"]
    assert len(stored_files(api)) == 1


@pytest.mark.parametrize("cut", [20, 80, 300_000, -3])
def test_an_interrupted_upload_leaves_nothing(api: Api, cut: int) -> None:
    answer = post(api, multipart(bytes(600_000))[:cut])
    assert answer.status_code == 400
    assert_nothing_is_left(api)


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"--B\r\n\r\n\r\n--B--",
        b"--B\nContent-Disposition: form-data\n\nx\n--B--",
        b"--B\r\n" + b"X-A: b\r\n" * 100 + b"\r\n--B--\r\n",
        b"--B\r\nX: " + b"x" * 1_000_000,
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
        b"Content-Length: 1\r\n\r\nabc\r\n--B--\r\n",
    ],
)
def test_a_malformed_body_is_a_clear_400(api: Api, body: bytes) -> None:
    assert error_of(post(api, body)) == (400, "invalid_request")
    assert_nothing_is_left(api)


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary="],
)
def test_without_a_multipart_body_the_file_is_missing(api: Api, content_type: str) -> None:
    headers = {"X-API-Key": api.key, "Content-Type": content_type}
    answer = api.client.post("/api/v1/file", data=multipart(b"x"), headers=headers)
    assert (answer.status_code, answer.get_json()["message"]) == (400, "Missing key: file")


def test_only_the_first_file_of_the_field_is_stored(api: Api) -> None:
    body = multipart(b"one", b"1", end=b"\r\n") + multipart(b"two", b"2")
    found = post(api, body).get_json()["data"]
    assert found["filename"] == "1"
    assert get(api, found["attachment_id"]).get_data() == b"one"
    assert api.count_rows("attachment") == 1


def test_a_full_disk_is_a_503_that_leaves_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device", "/secret/path")

    monkeypatch.setattr(Incoming, "_keep", fail)
    answer = post(api, multipart(b"x"))
    assert error_of(answer) == (503, "storage_error")
    assert b"secret" not in answer.get_data()
    assert_nothing_is_left(api)
    monkeypatch.undo()
    monkeypatch.setattr(LocalStorage, "save", fail)
    assert error_of(post(api, multipart(b"x"))) == (503, "storage_error")
    assert_nothing_is_left(api)


def test_metadata_is_returned_without_the_bytes(api: Api) -> None:
    found = upload(api, PNG, b"dot.png")["attachment_id"]
    path, headers = f"/api/v1/files/{found}", {"X-API-Key": api.key}
    for accepted in ("*/*", "image/png, application/json"):
        given = api.client.get(path, headers={**headers, "Accept": accepted})
        assert given.get_data() == PNG
    accepting = {**headers, "Accept": "application/json, */*"}
    data = api.client.get(path, headers=accepting).get_json()["data"]
    assert data.pop("stored_filename") == f"{found}.png"
    assert data.pop("created_at").endswith("+00:00")
    assert data == {
        "attachment_id": found,
        "filename": "dot.png",
        "type": "image",
        "mime_type": "image/png",
        "size_bytes": len(PNG),
        "sha256": hashlib.sha256(PNG).hexdigest(),
    }


def test_an_attachment_in_use_is_only_deleted_with_force(api: Api) -> None:
    found = upload(api, PNG)["attachment_id"]
    row = api.state.files.get(found)
    api.state.db.write(lambda db: link_attachments(db, 7, [row.id, row.id]))
    assert error_of(delete(api, found)) == (409, "attachment_in_use")
    assert error_of(delete(api, found, "?force=perhaps")) == (400, "invalid_request")
    assert get(api, found).get_data() == PNG
    answer = delete(api, found, "?force=true")
    assert answer.get_json()["data"] == {"attachment_id": found}
    assert_nothing_is_left(api)
    assert api.count_rows("message_attachment") == 0


@pytest.mark.parametrize("path", ["/file?attachment_id=nope", "/files/nope", "/files/nope/content"])
def test_an_unknown_attachment_is_a_404(api: Api, path: str) -> None:
    answer = api.get("/api/v1" + path)
    assert error_of(answer) == (404, "attachment_not_found")
    assert answer.get_json()["message"] == "Attachment not found"
    assert error_of(delete(api, "nope")) == (404, "attachment_not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/file"), ("GET", "/file"), ("GET", "/files/x"), ("DELETE", "/files/x")],
)
def test_every_route_needs_the_scope(api: Api, method: str, path: str) -> None:
    headers = {"X-API-Key": api.create_key("chat", "im", "config")}
    answer = api.client.open("/api/v1" + path, method=method, headers=headers)
    assert error_of(answer) == (403, "insufficient_scope")


_PIECES = st.one_of(
    # All characters, also surrogates. Naming no codec saves six seconds.
    st.text(st.characters(codec=None), max_size=30),
    st.sampled_from(
        ["../", "..\\", "C:", "/etc/passwd", "\0", ".", "..", " ", '"', "%00", "%2e%2e%2f",
         "\u202e", "\ud800", "\r", "\t", "~", "CON", "名", ".png", ";", "filename*=", "x" * 10_000]
    ),
)  # fmt: skip


def test_no_filename_escapes_the_folder_or_causes_a_500(api: Api) -> None:
    seen = []

    @given(st.lists(_PIECES, max_size=6).map("".join))
    @settings(max_examples=500, database=None)
    def check(name: str) -> None:
        raw = name.encode("utf-8", "surrogatepass").replace(b'"', b'\\"').replace(b"\r", b"")
        data = b"bytes of " + raw
        answer = post(api, multipart(data, raw))
        # A backslash may hide the closing quote; then there is no name.
        assert answer.status_code in (200, 400), answer.get_data()
        if answer.status_code == 200:
            found = answer.get_json()["data"]
            kept = found["filename"]
            assert 0 < len(kept) <= 255
            assert not set(kept) & set("/\\\0\r\n\u202e")
            assert kept.strip(". ")
            got = get(api, found["attachment_id"])
            assert got.get_data() == data
            assert got.headers["Content-Disposition"].isascii()
            seen.append(hashlib.sha256(data).hexdigest())

    check()
    folder = api.state.settings.files_dir
    own = {path for path in api.state.settings.data_dir.rglob("*") if path.is_file()}
    stored = {path for path in own if path.is_relative_to(folder)}
    assert {path.name for path in own - stored} <= {
        "default.toml", "astrbot.db", "astrbot.db-wal", "astrbot.db-shm", "astrbot.db.lock",
        "events.db", "events.db-wal", "events.db-shm", "events.db.lock",
    }  # fmt: skip
    assert {path.name[:64] for path in stored} == set(seen)
    for path in stored:
        assert path.parent == folder / path.name[:2] / path.name[2:4]
    assert len(seen) > 100

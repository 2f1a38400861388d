"""Chunked uploads survive failures of single requests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import peewee
import pytest

from astrbot_api.db import leases
from astrbot_api.db import uploads as rows
from astrbot_api.files import uploads
from astrbot_api.files.storage.local import LocalStorage
from astrbot_api.runtime.clock import now_us

from .conftest import Api
from .uploading import assert_nothing_is_left
from .uploading import post as post_multipart

CHUNK = uploads.CHUNK_BYTES


def post(api: Api, path: str, **body: Any) -> dict[str, Any]:
    answer = api.post(f"/api/v1/files/upload/{path}", json=body)
    found: dict[str, Any] = answer.get_json()
    return {"status": answer.status_code, "code": found.get("code"), **(found["data"] or {})}


def begin(api: Api, data: bytes, **body: Any) -> str:
    begun = post(api, "init", filename="大.bin", total_size=len(data), **body)
    assert begun["status"] == 200
    assert (begun["chunk_size"], begun["total_chunks"]) == (CHUNK, -(-len(data) // CHUNK))
    upload_id: str = begun["upload_id"]
    return upload_id


def send(api: Api, upload_id: str, data: bytes, number: int, **fields: Any) -> dict[str, Any]:
    piece = data[number * CHUNK : (number + 1) * CHUNK]
    form = {"chunk": piece, "upload_id": upload_id, "chunk_index": str(number), **fields}
    body = b"".join(
        b'--B\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        % (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in form.items()
    )
    answer = post_multipart(api, body + b"--B--\r\n", "/api/v1/files/upload/chunk")
    found: dict[str, Any] = answer.get_json()
    return {"status": answer.status_code, "message": found["message"], **(found["data"] or {})}


DATA = bytes(range(256)) * 4096 * 2 + b"the end"


def test_chunks_in_any_order_become_an_attachment(api: Api) -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    upload_id = begin(api, DATA, sha256=digest)
    for number, received in ((2, 1), (0, 2), (0, 2), (1, 3)):
        sent = send(api, upload_id, DATA, number)
        assert (sent["received"], sent["total"], sent["chunk_index"]) == (received, 3, number)
    made = post(api, "complete", upload_id=upload_id)
    assert (made["filename"], made["type"]) == ("大.bin", "file")
    row = api.state.files.get(made["attachment_id"])
    assert (row.sha256, row.size_bytes) == (digest, len(DATA))
    assert api.state.files.read_bytes(row, len(DATA)) == DATA
    assert post(api, "complete", upload_id=upload_id)["code"] == "upload_not_found"


def test_every_worker_knows_the_received_chunks(
    make_api: Callable[..., Api],
) -> None:
    first = make_api()
    upload_id = begin(first, DATA)
    send(first, upload_id, DATA, 1)
    again = make_api(ASTRBOT_DATA_DIR=str(first.state.settings.data_dir))
    again.key = first.key
    status = post(again, "status", upload_id=upload_id)
    assert (status["received_chunks"], status["total_chunks"]) == ([1], 3)
    assert 3500 < status["expires_in"] <= 3600
    assert post(again, "complete", upload_id=upload_id)["code"] == "upload_incomplete"
    for number in (0, 2):
        send(again, upload_id, DATA, number)
    assert post(again, "complete", upload_id=upload_id)["status"] == 200


def test_bytes_with_another_hash_are_rejected_and_can_be_resent(api: Api) -> None:
    data = b"right"
    upload_id = begin(api, data, sha256=hashlib.sha256(data).hexdigest())
    send(api, upload_id, b"wrong", 0)
    assert post(api, "complete", upload_id=upload_id)["code"] == "checksum_mismatch"
    send(api, upload_id, data, 0)
    assert post(api, "complete", upload_id=upload_id)["status"] == 200


def test_a_hash_may_end_with_a_line_break(api: Api) -> None:
    for sha256 in (f"{hashlib.sha256(b'right').hexdigest()}\n", "\n"):
        upload_id = begin(api, b"right", sha256=sha256)
        send(api, upload_id, b"right", 0)
        assert post(api, "complete", upload_id=upload_id)["status"] == 200


def test_a_chunk_with_a_wrong_size_or_number_is_rejected(api: Api) -> None:
    upload_id = begin(api, DATA)
    for number, wrong in ((0, b"short"), (3, b"x"), (2, b"x" * 100)):
        assert send(api, upload_id, DATA, number, chunk=wrong)["status"] == 400
    assert send(api, upload_id, DATA, 0, chunk=DATA)["status"] == 413
    assert send(api, upload_id, DATA, 0, chunk_index="one")["status"] == 400
    assert post(api, "status", upload_id=upload_id)["received_chunks"] == []


def test_an_aborted_upload_leaves_nothing(api: Api) -> None:
    upload_id = begin(api, DATA)
    send(api, upload_id, DATA, 0)
    assert post(api, "abort", upload_id=upload_id)["status"] == 200
    assert post(api, "status", upload_id=upload_id)["code"] == "upload_not_found"
    assert post(api, "abort", upload_id=upload_id)["status"] == 200
    assert send(api, upload_id, DATA, 1)["status"] == 404
    assert [api.count_rows(one) for one in ("file_chunk", "file_upload", "stray_blob")] == [0] * 3


def test_a_full_disk_rejects_a_chunk_and_keeps_nothing_of_it(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device", "/secret/path")

    upload_id = begin(api, DATA)
    monkeypatch.setattr(LocalStorage, "save", fail)
    sent = send(api, upload_id, DATA, 0)
    assert (sent["status"], sent["message"].count("secret")) == (503, 0)
    assert "No space left on device" in caplog.text
    assert_nothing_is_left(api)


def test_an_idle_upload_is_removed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_KEEP_S", -1)
    upload_id = post(api, "init", total_size=5)["upload_id"]
    assert post(api, "status", upload_id=upload_id)["code"] == "upload_not_found"
    api.state.uploads.remove_expired()
    assert api.count_rows("file_upload") == 0


def test_an_upload_of_another_key_is_not_found(api: Api) -> None:
    upload_id = begin(api, DATA)
    mine, api.key = api.key, api.create_key("file")
    assert post(api, "status", upload_id=upload_id)["code"] == "upload_not_found"
    assert send(api, upload_id, DATA, 0)["status"] == 404
    assert post(api, "abort", upload_id=upload_id)["status"] == 200
    api.key = mine
    assert post(api, "status", upload_id=upload_id)["status"] == 200


def test_a_visitor_leaves_places_for_the_uploads_of_others(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_MAX_OPEN", 3)
    monkeypatch.setattr(uploads, "_MAX_OPEN_OF_USER", 1)
    root = api.key

    def begin_as(username: str | None) -> Any:
        api.key = root
        if username is not None:
            made = api.post("/api/v1/keys/session", json={"username": username})
            api.key = made.get_json()["data"]["api_key"]
        return post(api, "init", total_size=1)["code"]

    assert begin_as("alice") is None
    assert begin_as("alice") == "quota_exceeded"  # also with another session key
    assert begin_as("bob") is None
    assert begin_as(None) is None
    assert begin_as(None) == begin_as("carol") == "quota_exceeded"


def test_limits_are_checked_before_the_first_byte(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_MAX_CHUNKED_FILE_BYTES="3000", ASTRBOT_MAX_BYTES_PER_KEY="2500")
    assert post(api, "init", total_size=3001)["code"] == "body_too_large"
    assert post(api, "init", total_size=2000)["status"] == 200
    assert post(api, "init", total_size=2000)["code"] == "quota_exceeded"


@pytest.mark.parametrize("body", [{}, {"total_size": 0}, {"total_size": "x"}, {"total_size": 1.5}])
def test_an_upload_without_a_size_is_rejected(api: Api, body: dict[str, Any]) -> None:
    assert post(api, "init", **body)["status"] == 400


def test_only_one_request_completes_an_upload(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    upload_id = begin(api, b"data")
    send(api, upload_id, b"data", 0)
    seen = []
    join = api.state.uploads._join

    def join_beside(*arguments: Any) -> Any:
        seen.append(post(api, "complete", upload_id=upload_id)["code"])
        return join(*arguments)

    monkeypatch.setattr(uploads.Uploads, "_join", lambda self, *rest: join_beside(*rest))
    assert post(api, "complete", upload_id=upload_id)["status"] == 200
    assert seen == ["idempotency_in_flight"]


@pytest.mark.parametrize("lease_s", [-1, 60])
def test_an_upload_is_only_taken_over_from_a_dead_worker(api: Api, lease_s: int) -> None:
    upload_id = begin(api, b"data")
    send(api, upload_id, b"data", 0)
    held: dict[str, Any] = {"now_us": now_us(), "until_us": now_us() + 10**9, "judge": True}

    def hold(db: peewee.Database) -> bool:
        leases.renew_lease(db, "another", lease_s)
        return rows.begin_completing(db, upload_id, "another", **held)

    assert api.state.db.write(hold)
    code = post(api, "complete", upload_id=upload_id)["code"]
    assert code == ("idempotency_in_flight" if lease_s > 0 else None)


def test_an_upload_can_be_completed_again_after_a_lost_response(api: Api) -> None:
    upload_id = begin(api, DATA)
    for number in range(3):
        send(api, upload_id, DATA, number)
    headers = {"X-API-Key": api.key, "Idempotency-Key": "once"}
    first, again = (
        api.client.post(
            "/api/v1/files/upload/complete", headers=headers, json={"upload_id": upload_id}
        ).get_json()
        for _ in range(2)
    )
    assert first["data"]["filename"] == "大.bin"
    assert again["data"] == first["data"]
    assert api.count_rows("attachment") == 1
    assert post(api, "complete", upload_id=upload_id)["code"] == "upload_not_found"


def test_a_whole_number_may_have_a_decimal_point(api: Api) -> None:
    begun = api.client.post(
        "/api/v1/files/upload/init", headers={"X-API-Key": api.create_key("file")},
        json={"filename": "a.bin", "total_size": 20.0},
    )  # fmt: skip
    assert begun.status_code == 200, begun.get_data()
    wrong = api.client.post(
        "/api/v1/files/upload/init", headers={"X-API-Key": api.create_key("file")},
        json={"filename": "a.bin", "total_size": 20.5},
    )  # fmt: skip
    assert wrong.status_code == 400

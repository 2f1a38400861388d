"""Downloads: ranges, conditional requests, and no content that a browser would execute."""

from __future__ import annotations

import hashlib

import pytest

from astrbot_api.errors import StorageError

from .conftest import Api
from .uploading import HTML, PNG, SVG, MakeApi, error_of, get, stored_files, upload


@pytest.mark.parametrize(
    ("asked", "status", "expected", "content_range"),
    [
        ("bytes=0-4", 206, b"01234", "bytes 0-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-4", 200, b"0123456789", None),
        ("bytes=4-2", 200, b"0123456789", None),
        ("nonsense", 200, b"0123456789", None),
    ],
)
def test_one_range_gets_206_and_other_ranges_get_the_whole_file(
    api: Api, asked: str, status: int, expected: bytes, content_range: str | None
) -> None:
    answer = get(api, upload(api, b"0123456789")["attachment_id"], Range=asked)
    assert (answer.status_code, answer.get_data()) == (status, expected)
    assert answer.headers.get("Content-Range") == content_range
    assert answer.content_length == len(expected)


def test_a_range_beyond_the_end_is_a_416_with_the_size(api: Api) -> None:
    answer = get(api, upload(api, b"0123456789")["attachment_id"], Range="bytes=10-")
    assert error_of(answer) == (416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == "bytes */10"


def test_if_range_applies_only_to_the_same_bytes(api: Api) -> None:
    found = upload(api, b"0123456789")["attachment_id"]
    head = get(api, found, "HEAD")

    def status(condition: str) -> int:
        return get(api, found, Range="bytes=0-1", If_Range=condition).status_code

    assert status(head.headers["ETag"]) == 206
    assert status(head.headers["Last-Modified"]) == 206
    assert status('"other"') == 200
    assert status("W/" + head.headers["ETag"]) == 200
    assert status("Mon, 23 Nov 2020 16:43:50 GMT") == 200
    assert status("nonsense") == 200


def test_a_fresh_copy_is_not_sent_again(api: Api) -> None:
    found = upload(api, PNG)["attachment_id"]
    whole = get(api, found)
    etag = f'"{hashlib.sha256(PNG).hexdigest()}"'
    assert whole.headers["ETag"] == etag
    for condition in (etag, "W/" + etag, "*", f'"x", {etag}'):
        answer = get(api, found, If_None_Match=condition)
        assert (answer.status_code, answer.get_data()) == (304, b"")
        assert answer.headers["ETag"] == etag
    assert get(api, found, If_None_Match='"x"').status_code == 200
    since = whole.headers["Last-Modified"]
    assert get(api, found, If_Modified_Since=since).status_code == 304
    assert get(api, found, If_None_Match='"x"', If_Modified_Since=since).status_code == 200


def test_head_has_all_headers_and_no_body(api: Api) -> None:
    found = upload(api, PNG)["attachment_id"]
    whole, head = get(api, found), get(api, found, "HEAD", Range="bytes=0-1")
    assert head.status_code == 200
    assert head.get_data() == b""
    for name in ("Content-Type", "Content-Length", "ETag", "Accept-Ranges", "Last-Modified"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize(
    ("data", "name", "content_type", "how"),
    [
        (PNG, b"a.html", "image/png", "inline"),
        (b"plain", b"a.txt", "text/plain; charset=utf-8", "inline"),
        (HTML, b"a.html", "text/plain; charset=utf-8", "attachment"),
        (HTML, b"a.txt", "text/plain; charset=utf-8", "inline"),
        (HTML, b"a.png", "text/plain; charset=utf-8", "inline"),
        (SVG, b"a.svg", "text/plain; charset=utf-8", "attachment"),
        (SVG, b"a.xml", "text/plain; charset=utf-8", "attachment"),
        (b"%PDF-1.4\n", b"a.pdf", "application/pdf", "attachment"),
    ],
)
def test_no_file_with_scripts_is_displayed_inline(
    api: Api, data: bytes, name: bytes, content_type: str, how: str
) -> None:
    answer = get(api, upload(api, data, name)["attachment_id"])
    assert answer.headers["Content-Type"] == content_type
    assert answer.headers["Content-Disposition"].startswith(how)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox"


def test_the_filename_is_sent_in_both_forms(api: Api) -> None:
    named = upload(api, b"x", 'ca"f%é 猫.txt'.replace('"', '\\"').encode())
    header = get(api, named["attachment_id"]).headers["Content-Disposition"]
    assert header == (
        "inline; filename=\"ca_f__ _.txt\"; filename*=UTF-8''ca%22f%25%C3%A9%20%E7%8C%AB.txt"
    )


@pytest.mark.parametrize("query", ["", "?attachment_id=", "?attachment_id=%20"])
def test_a_download_names_its_attachment(api: Api, query: str) -> None:
    answer = api.get("/api/v1/file" + query)
    assert (answer.status_code, answer.get_json()["message"]) == (
        400, "Missing key: attachment_id",
    )  # fmt: skip


def test_missing_bytes_are_reported_before_the_first_byte(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = upload(api, PNG)["attachment_id"]
    with monkeypatch.context() as patch:

        def fail(*args: object) -> bytes:
            raise StorageError("The object store cannot be reached.")

        patch.setattr("astrbot_api.files.storage.local._File.read", fail)
        assert error_of(get(api, found)) == (503, "storage_error")
    stored_files(api)[0].write_bytes(b"")
    assert error_of(get(api, found)) == (503, "storage_error")
    stored_files(api)[0].unlink()
    assert error_of(get(api, found)) == (503, "storage_error")


def test_the_error_of_bytes_that_end_too_early_names_the_attachment(api: Api) -> None:
    found = upload(api, PNG)["attachment_id"]
    stored_files(api)[0].write_bytes(PNG[:5])
    with pytest.raises(StorageError, match=found):
        get(api, found).get_data()


def test_nginx_sends_the_bytes_if_configured(make_api: MakeApi) -> None:
    api = make_api(ASTRBOT_ACCEL_REDIRECT_PREFIX="/attachments/")
    found = upload(api, PNG)["attachment_id"]
    answer = get(api, found, Range="bytes=0-1")
    assert answer.get_data() == b""
    path = stored_files(api)[0].relative_to(api.state.settings.files_dir)
    assert answer.headers["X-Accel-Redirect"] == f"/attachments/{path}"
    assert answer.headers["Content-Type"] == "image/png"
    assert get(api, found, If_None_Match="*").status_code == 304


_EXECUTED = {
    "a.js": b"alert(1)", "a.html": b"<script>alert(1)</script>", "a.css": b"*{color:red}",
    "a.xml": b"<?xml version='1.0'?><a/>", "a.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a.xhtml": b"<html xmlns='http://www.w3.org/1999/xhtml'/>", "a.mjs": b"export default 1",
}  # fmt: skip


@pytest.mark.parametrize("name", _EXECUTED)
def test_active_content_is_served_as_text_or_bytes(api: Api, name: str) -> None:
    answer = get(api, upload(api, _EXECUTED[name], name.encode())["attachment_id"])
    assert answer.get_data() == _EXECUTED[name]
    shown = answer.headers["Content-Type"].split(";")[0]
    assert shown in ("text/plain", "application/octet-stream")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize("use", ["script", "style", "worker", "serviceworker", "object", "embed"])
def test_a_file_cannot_be_embedded_in_a_page(api: Api, use: str) -> None:
    found = upload(api, b"alert(1)", b"a.txt")
    path = f"/api/v1/files/{found['attachment_id']}/content"
    answer = api.get(path, headers={"Sec-Fetch-Dest": use})
    assert (answer.status_code, answer.get_json()["code"]) == (403, "use_refused")


def test_a_page_of_another_origin_may_show_a_picture(api: Api) -> None:
    answer = get(api, upload(api, PNG, b"a.png")["attachment_id"], Sec_Fetch_Dest="image")
    assert (answer.status_code, answer.get_data()) == (200, PNG)
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"

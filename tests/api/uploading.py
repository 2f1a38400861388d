"""Helpers to upload to and download from a test application."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from werkzeug.test import TestResponse

from .conftest import Api

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(40)
HTML = b"<script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'

MakeApi = Callable[..., Api]


def multipart(data: bytes, name: bytes = b"a.bin", *, end: bytes = b"\r\n--B--\r\n") -> bytes:
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n'
    return head + data + end


def post(api: Api, body: bytes, path: str = "/api/v1/file", **options: Any) -> TestResponse:
    return api.post(path, data=body, content_type="multipart/form-data; boundary=B", **options)


def upload(api: Api, data: bytes, name: bytes = b"a.bin") -> dict[str, str]:
    answer = post(api, multipart(data, name))
    assert answer.status_code == 200, answer.get_data()
    found: dict[str, str] = answer.get_json()["data"]
    return found


def get(api: Api, attachment_id: str, method: str = "GET", **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.client.open(
        f"/api/v1/file?attachment_id={attachment_id}",
        method=method,
        headers={"X-API-Key": api.key, **named},
        buffered=True,
    )


def delete(api: Api, attachment_id: str, query: str = "") -> TestResponse:
    path = f"/api/v1/files/{attachment_id}{query}"
    return api.delete(path)


def stored_files(api: Api) -> list[Path]:
    folder = api.state.settings.files_dir
    return [path for path in folder.rglob("*") if path.is_file()]


def assert_nothing_is_left(api: Api) -> None:
    assert stored_files(api) == []
    assert api.count_rows("attachment") == api.count_rows("stray_blob") == 0


def error_of(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["code"]


class SlowBody(io.BytesIO):
    """A body that arrives slowly: ``revoke`` is called before each read."""

    def __init__(self, body: bytes, revoke: Callable[[], object]) -> None:
        super().__init__(body)
        self._revoke = revoke

    def readinto(self, buffer: Any, /) -> int:
        self._revoke()
        return super().readinto(buffer)

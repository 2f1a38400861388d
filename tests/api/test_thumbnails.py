"""Thumbnails of attachments."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image
from werkzeug.test import TestResponse

from .. import samples
from ..waiting import LIMIT_S, wait_for
from .conftest import Api


def get(api: Api, data: bytes, name: str, query: str = "", **headers: str) -> TestResponse:
    row = api.state.files.store_bytes(data, name)
    return api.get(f"/api/v1/files/{row.attachment_id}/thumbnail{query}", headers=headers)


def open_picture(answer: TestResponse) -> Image.Image:
    assert answer.status_code == 200, answer.get_data()
    picture = Image.open(io.BytesIO(answer.get_data()))
    assert answer.content_type == f"image/{(picture.format or '').lower()}"
    return picture


@pytest.mark.parametrize(
    ("query", "size"), [("", (256, 154)), ("?size=60", (64, 38)), ("?size=1024", (1000, 600))]
)
def test_a_thumbnail_has_the_next_larger_supported_size(
    api: Api, query: str, size: tuple[int, int]
) -> None:
    data = samples.save(samples.make_picture((1000, 600)), "PNG")
    assert open_picture(get(api, data, "a.png", query)).size == size


def test_a_thumbnail_is_upright(api: Api) -> None:
    assert open_picture(get(api, samples.make_turned(6), "a.jpg")).size == (120, 200)


def test_a_thumbnail_keeps_transparency_for_dark_pages(api: Api) -> None:
    clear = samples.save(Image.new("RGBA", (600, 300), (255, 255, 255, 0)), "PNG")
    picture = open_picture(get(api, clear, "logo.png"))
    assert picture.convert("RGBA").getchannel("A").getextrema() == (0, 0)


def test_a_pdf_has_a_thumbnail_of_its_first_page(api: Api) -> None:
    answer = get(api, samples.save(samples.make_picture((400, 200)), "PDF"), "a.pdf", "?size=128")
    assert max(open_picture(answer).size) <= 129


def test_simultaneous_requests_create_a_thumbnail_once(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = api.state.files.store_bytes(samples.save(samples.make_picture(), "PNG"), "a.png")
    go_on, made, run = threading.Event(), list[Any](), api.state.worker.aside.run

    def hold(*args: Any, **options: Any) -> Any:
        made.append(args)
        assert go_on.wait(LIMIT_S)
        return run(*args, **options)

    monkeypatch.setattr(api.state.worker.aside, "run", hold)

    def ask() -> int:
        path = f"/api/v1/files/{row.attachment_id}/thumbnail"
        return api.app.test_client().get(path, headers={"X-API-Key": api.key}).status_code

    once = api.state.thumbnails._once
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(ask) for _ in range(5)]
        wait_for(lambda: len(made) + len(once._waiting.get((row.sha256, 256), ())) == 5)
        go_on.set()
        assert [one.result(LIMIT_S) for one in asked] == [200] * 5
    assert len(made) == 1


def test_a_thumbnail_is_created_once_and_has_an_etag(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = samples.save(samples.make_picture(), "PNG")
    first = get(api, data, "a.png")
    tag = first.headers["ETag"]
    assert get(api, data, "a.png", "?size=64", **{"If-None-Match": tag}).status_code == 200
    made: list[Any] = []
    monkeypatch.setattr(api.state.worker.aside, "run", lambda *rest, **more: made.append(rest))
    again = get(api, data, "b.png")
    assert (again.get_data(), again.headers["ETag"]) == (first.get_data(), tag)
    assert get(api, data, "a.png", **{"If-None-Match": tag}).status_code == 304
    assert made == []
    assert first.headers["Content-Security-Policy"] == "sandbox"
    assert first.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("data", "name"), [(b"words", "a.txt"), (b"\x89PNG\r\n\x1a\n" + bytes(50), "a.png")]
)
def test_a_file_without_a_thumbnail_is_a_404(api: Api, data: bytes, name: str) -> None:
    answer = get(api, data, name)
    assert (answer.status_code, answer.get_json()["code"]) == (404, "attachment_not_found")
    assert answer.get_json()["message"].startswith("the attachment has no thumbnail: it is ")


@pytest.mark.parametrize("size", ["0", "1025", "x"])
def test_a_size_out_of_range_is_rejected(api: Api, size: str) -> None:
    answer = get(api, samples.save(samples.make_picture(), "PNG"), "a.png", f"?size={size}")
    assert (answer.status_code, answer.get_json()["message"]) == (
        400, "size must be from 1 to 1024",
    )  # fmt: skip

"""A separate origin for attachments in browsers, which serves nothing else."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from itsdangerous import TimestampSigner
from werkzeug.test import TestResponse

from astrbot_api.config.loading import load_settings
from astrbot_api.errors import SettingsError
from astrbot_api.http.files import origin

from .conftest import Api

_ORIGIN = "https://files.example.com"

_OPENS = {"Sec-Fetch-Dest": "document"}


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    return make_api(ASTRBOT_FILES_ORIGIN=_ORIGIN)


@pytest.fixture
def file(api: Api) -> str:
    data = {"file": (io.BytesIO(b"<script>1</script>"), "a.html")}
    answer = api.post("/api/v1/file", data=data)
    return str(answer.json["data"]["attachment_id"])


def download(api: Api, file: str, **headers: str) -> TestResponse:
    given = {"X-API-Key": api.key, **headers}
    return api.client.get(f"/api/v1/files/{file}/content", headers=given)


def follow(api: Api, link: str, base_url: str = _ORIGIN) -> TestResponse:
    """Open a link like a browser, without a key."""
    where = urlsplit(link)
    return api.client.get(f"{where.path}?{where.query}", base_url=base_url)


@pytest.mark.parametrize("use", ["document", "iframe"])
def test_a_browser_opens_an_attachment_at_the_other_origin(api: Api, file: str, use: str) -> None:
    sent = download(api, file, **{"Sec-Fetch-Dest": use})
    link = sent.headers["Location"]
    assert (sent.status_code, sent.get_data()) == (302, b"")
    assert link.startswith(f"{_ORIGIN}/api/v1/files/opened/{file}?")
    assert sent.headers["Cache-Control"] == "no-store"
    opened = follow(api, link)
    assert (opened.status_code, opened.get_data()) == (200, b"<script>1</script>")
    assert opened.headers["Content-Security-Policy"] == "sandbox"
    assert opened.headers["Content-Type"].startswith("text/plain")
    assert opened.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("use", ["", "empty", "image", "video"])
def test_clients_and_pages_still_get_the_bytes_directly(api: Api, file: str, use: str) -> None:
    answer = download(api, file, **({"Sec-Fetch-Dest": use} if use else {}))
    assert (answer.status_code, answer.get_data()) == (200, b"<script>1</script>")


@pytest.mark.parametrize(
    "path", ["/", "/admin/", "/admin/login", "/api/v1/keys/self", "/api/v1/docs", "/healthz"]
)
def test_the_other_origin_serves_nothing_else(api: Api, path: str) -> None:
    answer = api.get(path, base_url=_ORIGIN)
    assert (answer.status_code, answer.get_data()) == (404, b"There is nothing here.\n")


@pytest.mark.parametrize(
    ("setting", "sent"),
    [
        (f"{_ORIGIN}:443", "files.example.com"),
        (_ORIGIN, "files.example.com:443"),
        ("http://Files.example.com:80", "files.example.com"),
        ("http://files.example.com:8080", "files.example.com:8080"),
    ],
)
def test_the_default_port_of_the_origin_may_be_written_or_not(
    make_api: Callable[..., Api], setting: str, sent: str
) -> None:
    api = make_api(ASTRBOT_FILES_ORIGIN=setting)
    assert api.get("/admin/login", headers={"Host": sent}).status_code == 404
    assert api.get("/admin/login", headers={"Host": "files.example.com:81"}).status_code == 200


def test_a_link_is_for_one_file_and_expires(
    api: Api, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = download(api, file, **_OPENS).headers["Location"]
    head, _, signature = link.partition("?signature=")
    when, _, mark = signature.partition(".")
    first = "0" if mark[0] != "0" else "1"
    for wrong in (
        link.replace(file, "another"), f"{head}?signature={when}.{first}{mark[1:]}",
        f"{head}?signature={when[:-1]}.{mark}", f"{head}?signature={when}", head,
        link + "%FF", f"{head}?signature=%FF",
    ):  # fmt: skip
        answer = follow(api, wrong)
        assert (answer.status_code, answer.json["code"]) == (404, "attachment_not_found"), wrong
    monkeypatch.setattr(origin, "_LINK_S", -1)
    assert follow(api, link).status_code == 404


def test_a_link_of_a_host_whose_clock_is_ahead_is_opened(
    api: Api, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(TimestampSigner, "get_timestamp", lambda _: int(time.time()) + 5)
        link = download(api, file, **_OPENS).headers["Location"]
    opened = follow(api, link)
    assert (opened.status_code, opened.get_data()) == (200, b"<script>1</script>")


def test_another_users_attachment_gets_no_link(api: Api) -> None:
    assert download(api, "0" * 36, **_OPENS).status_code == 404
    assert download(api, "0" * 36, **{**_OPENS, "X-API-Key": "abk_wrong"}).status_code == 401


def test_without_the_setting_nothing_is_redirected(make_api: Callable[..., Api]) -> None:
    api = make_api()
    data = {"file": (io.BytesIO(b"a"), "a.txt")}
    answer = api.post("/api/v1/file", data=data)
    file = answer.json["data"]["attachment_id"]
    answer = download(api, file, **_OPENS)
    assert (answer.status_code, answer.get_data()) == (200, b"a")
    answer.close()
    assert api.client.get(f"/api/v1/files/opened/{file}", base_url=_ORIGIN).status_code != 200


@pytest.mark.parametrize("value", ["files.example.com", "https://a/b", "ftp://a", "https://*"])
def test_an_invalid_origin_is_rejected(value: str) -> None:
    with pytest.raises(SettingsError, match="ASTRBOT_FILES_ORIGIN"):
        load_settings({"files_origin": value})

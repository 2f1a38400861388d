"""HTTP to messengers: one attempt, limits of size and time, no URL in an error."""

from __future__ import annotations

import collections
import email.utils
import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from astrbot_api.deliveries.http import HttpResponse, PlatformError, PlatformHttp
from tests.unit.raw_endpoint import PATIENCE_S, Connection, RawEndpoint

HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def http() -> Iterator[PlatformHttp]:
    http = PlatformHttp()
    yield http
    http.close()


def answering(*pieces: bytes) -> Callable[[Connection], None]:
    def handle(connection: Connection) -> None:
        connection.read_request()
        for piece in pieces:
            connection.send(piece)

    return handle


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 4\r\n\r\n[10]",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n3\r\n10]\r\n0\r\n\r\n",
        HEAD + b"Connection: close\r\n\r\n[10]",
    ],
)
def test_an_answer_is_read_whole(http: PlatformHttp, answer: bytes) -> None:
    with RawEndpoint(answering(answer)) as endpoint:
        assert http.request("POST", endpoint.base_url, json={}).json() == [10]


def test_a_connection_is_used_again(http: PlatformHttp) -> None:
    def handle(connection: Connection) -> None:
        while connection.read_request()[0]:
            connection.send_json(200, {})

    with RawEndpoint(handle) as endpoint:
        for _ in range(3):
            http.request("POST", endpoint.base_url, json={})
        assert endpoint.connections == 1


@pytest.mark.parametrize("body", [b"[" + b"[]," * 300_000 + b"0]", b"[" * 99_999])
def test_an_answer_of_too_many_members_is_refused(body: bytes) -> None:
    with pytest.raises(PlatformError, match="without JSON"):
        HttpResponse(200, {}, body).json()


def test_an_answer_of_too_many_bytes_is_refused(http: PlatformHttp) -> None:
    answer = HEAD + b"Content-Length: 101\r\n\r\n" + bytes(101)
    with (
        RawEndpoint(answering(answer)) as endpoint,
        pytest.raises(PlatformError, match="more than 100 bytes"),
    ):
        http.request("GET", endpoint.base_url, max_bytes=100)


@pytest.mark.parametrize("answer", [HEAD + b"Content-Length: 100\r\n\r\nx", b"", b"nonsense\r\n"])
def test_an_answer_that_breaks_off_is_retryable(http: PlatformHttp, answer: bytes) -> None:
    with (
        RawEndpoint(answering(answer)) as endpoint,
        pytest.raises(PlatformError) as caught,
    ):
        http.request("GET", endpoint.base_url)
    assert caught.value.retryable
    assert "127.0.0.1" not in caught.value.message


@pytest.mark.parametrize("begun", [HEAD, HEAD + b"Transfer-Encoding: chunked\r\n\r\n"])
def test_the_time_limit_ends_a_line_that_arrives_byte_by_byte(
    http: PlatformHttp, begun: bytes
) -> None:
    def drip(connection: Connection) -> None:
        connection.read_request()
        connection.send(begun)
        while not connection.wait_readable(0.01):
            connection.send(b"1")

    def download(url: str, limit_s: float) -> None:
        with closing(http.open(url, limit_s=limit_s)) as reader:
            reader.read(100)

    with RawEndpoint(drip) as endpoint:
        for send in (download, partial(http.request, "GET")):
            with pytest.raises(PlatformError):
                send(endpoint.base_url, limit_s=0.3)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("header", "least_s", "most_s"),
    [
        ("7", 7.0, 7.0),
        (email.utils.format_datetime(datetime.now(UTC) + timedelta(hours=9)), 8 * 3600, 9 * 3600),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0, 0.0),
    ],
    ids=["number", "date", "past"],
)
def test_retry_after_is_a_number_or_a_date(
    http: PlatformHttp, header: str, least_s: float, most_s: float
) -> None:
    head = f"HTTP/1.1 429 Slow\r\nRetry-After: {header}\r\nContent-Length: 0\r\n\r\n"
    with RawEndpoint(answering(head.encode())) as endpoint:
        pause_s = http.request("GET", endpoint.base_url).to_error("Slow.").retry_after_s
    assert pause_s is not None
    assert least_s <= pause_s <= most_s


def drip(connection: Connection) -> None:
    connection.read_request()
    connection.send(HEAD + b"Content-Length: 1000000\r\n\r\n")
    for _ in itertools.repeat(None):
        connection.send(b"x")
        if connection.wait_readable(0.01):
            return


def test_an_answer_that_comes_in_drops_is_given_up(http: PlatformHttp) -> None:
    with (
        RawEndpoint(drip) as endpoint,
        pytest.raises(PlatformError, match="broke off its response") as caught,
    ):
        http.request("GET", endpoint.base_url, timeout_s=0.2)
    assert caught.value.retryable


def test_a_download_that_comes_in_drops_is_given_up(http: PlatformHttp) -> None:
    with RawEndpoint(drip) as endpoint:
        reader = http.open(endpoint.base_url, limit_s=0.5)
        # Returns available data without waiting for the requested size.
        assert 0 < len(reader.read(1_000_000)) < 1_000_000
        with pytest.raises(PlatformError, match="took too long") as caught:
            collections.deque(iter(lambda: reader.read(1_000_000), b""), maxlen=0)
        assert caught.value.retryable
        reader.close()


def test_silence_is_retryable(http: PlatformHttp) -> None:
    def stay_silent(connection: Connection) -> None:
        connection.read_request()
        connection.wait_readable(PATIENCE_S)

    with (
        RawEndpoint(stay_silent) as endpoint,
        pytest.raises(PlatformError, match="in time") as caught,
    ):
        http.request("GET", endpoint.base_url, timeout_s=0.2)
    assert caught.value.retryable


def test_silence_in_a_download_is_retryable(http: PlatformHttp) -> None:
    def fall_silent(connection: Connection) -> None:
        connection.read_request()
        connection.send(HEAD + b"Content-Length: 9\r\n\r\n")
        connection.wait_readable(PATIENCE_S)

    with RawEndpoint(fall_silent) as endpoint:
        reader = http.open(endpoint.base_url, timeout_s=0.2)
        with pytest.raises(PlatformError, match="in time") as caught:
            reader.read(9)
        assert caught.value.retryable
        reader.close()


def test_a_redirect_is_not_followed(http: PlatformHttp) -> None:
    paths = []

    def handle(connection: Connection) -> None:
        while head := connection.read_request()[0]:
            paths.append(head.split(" ")[1])
            connection.send_json(302, {}, "Location: /elsewhere\r\n")

    with RawEndpoint(handle) as endpoint:
        assert http.request("GET", endpoint.base_url).status == 302
        with pytest.raises(PlatformError, match="answered 302"):
            http.open(endpoint.base_url)
    assert paths == ["/v1", "/v1"]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://", "x"])
def test_only_http_addresses_are_asked(http: PlatformHttp, url: str) -> None:
    with pytest.raises(PlatformError):
        http.request("GET", url)


@pytest.mark.parametrize("token", ["a\nb", "口令"])
def test_a_token_that_no_header_can_have_is_a_final_error(http: PlatformHttp, token: str) -> None:
    with pytest.raises(PlatformError, match="header") as caught:
        http.request("GET", "http://127.0.0.1:9/", headers={"Authorization": f"Bearer {token}"})
    assert not caught.value.retryable
    assert token not in caught.value.message

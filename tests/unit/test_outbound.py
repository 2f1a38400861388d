"""Outgoing HTTP: proxies, checked addresses, limits, cancelled waits."""

from __future__ import annotations

import base64
import errno
import gzip
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from astrbot_client import Client

from astrbot_api import Cancellation, RunCancelled, ToolContext, ToolError
from astrbot_api.deliveries.http import PlatformError, PlatformHttp
from astrbot_api.plugins.builtin import web
from astrbot_api.providers import failures
from astrbot_api.runtime import connections
from astrbot_api.runtime.addresses import find_proxy
from astrbot_api.runtime.outbound import ACCEPT_ENCODING, Call, Outbound, OutboundError
from tests.postgres import require_tool

from .loopback_proxy import LoopbackProxy
from .openai_asking import HELLO, ask, failure_of, provider_of, text_of
from .raw_endpoint import PATIENCE_S, Connection, RawEndpoint, answering

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def answer_with(body: bytes, headers: bytes = b"") -> Callable[[Connection], None]:
    def handle(connection: Connection) -> None:
        while connection.read_request()[0]:
            connection.send(HEAD + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    return handle


def port_of(endpoint: RawEndpoint) -> int:
    return int(endpoint.base_url.split(":")[2].partition("/")[0])


def read(outbound: Outbound, url: str, call: Call | None = None, limit: int = 1000) -> bytes:
    answer = outbound.send(
        "GET", url, headers={}, call=call, connect_timeout_s=30, read_timeout_s=30
    )
    try:
        return answer.read_all(limit)[0]
    finally:
        answer.close()
        outbound.close()


# -- choice of the proxy -----------------------------------------------------


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("http://a.test/", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("http://a.test/", {"HTTP_PROXY": "http://p:1", "http_proxy": "http://q:2"}, "http://q:2"),
        ("http://a.test/", {"HTTP_PROXY": "http://p:1", "http_proxy": ""}, None),
        ("http://a.test/", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://a.test/", {"https_proxy": "p:1"}, "http://p:1"),
        ("https://a.test/", {"HTTPS_PROXY": "https://p:1"}, "https://p:1"),
        ("https://a.test/", {}, None),
        ("http://a.b.test/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "x.test, B.test"}, None),
        ("http://a.b.test/", {"HTTP_PROXY": "http://p:1", "no_proxy": ".b.test"}, None),
        ("http://a.b.test/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "*.b.test"}, None),
        ("http://ab.test/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "b.test"}, "http://p:1"),
        ("http://a.test:8/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "a.test:8"}, None),
        ("http://a.test:9/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "a.test:8"}, "http://p:1"),
        ("http://a.test/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("http://10.1.2.3/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, None),
        ("http://11.1.2.3/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "http://p:1"),
        ("http://[fd00::1]/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "fd00::/8,x"}, None),
        ("http://127.0.0.1:1/", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://localhost/", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://[::1]/", {"HTTP_PROXY": "http://p:1"}, None),
    ],
)
def test_the_environment_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch, url: str, environ: dict[str, str], proxy: str | None
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert find_proxy(url) == proxy


def test_a_proxy_that_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://p:1")
    monkeypatch.setenv("NO_PROXY", "*")
    assert find_proxy("http://a.test/", "http://q:2") == "http://q:2"
    assert find_proxy("http://127.0.0.1/", "q:2") == "http://q:2"
    monkeypatch.delenv("NO_PROXY")
    assert find_proxy("http://a.test/", "") is None


def test_a_proxy_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "gopher://p:1")
    with pytest.raises(ValueError, match=r"must be one of http, https, socks5"):
        find_proxy("http://a.test/")
    http = PlatformHttp()
    with pytest.raises(PlatformError, match="has an invalid address or proxy") as caught:
        http.request("GET", "http://a.test/")
    assert not caught.value.retryable


# -- through a proxy ---------------------------------------------------------


def test_models_are_asked_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        RawEndpoint(answering(*HELLO)) as endpoint,
        LoopbackProxy(port_of(endpoint)) as proxy,
    ):
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        provider = provider_of("http://model.test/v1")
        assert text_of(ask(provider)) == "Hello"
        assert text_of(ask(provider)) == "Hello"
        assert endpoint.connections == 1
        assert proxy.asked == ["POST http://model.test/v1/chat/completions"] * 2


def test_messengers_the_command_line_and_downloads_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    envelope = b'{"status": "ok", "message": null, "data": {"scopes": []}}'
    http = PlatformHttp()
    for body, use in (
        (b"[1]", lambda: http.request("POST", "http://chat.test/a", json={}).json() == [1]),
        (b"xy", lambda: http.open("http://chat.test/b").read(9) == b"xy"),
        (envelope, lambda: client.keys.get_self() == {"scopes": []}),
    ):
        with RawEndpoint(answer_with(body)) as endpoint, LoopbackProxy(port_of(endpoint)) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            with Client("http://me.test", api_key="abk_x", retry_s=0) as client:
                assert use()
            assert len(proxy.asked) == 1
            http.close()


def test_name_and_password_go_to_the_proxy_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heads: list[str] = []

    def handle(connection: Connection) -> None:
        heads.append(connection.read_request()[0])
        connection.send(HEAD + b"Content-Length: 2\r\n\r\nok")

    login = base64.b64encode(b"us er:p@ss").decode()
    with (
        caplog.at_level("DEBUG"),
        RawEndpoint(handle) as endpoint,
        LoopbackProxy(port_of(endpoint), login=login) as proxy,
    ):
        monkeypatch.setenv("HTTP_PROXY", f"http://us%20er:p%40ss@{proxy.host}")
        assert read(Outbound(), "http://a.test/x") == b"ok"
        monkeypatch.setenv("HTTP_PROXY", f"http://us%20er:wrong@{proxy.host}")
        answer = PlatformHttp().request("GET", "http://a.test/x")
        assert answer.status == 407
    assert len(heads) == 1
    assert "p@ss" not in caplog.text
    assert "p%40ss" not in caplog.text


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key of ``secure.test``, in one file."""
    openssl = require_tool(shutil.which("openssl"), "openssl")
    path = tmp_path_factory.mktemp("tls") / "site.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=secure.test",
         "-addext", "subjectAltName=DNS:secure.test", "-keyout", path, "-out", f"{path}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def secure(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RawEndpoint]:
    """Create endpoints with TLS that this process trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def make(handle: Callable[[Connection], None], pause_s: float = 0.0) -> RawEndpoint:
        def handle_tls(connection: Connection) -> None:
            ending = connection._ending
            time.sleep(pause_s)
            try:
                tls = context.wrap_socket(connection.sock, server_side=True)
            except (ssl.SSLError, ConnectionError):
                return
            secured = Connection(tls, ending)
            try:
                handle(secured)
            finally:
                secured.close()

        return RawEndpoint(handle_tls)

    return make


def test_a_tunnel_leads_to_a_model_whose_certificate_is_checked(
    monkeypatch: pytest.MonkeyPatch, secure: Callable[..., RawEndpoint]
) -> None:
    with secure(answering(*HELLO)) as endpoint, LoopbackProxy(port_of(endpoint)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        assert text_of(ask(provider_of("https://secure.test/v1"))) == "Hello"
        error = failure_of(provider_of("https://other.test/v1"))
        assert "TLS certificate" in error.message
        assert proxy.asked == ["CONNECT secure.test:443", "CONNECT other.test:443"]


def test_a_connection_that_ends_in_its_handshake_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, secure: Callable[..., RawEndpoint]
) -> None:
    endpoint = secure(answering(*HELLO))
    endpoint._handlers.insert(0, lambda connection: connection.sock.recv(1000) and None)
    with endpoint, LoopbackProxy(port_of(endpoint)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        assert text_of(ask(provider_of("https://secure.test/v1"))) == "Hello"


def test_a_refused_handshake_is_no_bad_certificate() -> None:
    def refuse(connection: Connection) -> None:
        connection.sock.recv(1000)
        connection.send(b"\x15\x03\x03\x00\x02\x02\x28")  # an alert: handshake_failure

    with RawEndpoint(refuse) as endpoint:
        error = failure_of(provider_of(endpoint.base_url.replace("http:", "https:")))
    assert error.message == failures.NO_HANDSHAKE


def test_a_tunnel_that_is_refused_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackProxy(1, refuse=True) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        error = failure_of(provider_of("https://secure.test/v1", max_retries=0))
        assert error.message == failures.UNREACHABLE
    # There is no connection to a proxy that no longer listens, either.
    error = failure_of(provider_of("https://secure.test/v1", max_retries=0))
    assert error.message == failures.UNREACHABLE


def test_a_wait_in_a_tunnel_is_broken_by_cancellation(
    monkeypatch: pytest.MonkeyPatch, secure: Callable[..., RawEndpoint]
) -> None:
    cancel, closed = Cancellation(), threading.Event()

    def handle(connection: Connection) -> None:
        connection.read_request()
        cancel.cancel()
        with suppress(OSError):
            connection.sock.recv(1)
        closed.set()

    with secure(handle) as endpoint, LoopbackProxy(port_of(endpoint)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(RunCancelled):
            ask(provider_of("https://secure.test/v1"), cancel=cancel)
        assert closed.wait(PATIENCE_S)


# -- checked addresses -------------------------------------------------------


def fetch(url: str, *, found: Sequence[str] = ("8.8.8.8",), port: int = 80) -> str:
    """Return what ``http_get`` reads, with these addresses of every host."""
    settings = {"ports": [port, 443], "max_bytes": 1000, "timeout_s": 30.0}
    context = ToolContext("alice", "s", "default", Cancellation(), settings=settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "resolve", lambda host, port: list(found))
        return str(web.http_get.call({"url": url}, context))


def test_a_checked_address_is_what_the_proxy_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, secure: Callable[..., RawEndpoint]
) -> None:
    heads: list[str] = []

    def handle(connection: Connection) -> None:
        heads.append(connection.read_request()[0])
        connection.send(HEAD + b"Content-Length: 2\r\n\r\nok")

    with secure(handle) as endpoint, LoopbackProxy(port_of(endpoint)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert fetch("https://secure.test/a") == "ok"
        with pytest.raises(ToolError, match="TLS certificate"):
            fetch("https://other.test/a")
        assert proxy.asked == ["CONNECT 8.8.8.8:443"] * 2
    with RawEndpoint(handle) as endpoint, LoopbackProxy(port_of(endpoint)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert fetch("http://plain.test/a?b=1") == "ok"
        assert proxy.asked == ["CONNECT 8.8.8.8:80"]
    assert [head.split("\r\n")[0] for head in heads] == ["GET /a HTTP/1.1", "GET /a?b=1 HTTP/1.1"]
    assert "Host: secure.test\r\n" in heads[0]
    assert "Host: plain.test\r\n" in heads[1]


def test_a_proxy_is_not_asked_for_what_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackProxy(1) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        for found in (["10.0.0.1"], ["8.8.8.8", "169.254.169.254"], []):
            with pytest.raises(ToolError, match="is not on the public internet"):
                fetch("http://plain.test/", found=found)
        assert proxy.asked == []


def test_an_expired_certificate_is_called_expired() -> None:
    error = OutboundError("untrusted", "CERTIFICATE_VERIFY_FAILED: certificate has expired")
    assert error.words == "has an expired TLS certificate"


def test_a_forbidden_address_is_never_connected() -> None:
    with RawEndpoint(answer_with(b"secret")) as endpoint:
        outbound = Outbound(may_connect=lambda address: address != "127.0.0.1")
        with pytest.raises(OutboundError) as caught:
            read(outbound, endpoint.base_url)
        assert caught.value.reason == "forbidden"
        assert endpoint.connections == 0
        assert read(Outbound(), endpoint.base_url) == b"secret"


# -- limits ------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 1000, 65_536])
def test_a_body_that_needs_no_wait_lets_others_run(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[None] = []
    monkeypatch.setattr("astrbot_api.runtime.outbound.let_others_run", lambda: runs.append(None))
    body = gzip.compress(b"\n" * 1_000_000)
    with RawEndpoint(answer_with(body, b"Content-Encoding: gzip\r\n")) as endpoint:
        url, outbound = f"{endpoint.base_url}/", Outbound()
        answer = outbound.send("GET", url, headers={}, connect_timeout_s=30, read_timeout_s=30)
        read_bytes = sum(len(answer.read(size)) for _ in range(1000))
        answer.close()
        outbound.close()
    assert len(runs) >= max(read_bytes / 70_000, 1000 / 40)


def test_others_run_while_a_body_is_unpacked_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[None] = []
    monkeypatch.setattr(connections, "let_others_run", lambda: runs.append(None))
    body = gzip.compress(b"") * 10_000 + gzip.compress(b"ok")
    with RawEndpoint(answer_with(body, b"Content-Encoding: gzip\r\n")) as endpoint:
        assert read(Outbound(), endpoint.base_url) == b"ok"
    assert len(runs) > 20  # a read has at most 8,192 of these 200,000 bytes


def test_what_is_packed_is_unpacked_within_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(b"x" * 50_000_000)
    headers = b"Content-Encoding: gzip\r\n"
    monkeypatch.setattr(web, "is_public", lambda address: True)
    with RawEndpoint(answer_with(packed, headers)) as endpoint:
        url = endpoint.base_url.replace("127.0.0.1", "plain.test")
        text = fetch(url, found=["127.0.0.1"], port=port_of(endpoint))
        assert text == "x" * 1000 + "\n[cut after 1000 bytes]"
        http = PlatformHttp()
        with pytest.raises(PlatformError, match="more than 2000 bytes"):
            http.request("GET", endpoint.base_url, max_bytes=2000)
        http.close()
    with RawEndpoint(answer_with(gzip.compress(b"[7]"), headers)) as endpoint:
        http = PlatformHttp()
        assert http.request("GET", endpoint.base_url).json() == [7]
        http.close()
    assert "gzip" in ACCEPT_ENCODING


@pytest.mark.parametrize("begun", [b"", HEAD], ids=["nothing", "half a head"])
def test_the_limit_of_a_call_ends_any_wait(begun: bytes) -> None:
    def drip(connection: Connection) -> None:
        connection.read_request()
        connection.send(begun)
        while not connection.wait_readable(0.01):
            if begun:
                connection.send(b"X")

    with RawEndpoint(drip) as endpoint, Call(limit_s=0.3) as call:
        with pytest.raises(OutboundError) as caught:
            read(Outbound(), endpoint.base_url, call)
        assert caught.value.reason == "slow"


def test_a_call_whose_time_is_over_does_not_connect() -> None:
    with RawEndpoint(answer_with(b"")) as endpoint, Call(limit_s=0) as call:
        with pytest.raises(OutboundError, match="too long"):
            read(Outbound(), endpoint.base_url, call)
        assert endpoint.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "http://",
        "ftp://a.test/",
        "http://[::1",
        "http://a b/",
        f"http://[::1]:9/{'a' * 16_000}",
    ],
    ids=range(7),
)
def test_what_is_no_address_is_said_so(url: str) -> None:
    with pytest.raises(OutboundError) as caught:
        read(Outbound(), url)
    assert caught.value.reason == "address"


def test_a_host_without_an_address_cannot_be_reached() -> None:
    def fail(host: str, port: int) -> list[str]:
        raise socket.gaierror("no such host")

    with pytest.raises(OutboundError) as caught:
        read(Outbound(find_addresses=fail), "http://nowhere.test/")
    assert caught.value.reason == "unreachable"
    assert str(caught.value).startswith("nowhere.test:80: Failed to resolve")


def test_a_second_address_is_tried_where_the_first_does_not_answer() -> None:
    with RawEndpoint(answer_with(b"here")) as endpoint:
        outbound = Outbound(find_addresses=lambda host, port: ["127.0.0.2", "127.0.0.1"])
        url = endpoint.base_url.replace("127.0.0.1", "two.test")
        assert read(outbound, url) == b"here"


def test_a_kernel_without_ipv6_uses_the_other_address(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = socket.socket

    def make(family: int = -1, *options: Any, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return plain(family, *options, **more)

    with RawEndpoint(answer_with(b"here")) as endpoint:
        url = endpoint.base_url.replace("127.0.0.1", "two.test")
        monkeypatch.setattr(connections.socket, "socket", make)
        outbound = Outbound(find_addresses=lambda host, port: ["::1", "127.0.0.1"])
        assert read(outbound, url) == b"here"
        with pytest.raises(OutboundError) as caught:
            read(Outbound(find_addresses=lambda host, port: ["::1"]), url)
    assert caught.value.reason == "unreachable"


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"


@pytest.mark.parametrize("interim", [HINTS, b"HTTP/1.1 102 Processing\r\n\r\n" * 5 + HINTS])
def test_interim_answers_are_passed_over(interim: bytes) -> None:
    def answer(connection: Connection) -> None:
        connection.read_request()
        connection.send(interim + HEAD + b"Content-Length: 2\r\n\r\nok")

    with RawEndpoint(answer) as endpoint:
        assert read(Outbound(), endpoint.base_url) == b"ok"


@pytest.mark.parametrize("interim", [HINTS, b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_interim_answers_without_end_are_no_answer(interim: bytes) -> None:
    def answer(connection: Connection) -> None:
        connection.read_request()
        with suppress(OSError):
            while True:
                connection.send(interim)

    with RawEndpoint(answer) as endpoint, pytest.raises(OutboundError) as caught:
        read(Outbound(), endpoint.base_url)
    assert caught.value.reason == "broken"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("line", [b"X: y\r\n", b"X: " + b"y" * 100_000 + b"\r\n"])
def test_trailers_without_end_end_the_read(line: bytes) -> None:
    def answer(connection: Connection) -> None:
        connection.read_request()
        with suppress(OSError):
            connection.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n")
            while True:
                connection.send(line)

    with RawEndpoint(answer) as endpoint, pytest.raises(OutboundError) as caught:
        read(Outbound(), endpoint.base_url)
    assert caught.value.reason == "broken"


def test_trailers_are_passed_over() -> None:
    def answer(connection: Connection) -> None:
        connection.read_request()
        connection.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n")
        connection.send(b"Server-Timing: db;dur=5\r\n" * 20 + b"\r\n")

    with RawEndpoint(answer) as endpoint:
        assert read(Outbound(), endpoint.base_url) == b"ok"


# -- connections -------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1000, 500_000], ids=["empty", "short", "long"])
def test_a_head_and_a_short_body_are_sent_at_once(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    send = socket.socket.sendall

    def count(sock: socket.socket, data: bytes, *flags: int) -> None:
        if b"x" * 10 in data or b"POST /" in data:
            sent.append(len(data))
        send(sock, data, *flags)

    received: list[bytes] = []

    def keep(connection: Connection) -> None:
        while (request := connection.read_request())[0]:
            received.append(request[1])
            connection.send(HEAD + b"Content-Length: 0\r\n\r\n")

    monkeypatch.setattr(socket.socket, "sendall", count)
    outbound = Outbound()
    with RawEndpoint(keep) as endpoint:
        for _ in range(2):  # over a new and a kept connection
            outbound.send(
                "POST", f"{endpoint.base_url}/a?b=c d", headers={}, body=b"x" * size,
                connect_timeout_s=30, read_timeout_s=30,
            ).read_all(0)  # fmt: skip
        outbound.close()
        assert endpoint.connections == 1
    assert received == [b"x" * size] * 2
    assert len(sent) == (4 if size > 100_000 else 2)


def test_closed_connections_are_opened_again() -> None:
    outbound = Outbound()
    with RawEndpoint(answer_with(b"here")) as endpoint:
        # `read` closes kept connections.
        assert [read(outbound, endpoint.base_url) for _ in range(3)] == [b"here"] * 3
        assert endpoint.connections == 3


@pytest.mark.timeout(25)
def test_an_address_that_does_not_answer_is_tried_last_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        RawEndpoint(answer_with(b"here")) as endpoint,
        socket.socket() as full,
        ExitStack() as held,
    ):
        full.bind(("127.0.0.2", port_of(endpoint)))
        full.listen(0)  # its queue is full, so that the kernel drops the next ones
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        outbound = Outbound(find_addresses=lambda host, port: ["127.0.0.2", "127.0.0.1"])
        url = endpoint.base_url.replace("127.0.0.1", "two.test")
        for first_try_s in (0.2, 1000.0):
            monkeypatch.setattr(connections, "_FIRST_TRY_S", first_try_s)
            assert read(outbound, url) == b"here"


def test_a_slow_handshake_has_more_time_than_the_first_of_several_addresses(
    monkeypatch: pytest.MonkeyPatch, secure: Callable[..., RawEndpoint]
) -> None:
    monkeypatch.setattr(connections, "_FIRST_TRY_S", 0.2)
    outbound = Outbound(find_addresses=lambda host, port: ["127.0.0.1", "127.0.0.2"])
    with secure(answer_with(b"here"), pause_s=0.6) as endpoint:
        assert read(outbound, f"https://secure.test:{port_of(endpoint)}/") == b"here"


def test_a_dead_idle_connection_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def die(connection: Connection) -> None:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.read_request()
        connection.send(HEAD + b"Content-Length: 4\r\n\r\nhere")
        # It reads nothing more, so a part of the next request is never acknowledged.
        assert over.wait(PATIENCE_S)

    options = [(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)]
    monkeypatch.setattr(connections, "SOCKET_OPTIONS", options)
    outbound = Outbound()
    with RawEndpoint(die, answer_with(b"here")) as endpoint:
        for body in (b"", b"x" * 500_000):
            answer = outbound.send(
                "POST", endpoint.base_url, headers={}, body=body, connect_timeout_s=30,
                read_timeout_s=30, stale_tries=1,
            )  # fmt: skip
            assert answer.read_all(100)[0] == b"here"
        over.set()
        outbound.close()
        assert endpoint.connections == 2


def test_a_host_that_acknowledges_nothing_is_named_as_a_fault_of_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = threading.Event()

    def die(connection: Connection) -> None:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert over.wait(PATIENCE_S)

    options = [(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)]
    monkeypatch.setattr(connections, "SOCKET_OPTIONS", options)
    outbound = Outbound()
    with RawEndpoint(die) as endpoint:
        with pytest.raises(OutboundError, match="the network drops its packets") as failed:
            outbound.send(
                "POST", endpoint.base_url, headers={}, body=b"x" * 5_000_000, connect_timeout_s=30,
                read_timeout_s=30,
            )  # fmt: skip
        assert failed.value.reason == "broken"
        over.set()
        outbound.close()


def test_a_slow_link_can_send_a_long_body() -> None:
    body, over = b"x" * 8_000_000, threading.Event()

    def read_slowly(connection: Connection) -> None:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        left = len(body)
        while left > 0:
            over.wait(0.03)  # the speed of the link
            left -= len(connection.sock.recv(65_536))
        connection.send(HEAD + b"Content-Length: 4\r\n\r\nhere")

    outbound = Outbound()
    with RawEndpoint(read_slowly) as endpoint:
        answer = outbound.send(
            "POST", endpoint.base_url, headers={}, body=body, connect_timeout_s=0.5,
            read_timeout_s=30,
        )  # fmt: skip
        assert answer.read_all(100)[0] == b"here"
        outbound.close()

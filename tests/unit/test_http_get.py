"""http_get reaches only the public internet."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

from astrbot_api import Cancellation, RunCancelled, ToolContext, ToolError
from astrbot_api.plugins.builtin import web
from astrbot_api.plugins.builtin.web import http_get
from astrbot_api.runtime.addresses import is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.10", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255",
        "192.168.0.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.8",
        "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
        "224.0.1.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12::1", "ff02::1",
        "ff0e::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "::ffff:169.254.169.254", "::127.0.0.1", "::10.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::1",
        "2001:0:7f00:1::1", "", "localhost", "2130706433",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
def test_a_public_address_is_let_through(address: str) -> None:
    assert is_public(address)


class Site(BaseHTTPRequestHandler):
    """Pages by path. ``/to/URL`` redirects."""

    protocol_version = "HTTP/1.1"
    pages: dict[str, tuple[str, bytes]]
    seen: list[str]
    drip: threading.Event

    def do_GET(self) -> None:
        self.seen.append(f"{self.headers['Host']}{self.path}")
        if self.path.startswith("/to/"):
            self._answer(302, "text/plain", b"", Location=unquote(self.path.removeprefix("/to/")))
        elif self.path == "/drip":
            self._drip()
        elif self.path == "/closing":
            self.close_connection = True
            self._answer(200, "text/plain", b"bye", Connection="close")
        elif self.path == "/nonsense":
            self.wfile.write(b"nonsense\r\n\r\n")
            self.close_connection = True
        elif self.path in self.pages:
            self._answer(200, *self.pages[self.path])
        else:
            self._answer(404, "text/plain", b"nothing here")

    def _answer(self, status: int, kind: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        headers |= {"Content-Type": kind, "Content-Length": str(len(body))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"begun")
        self.wfile.flush()
        self.drip.wait(30)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@pytest.fixture
def site() -> Iterator[Any]:
    class Own(Site):
        pages = {
            "/": ("text/plain; charset=latin-1", "grün".encode("latin-1")),
            "/long": ("text/plain", b"x" * 5000),
            "/json?a=1": ("application/problem+json", b'{"a":1}'),
            "/picture": ("image/png", b"\x89PNG"),
            "/untyped": ("", b"?"),
            "/chinese": ("text/html", '<meta charset="gb2312">中文'.encode("gbk")),
            "/russian": ("text/plain; charset=koi8-r", "привет".encode("koi8-r")),
            "/odd": ("text/plain; charset=unicode_escape", b"\\u0041"),
        }
        seen: list[str] = []
        drip = threading.Event()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Ignore clients that close early, as some tests do."""

    server = Server(("127.0.0.1", 0), Own)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    Own.drip.set()
    server.shutdown()
    thread.join(30)
    socketserver.TCPServer.server_close(server)


@pytest.fixture
def fetch(site: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Fetch from names that the test resolves. Loopback acts as the public internet."""
    monkeypatch.setattr(web, "is_public", lambda address: address == "127.0.0.1")

    def fetch(
        path: str,
        find_addresses: Callable[[str, int], list[str]] = lambda host, port: ["127.0.0.1"],
        limit_s: float = 30,
        cancel: Cancellation | None = None,
    ) -> str:
        monkeypatch.setattr(web, "resolve", find_addresses)
        port = site.server_address[1]
        url = path if not path.startswith("/") else f"http://public.test:{port}{path}"
        settings = {"ports": [port], "max_bytes": 1000, "timeout_s": limit_s}
        context = ToolContext("a", "s", "default", cancel or Cancellation(), settings=settings)
        return str(http_get.call({"url": url}, context))

    return fetch


def test_a_text_is_read_in_its_own_encoding(fetch: Any, site: Any) -> None:
    assert fetch("/") == "grün"
    assert fetch("/chinese").endswith("中文")
    assert fetch("/russian") == "привет"
    assert fetch("/odd") == "\\u0041", "no codec but those of pages"
    assert fetch("/json?a=1") == '{"a":1}'
    assert fetch("/closing") == "bye"
    assert fetch("/nope") == "HTTP 404\nnothing here"
    assert site.RequestHandlerClass.seen[0] == f"public.test:{site.server_address[1]}/"


def test_a_long_page_is_cut(fetch: Any) -> None:
    assert fetch("/long") == "x" * 1000 + "\n[cut after 1000 bytes]"


@pytest.mark.parametrize("path", ["/picture", "/untyped"])
def test_only_texts_are_read(fetch: Any, path: str) -> None:
    with pytest.raises(ToolError, match="only texts can be read"):
        fetch(path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "only http:// and https://"),
        ("ftp://public.test/", "only http:// and https://"),
        ("gopher://127.0.0.1:6379/_x", "only http:// and https://"),
        ("http://", "only http:// and https://"),
        ("http://public.test:22/", "the port 22 is not allowed"),
        ("http://public.test/", "the port 80 is not allowed"),
        ("http://public.test:99999/", "this is not a URL"),
        ("http://[::1", "this is not a URL"),
        ("http://alice:secret@public.test/", "a user name or password"),
        ("http://public.test:{port}/a b", "blanks, control characters or backslashes"),
        (f"http://public.test/{'a' * 16_000}", "the URL is too long"),
    ],
    ids=range(11),
)
def test_a_url_of_another_kind_is_refused(fetch: Any, site: Any, url: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        fetch(url.format(port=site.server_address[1]))
    assert site.RequestHandlerClass.seen == []


def test_a_host_with_one_private_address_is_refused(fetch: Any, site: Any) -> None:
    with pytest.raises(ToolError, match=r"public\.test is not on the public internet"):
        fetch("/", find_addresses=lambda host, port: ["127.0.0.1", "10.0.0.1"])
    with pytest.raises(ToolError, match="is not on the public internet"):
        fetch("/", find_addresses=lambda host, port: [])
    assert site.RequestHandlerClass.seen == []


def test_a_name_that_changes_after_the_check_changes_nothing(fetch: Any) -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"], ["10.0.0.1"]]
    assert fetch("/", find_addresses=lambda host, port: answers.pop(0)) == "grün"
    assert len(answers) == 2


def test_each_redirect_is_checked_like_the_first_url(fetch: Any, site: Any) -> None:
    port = site.server_address[1]
    names = {"public.test": ["127.0.0.1"], "inside.test": ["192.168.0.1"]}

    def find(host: str, port: int) -> list[str]:
        return names.get(host, [host])

    assert fetch(f"/to/http://public.test:{port}/", find_addresses=find) == "grün"
    assert fetch("/to//", find_addresses=find).startswith("grün")
    for target, message in (
        (f"http://inside.test:{port}/", "inside.test is not on the public internet"),
        (f"http://169.254.169.254:{port}/latest/meta-data", "169.254.169.254 is not on"),
        (f"http://[::ffff:10.0.0.1]:{port}/", "is not on the public internet"),
        ("http://public.test:22/", "the port 22 is not allowed"),
        ("file:///etc/passwd", "only http:// and https://"),
    ):
        with pytest.raises(ToolError, match=message):
            fetch(f"/to/{target}", find_addresses=find)


def test_redirects_without_end_are_given_up(fetch: Any) -> None:
    with pytest.raises(ToolError, match="more than 5 redirects"):
        fetch("/to/" * 6 + "/")
    assert fetch("/to/" * 5 + "/") == "grün"


def test_a_page_that_never_ends_is_given_up_in_time(fetch: Any) -> None:
    with pytest.raises(ToolError, match="took too long"):
        fetch("/drip", limit_s=0.3)


def test_a_broken_answer_is_reported_in_a_word(fetch: Any) -> None:
    with pytest.raises(ToolError, match="could not be read: "):
        fetch("/nonsense")


def test_a_stopped_turn_ends_the_reading(fetch: Any, site: Any) -> None:
    cancel = Cancellation()
    timer = threading.Timer(0.2, cancel.cancel)
    timer.start()
    with pytest.raises(RunCancelled):
        fetch("/drip", cancel=cancel)
    timer.join(30)


def test_the_tool_itself_refuses_loopback() -> None:
    from astrbot_api.plugins.builtin.web import Web
    from astrbot_api.testing.plugins import call_tool

    settings = {"ports": [80, 443], "max_bytes": 1000, "timeout_s": 5.0}
    for host in ("localhost", "127.0.0.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]"):
        told = call_tool(Web(), "http_get", {"url": f"http://{host}/"}, settings=settings)
        assert "is not on the public internet" in told, host
    assert http_get.by_name_only

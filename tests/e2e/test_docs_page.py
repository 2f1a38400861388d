"""The documentation page works in a real browser.

Needs Debian's ``chromium`` (``.ci/install-tools``) and ``playwright``. Without them, the tests are
skipped.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3

from astrbot_api.http.openapi.complete import iter_operations

from ..servers import Server, create_key

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        _CHROMIUM is None, reason="there is no chromium; .ci/install-tools installs it"
    ),
]

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Other host names do not resolve.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]

#: Prefix that the tests' proxy adds to every path.
_OUTSIDE = "/outside"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=_CHROMIUM, args=_FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def server(module_dir: Path) -> Iterator[Server]:
    with Server(module_dir, workers=1) as started:
        yield started


@pytest.fixture(scope="module")
def key(server: Server, module_dir: Path) -> str:
    return create_key(module_dir, "im", "chat")


@pytest.fixture(scope="module")
def prefixed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("prefixed")
    settings = {"ASTRBOT_URL_PREFIX": "/bot", "ASTRBOT_PROXY_HOPS": "1"}
    with Server(folder, workers=1, **settings) as started:
        yield started


@pytest.fixture(scope="module")
def prefixed_key(prefixed_server: Server) -> str:
    return create_key(prefixed_server.data_dir, "im")


class DocsPage:
    """An open documentation page, with its console messages and requests."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(request.url))
        page.on("request", lambda request: self.asked.append(request.url))

    def _note_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, url: str) -> DocsPage:
        """Open a page and wait until it shows its operations."""
        self.page.goto(url)
        self.page.locator(".opblock").first.wait_for()
        return self

    def authorize(self, scheme: str, key: str) -> None:
        """Enter a key under “Authorize”, like a user."""
        self.page.locator(".auth-wrapper .authorize").first.click()
        form = self.page.locator(".auth-container").filter(has_text=scheme)
        form.locator("input").fill(key)
        form.locator("button[type=submit]").click()
        form.get_by_text("Logout").wait_for()
        self.page.locator(".close-modal").click()

    def try_out(self, path: str) -> Any:
        """Press “Try it out” and “Execute” of an operation, and return the response."""
        block = self.page.locator(f'.opblock:has([data-path="{path}"])')
        block.locator(".opblock-summary-control").click()
        block.locator(".try-out__btn").click()
        with self.page.expect_response(lambda answer: answer.url.endswith(path)) as caught:
            block.locator("button.execute").click()
        block.locator(".live-responses-table .response-col_status").first.wait_for()
        return caught.value

    def get_hosts(self) -> set[str]:
        """Return the hosts of the page's requests, without ``data:``."""
        return {urlsplit(url).netloc for url in self.asked if not url.startswith("data:")}


@pytest.fixture
def docs(browser: Any) -> Iterator[DocsPage]:
    with _new_page(browser, "en-US") as page:
        yield page


@contextmanager
def _new_page(browser: Any, locale: str) -> Iterator[DocsPage]:
    # Each context has its own storage, so keys of other tests are not stored.
    context = browser.new_context(locale=locale)
    try:
        yield DocsPage(context.new_page())
    finally:
        context.close()


class _ProxyHandler(BaseHTTPRequestHandler):
    """A reverse proxy like nginx: it strips a prefix and sends it as a header."""

    target = ""
    http = urllib3.PoolManager(maxsize=10, retries=False)

    def do_GET(self) -> None:
        assert self.path.startswith(_OUTSIDE), self.path
        headers = {
            **{name: value for name, value in self.headers.items() if name != "Host"},
            "X-Forwarded-Prefix": _OUTSIDE,
            "X-Forwarded-Host": self.headers["Host"],
            "X-Forwarded-For": "127.0.0.1",
        }
        path = self.path.removeprefix(_OUTSIDE)
        answer = self.http.request("GET", self.target + path, headers=headers)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name not in ("Connection", "Transfer-Encoding", "Server", "Date"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def proxy_url(prefixed_server: Server) -> Iterator[str]:
    handler = type("Handler", (_ProxyHandler,), {"target": prefixed_server.url})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{proxy.server_port}{_OUTSIDE}"
        proxy.shutdown()
        thread.join()
    handler.http.clear()


@pytest.mark.parametrize(
    ("language", "tag", "heading"),
    [("en", "en", "AstrBot HTTP API"), ("zh", "zh-CN", "AstrBot HTTP API 文档")],
)
def test_the_page_is_in_the_requested_language(
    server: Server, docs: DocsPage, language: str, tag: str, heading: str
) -> None:
    page = docs.open(f"{server.url}/api/v1/docs?lang={language}").page
    assert page.title() == heading
    assert heading in page.locator(".info .title").inner_text()
    assert page.locator("html").get_attribute("lang") == tag
    assert docs.complaints == []
    assert docs.get_hosts() == {f"127.0.0.1:{server.port}"}


#: Opens and closes the operations one after another and returns their number. With all of them
#: open, each click takes seconds.
_OPEN_ALL = """async () => {
    const blocks = document.querySelectorAll(".opblock-summary-control");
    for (const block of blocks) block.click();
    const count = () => document.querySelectorAll(".opblock.is-open .responses-table").length;
    while (count() < blocks.length) await new Promise((resolve) => setTimeout(resolve, 50));
    return count();
}"""


def test_an_operation_shows_its_parameters_and_those_of_its_path(
    server: Server, docs: DocsPage
) -> None:
    page = docs.open(f"{server.url}/api/v1/docs").page
    block = page.locator("#operations-Runs-getChatRun")
    block.locator(".opblock-summary-control").click()
    block.locator(".responses-table").wait_for()
    shown = block.locator(".parameters-container [data-param-name]").evaluate_all(
        "rows => rows.map((row) => [row.dataset.paramName, row.dataset.paramIn])"
    )
    assert shown == [["run_id", "path"], ["username", "query"]]
    # The response's schema is a reference, which is shown in full.
    assert '"llm_checkpoint_id"' in block.inner_text()


def test_every_operation_opens_without_a_console_error(server: Server, docs: DocsPage) -> None:
    page = docs.open(f"{server.url}/api/v1/docs").page
    document = server.request("GET", "/api/v1/openapi.json").json()
    operations = list(iter_operations(document))
    assert page.locator(".opblock").count() == len(operations)
    assert page.evaluate(_OPEN_ALL) == len(operations)
    assert docs.complaints == []
    assert docs.get_hosts() == {f"127.0.0.1:{server.port}"}


@pytest.mark.parametrize("scheme", ["ApiKeyHeader", "BearerKey"])
def test_a_request_can_be_tried_with_a_key(
    server: Server, docs: DocsPage, key: str, scheme: str
) -> None:
    docs.open(f"{server.url}/api/v1/docs").authorize(scheme, key)
    answer = docs.try_out("/api/v1/im/bots")
    assert answer.status == 200
    assert answer.json()["status"] == "ok"
    shown = docs.page.locator(".live-responses-table").first.inner_text()
    assert '"bot_ids"' in shown
    assert docs.complaints == []
    assert docs.get_hosts() == {f"127.0.0.1:{server.port}"}


def test_a_request_without_a_key_shows_the_servers_401(server: Server, docs: DocsPage) -> None:
    answer = docs.open(f"{server.url}/api/v1/docs").try_out("/api/v1/configs")
    assert answer.status == 401
    assert "Missing API key" in docs.page.locator(".live-responses-table").first.inner_text()


def test_the_page_is_dark_like_the_system(server: Server, docs: DocsPage) -> None:
    docs.open(f"{server.url}/api/v1/docs")
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    light = docs.page.evaluate(colour)
    docs.page.emulate_media(color_scheme="dark")
    docs.page.wait_for_function(f"(light) => {colour} !== light", arg=light)
    assert docs.complaints == []


def test_a_link_leads_to_the_other_language_and_back(server: Server, docs: DocsPage) -> None:
    page = docs.open(f"{server.url}/api/v1/docs").page
    page.get_by_role("link", name="中文").click()
    page.get_by_text("向智能体发送消息").first.wait_for()
    page.get_by_role("link", name="English").click()
    page.get_by_text("Send a message to the agent").first.wait_for()
    assert docs.complaints == []


def test_a_chinese_browser_gets_the_chinese_page(server: Server, browser: Any) -> None:
    with _new_page(browser, "zh-CN") as docs:
        page = docs.open(f"{server.url}/api/v1/docs").page
        assert page.locator("html").get_attribute("lang") == "zh-CN"
        assert "聊天" in page.locator(".opblock-tag").first.inner_text()


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "behind a proxy"])
def test_a_request_can_be_tried_below_a_prefix(
    prefixed_server: Server, prefixed_key: str, proxy_url: str, docs: DocsPage, proxied: bool
) -> None:
    base = proxy_url if proxied else prefixed_server.url
    docs.open(f"{base}/bot/api/v1/docs").authorize("ApiKeyHeader", prefixed_key)
    answer = docs.try_out("/bot/api/v1/im/bots")
    assert answer.url == f"{base}/bot/api/v1/im/bots"
    assert answer.status == 200
    assert docs.complaints == []


def test_a_trailing_slash_redirects_to_the_page(
    prefixed_server: Server, proxy_url: str, docs: DocsPage
) -> None:
    docs.open(f"{proxy_url}/bot/api/v1/docs/?lang=zh")
    assert docs.page.url == f"{proxy_url}/bot/api/v1/docs?lang=zh"

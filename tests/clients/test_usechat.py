"""``useChat`` with its transport, on a page of another origin, in a real browser.

Needs the programs of ``../e2e/test_owner_pages.py`` and npm packages.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from werkzeug.wrappers import Response

from tests.servers import MOCK_CONFIG, add_config, serve

from ..e2e.test_owner_pages import browser, pytestmark
from ..servers import Server, create_key
from ..waiting import wait_for
from .npm_packages import NPM, find_node

__all__ = ["browser", "pytestmark"]

_PAGE = (
    '<!doctype html><meta charset="utf-8"><title>A chat</title><div id="root"></div>'
    '<script src="/page.js"></script>'
)

#: Records all texts that the page shows.
_WATCH = """() => {
  window.shown = new Set();
  const note = () => window.shown.add(document.body.innerText);
  const options = { childList: true, characterData: true, subtree: true };
  new MutationObserver(note).observe(document.body, options);
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The origin of a site with a bundled page, like an application's."""
    node = find_node("@ai-sdk/react")
    path = tmp_path_factory.mktemp("usechat") / "page.js"
    subprocess.run(
        [
            node, str(NPM / "node_modules" / "esbuild" / "bin" / "esbuild"),
            str(NPM / "usechat.jsx"), "--bundle", "--jsx=automatic", f"--outfile={path}",
            '--define:process.env.NODE_ENV="production"', "--log-level=error",
        ],
        check=True, timeout=100,
    )  # fmt: skip
    script = path.read_text(encoding="utf-8")

    def answer(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/page.js":
            return Response(script, mimetype="text/javascript")(environ, start_response)
        return Response(_PAGE, mimetype="text/html")(environ, start_response)

    with serve(answer) as url:
        yield url


@pytest.fixture(scope="module")
def server(module_dir: Path, site: str) -> Iterator[Server]:
    add_config(module_dir, MOCK_CONFIG)
    with Server(module_dir, ASTRBOT_CORS_ORIGINS=site) as started:
        yield started


@pytest.fixture
def open_chat(browser: Any, site: str, server: Server) -> Iterator[Callable[[str], Chat]]:
    """Open the page with a chat of this id. At the end, check that it had no errors."""
    opened: list[Chat] = []

    def open_(chat_id: str) -> Chat:
        opened.append(Chat(browser.new_page(), site, server, chat_id))
        return opened[-1]

    yield open_
    for chat in opened:
        chat.page.close()
        assert not chat.complaints


class Chat:
    """The page, open in a browser."""

    def __init__(self, page: Any, site: str, server: Server, chat_id: str) -> None:
        self.page = page
        self._server, self._id = server, chat_id
        self._key = create_key(server.data_dir, "chat")
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        fragment = urlencode({"api": f"{server.url}/api/v1", "key": self._key, "id": chat_id})
        page.goto(f"{site}/#{fragment}")
        self.wait_for_status("ready")

    def send(self, text: str) -> None:
        self.page.fill("input", text)
        self.page.click("text=Send")

    def wait_for_status(self, status: str) -> None:
        self.page.wait_for_selector(f"output:text-is('{status}')")

    def wait_for_answer(self, text: str) -> None:
        self.page.wait_for_selector(f"li.assistant:last-child:has-text('{text}')")

    def read(self) -> list[str]:
        """Return the texts of all visible messages."""
        return [one.inner_text() for one in self.page.query_selector_all("li")]

    def read_stored(self) -> list[dict[str, Any]]:
        """Return the stored messages, newest first."""
        path = f"/api/v1/chat/sessions/{self._id}/messages"
        found: list[dict[str, Any]] = self._server.request("GET", path, self._key).json()["data"][
            "messages"
        ]
        return found


def test_a_message_is_answered_token_by_token(open_chat: Callable[[str], Chat]) -> None:
    chat = open_chat("browser-send")
    chat.page.evaluate(_WATCH)
    chat.send("DELAY=100 N=8")
    chat.wait_for_answer("tok7")
    chat.wait_for_status("ready")
    shown = chat.page.evaluate("() => [...window.shown]")
    assert any("tok0" in one and "tok7" not in one for one in shown)
    chat.send("ECHO again")
    chat.wait_for_answer("echo: ECHO again")
    chat.wait_for_status("ready")
    tokens = " ".join(f"tok{number}" for number in range(8))
    assert chat.read() == ["DELAY=100 N=8", tokens, "ECHO again", "echo: ECHO again"]


def test_an_answer_continues_after_a_reload(open_chat: Callable[[str], Chat]) -> None:
    chat = open_chat("browser-resume")
    chat.send("DELAY=100 N=60")
    chat.wait_for_answer("tok3")
    chat.page.reload()
    chat.wait_for_answer("tok59")
    chat.wait_for_status("ready")
    # The page showed it from its beginning. The model was called once.
    assert chat.read() == [" ".join(f"tok{number}" for number in range(60))]
    assert [one["content"]["type"] for one in chat.read_stored()] == ["bot", "user"]
    chat.page.reload()
    chat.wait_for_status("ready")
    assert chat.read() == []


def test_stop_closes_the_stream_and_stops_the_turn(open_chat: Callable[[str], Chat]) -> None:
    chat = open_chat("browser-stop")
    chat.send("DELAY=100 N=1000")
    chat.wait_for_answer("tok2")
    chat.page.click("text=Stop")
    chat.wait_for_status("ready")
    reply = wait_for(lambda: [one for one in chat.read_stored() if one["sender_id"] == "bot"])[0]
    assert reply["content"]["message"][0]["text"].startswith("tok0 tok1 tok2")
    chat.send("ECHO on")
    chat.wait_for_answer("echo: ECHO on")

"""The chat widget works on a page of another origin with a strict content security policy.

Needs the programs of ``test_owner_pages.py``.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import urllib3
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from astrbot_api.testing.fake_openai import FakeOpenAI

from ..servers import Server, create_key, write_config
from ..waiting import wait_for
from .test_owner_pages import AXE, PNG, browser, pytestmark, sync_api

__all__ = ["browser", "pytestmark"]

PAGE = """\
<!doctype html><html lang="{lang}"><meta charset="utf-8"><title>A shop</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<main><h1>A shop</h1><p>Words of the page.</p></main>
<script defer src="{api}/api/v1/widget.js"></script>
<astrbot-chat key-url="/key" greeting="Hello! **How** can I help?"
  suggestions='["ECHO one"]' {attributes}></astrbot-chat></html>
"""

CSP = (
    "default-src 'none'; script-src {api}; connect-src 'self' {api}; img-src blob:; "
    "media-src blob:; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types astrbot-chat"
)


class Site:
    """A site whose backend creates session keys."""

    def __init__(self) -> None:
        self.api, self.key, self.attributes, self.lang = "", "", "", "en"
        self.page, self.csp = PAGE, CSP
        self.keys_made = 0
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        response = Response(status=404)
        if request.path == "/key" and request.method == "POST":
            self.keys_made += 1
            # A new connection: the server may close an idle one at the moment of the request.
            with urllib3.PoolManager() as http:
                made = http.request(
                    "POST", f"{self.server.url}/api/v1/keys/session",
                    headers={"X-API-Key": self.key}, json={"username": self.username},
                )  # fmt: skip
            response = Response(made.data, mimetype="application/json")
        elif request.path == "/":
            page = self.page.format(lang=self.lang, api=self.api, attributes=self.attributes)
            headers = {"Content-Security-Policy": self.csp.format(api=self.api)}
            response = Response(page, mimetype="text/html", headers=headers)
        return response(environ, start_response)

    server: Server
    username = "visitor"


@pytest.fixture(scope="module")
def site(module_dir: Path, fake_model: FakeOpenAI) -> Iterator[Site]:
    site = Site()
    write_config(
        module_dir, fake_model.base_url, provider='modalities = ["text", "image"]',
        agent="titles = false",
    )  # fmt: skip
    open_to_visitors = (
        f'titles = false\n[widget]\norigins = ["{site.url}"]\nheading = "Ask the shop"\n'
        'greeting = "Hello, *visitor*!"\nsuggestions = ["ECHO public"]\nturns_per_visitor = 12\n'
    )
    write_config(module_dir, fake_model.base_url, name="open", agent=open_to_visitors)
    careful = 'titles = false\n[tools]\napprove = ["calculate"]'
    write_config(module_dir, fake_model.base_url, name="careful", agent=careful)
    try:
        with Server(module_dir, ASTRBOT_CORS_ORIGINS=site.url, ASTRBOT_CHAT_PAGE="1") as server:
            site.server, site.api = server, server.url
            site.key = create_key(module_dir, "chat", "file")
            yield site
    finally:
        site.close()


class Visitor:
    """A browser on the site."""

    def __init__(self, browser: Any, site: Site, width: int = 1280, **options: Any) -> None:
        self.site = site
        height = 720 if width > 400 else 640
        self.context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: Any) -> None:
        # The page has no icon, and its policy allows none.
        said = f"{message.text} {message.location}"
        if message.type in ("error", "warning") and "favicon" not in said:
            self.complaints.append(said)

    def __enter__(self) -> Visitor:
        self.page.goto(self.site.url)
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def find(self, selector: str) -> Any:
        return self.page.locator(f"astrbot-chat {selector}")

    def open(self) -> None:
        self.find(".launcher").click()

    def say(self, text: str) -> None:
        self.find("textarea").last.fill(text)
        self.find("textarea").last.press("Enter")

    def wait_until_done(self) -> None:
        self.page.wait_for_selector("astrbot-chat:not([busy])", state="attached")

    def answers(self) -> list[str]:
        return self.find(".bot .text").all_inner_texts()

    def take_picture(self, name: str) -> None:
        """Store a screenshot in the folder ASTRBOT_PICTURES, if it is set."""
        folder = os.environ.get("ASTRBOT_PICTURES")
        if folder:
            self.page.screenshot(path=f"{folder}/{name}.png")

    def check(self) -> None:
        """Check that axe finds no fault, and that the browser's console is empty."""
        self.page.context.new_cdp_session(self.page).send("Page.setBypassCSP", {"enabled": True})
        found = self.page.evaluate(
            f"{AXE.read_text(encoding='utf-8')}; axe.run().then((one) => one.violations)"
        )
        shown = [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]
        assert shown == []
        assert self.complaints == []


@pytest.fixture(autouse=True)
def _default_page(site: Site, request: pytest.FixtureRequest) -> None:
    site.lang, site.attributes, site.username = "en", "", request.node.name
    site.page, site.csp = PAGE, CSP


def test_an_answer_is_streamed_as_markdown_without_raw_html(browser: Any, site: Site) -> None:
    with Visitor(browser, site) as visitor:
        visitor.open()
        sync_api.expect(visitor.find(".bot strong")).to_have_text("How")
        visitor.find(".suggestions button").click()
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("echo: ECHO one")
        visitor.wait_until_done()
        visitor.say(
            "ECHO\n\n# Title\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n```python\nx < 1 & y\n```\n\n"
            "- [x] done\n- a [link](https://a.test) [bad](javascript:alert(1))\n\n"
            "<img src=x onerror=alert(1)>\n\n\\(x^2\\) ![p](https://a.test/p.png)\n\n"
            "**注意：**请先备份，优惠**100%**以上，~~旧。~~新"
        )
        visitor.wait_until_done()
        last = visitor.find(".bot .text").last
        sync_api.expect(last.locator("td").last).to_have_text("2")
        sync_api.expect(last.locator("pre code")).to_have_text("x < 1 & y")
        sync_api.expect(last.locator("strong")).to_have_text(["注意：", "100%"])
        sync_api.expect(last.locator("del")).to_have_text("旧。")
        sync_api.expect(last.locator("a")).to_have_count(2)
        sync_api.expect(last.locator("img")).to_have_count(0)
        assert "<img src=x onerror=alert(1)>" in last.inner_text()
        sync_api.expect(last.locator("math").first).to_be_attached()
        visitor.take_picture("markdown")
        visitor.check()


def test_formulas_are_aligned_and_struck_or_shown_as_source_text(browser: Any, site: Site) -> None:
    with Visitor(browser, site, color_scheme="dark") as visitor:
        visitor.open()
        visitor.say(
            "ECHO\n\n\\[ \\begin{aligned} a &= b \\\\ ddd &= e \\end{aligned} \\cancel{x} \\]\n\n"
            f"\\(\\frac{{1}}{{\\) \\(\\href{{https://a.test}}{{x}}\\)\n\n$${'x + ' * 40}y$$"
        )
        visitor.wait_until_done()
        last = visitor.find(".bot .text").last
        last.locator("math").first.wait_for()
        left, right = (last.locator("mtd > *").nth(at).bounding_box() for at in (0, 2))
        assert left["x"] + left["width"] == pytest.approx(right["x"] + right["width"], abs=1)
        assert last.locator(".upstrike").bounding_box()["width"] < 40
        sync_api.expect(last.locator(".math").nth(1)).to_have_text("\\(\\frac{1}{\\)")
        visitor.take_picture("formulas")
        visitor.check()


def test_a_turn_is_stopped_regenerated_and_edited(browser: Any, site: Site) -> None:
    with Visitor(browser, site) as visitor:
        visitor.open()
        visitor.say("N=400 DELAY=50 x")
        sync_api.expect(visitor.find(".bot .text").last).to_contain_text("tok2")
        visitor.find(".send").click()
        visitor.wait_until_done()
        assert "tok399" not in visitor.answers()[-1]
        visitor.say("ECHO first")
        visitor.wait_until_done()
        visitor.find(".again").click()
        visitor.wait_until_done()
        assert visitor.answers()[-1] == "echo: ECHO first"
        visitor.find(".user .tools button").click()
        visitor.find(".editor textarea").fill("ECHO second")
        visitor.find(".editor .primary").click()
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("echo: ECHO second")
        visitor.wait_until_done()
        assert visitor.find(".user .text").all_inner_texts()[-1] == "ECHO second"
        sync_api.expect(visitor.find(".message")).to_have_count(5)  # including the greeting
        visitor.say("DROP=2 Hello")
        sync_api.expect(visitor.find(".bot .note")).to_be_visible()
        visitor.take_picture("failed")
        visitor.check()


def test_an_error_is_in_the_language_of_the_page(browser: Any, site: Site) -> None:
    site.lang = "zh-CN"
    with Visitor(browser, site) as visitor:
        visitor.open()
        visitor.say("DROP=2 Hello")
        sync_api.expect(visitor.find(".bot .note")).to_have_text("回复失败。")
        visitor.page.reload()
        visitor.open()
        sync_api.expect(visitor.find(".bot .note")).to_have_text("回复失败。")


def test_a_key_that_cannot_be_had_is_explained_in_the_language_of_the_page(
    browser: Any, site: Site
) -> None:
    site.lang = "zh-CN"
    with Visitor(browser, site) as visitor:
        visitor.page.route("**/key", lambda route: route.abort())
        visitor.open()
        failure = visitor.find(".failure")
        sync_api.expect(failure.locator("p")).to_have_text("连接已断开，请稍后再试。")
        used_up = {"code": "budget_exhausted", "message": "You have reached today's message limit"}
        visitor.page.route("**/key", lambda route: route.fulfill(status=429, json=used_up))
        failure.locator("button").click()
        sync_api.expect(failure.locator("p")).to_have_text("消息数已达上限，请稍后再试。")
        visitor.page.unroute("**/key")
        failure.locator("button").click()
        sync_api.expect(visitor.find(".bot strong")).to_have_text("How")


def test_a_turn_continues_after_a_reload_and_conversations_are_kept(
    browser: Any, site: Site
) -> None:
    with Visitor(browser, site) as visitor:
        visitor.open()
        visitor.say("N=60 DELAY=50 x")
        sync_api.expect(visitor.find(".bot .text").last).to_contain_text("tok3")
        visitor.page.reload()
        visitor.open()
        sync_api.expect(visitor.find(".bot .text").last).to_contain_text("tok59", timeout=30_000)
        visitor.wait_until_done()
        assert visitor.answers()[-1].split() == [f"tok{at}" for at in range(60)]
        visitor.find("header .add").click()
        visitor.say("ECHO another")
        visitor.wait_until_done()
        visitor.find("header .menu").click()
        sync_api.expect(visitor.find(".row")).to_have_count(2)
        visitor.take_picture("conversations")
        visitor.check()
        visitor.find(".row").last.click()
        sync_api.expect(visitor.find(".bot .text").last).to_contain_text("tok59")
        visitor.find("header .menu").click()
        remove = visitor.find(".row[aria-current] + button")
        remove.click()
        remove.click()
        sync_api.expect(visitor.find(".message")).to_have_count(1)
        visitor.find("header .menu").click()
        sync_api.expect(visitor.find(".row")).to_have_count(1)


def test_a_message_sent_while_its_conversation_loads_waits_for_it(browser: Any, site: Site) -> None:
    site.attributes = 'retry-s="0.5"'
    with Visitor(browser, site) as visitor:
        held: list[Any] = []
        visitor.page.route(f"{site.url}/key", lambda route: held.append(route))
        visitor.open()
        visitor.say("ECHO one")
        sync_api.expect(visitor.find("textarea")).to_have_value("ECHO one")
        held.pop().continue_()
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("echo: ECHO one")
        visitor.page.unroute(f"{site.url}/key")
        visitor.wait_until_done()
        history = re.compile(re.escape(site.api) + r"/api/v1/chat/sessions/[^/]+\?")
        away = False
        visitor.page.route(history, lambda route: route.abort() if away else held.append(route))
        visitor.page.reload()
        with visitor.page.expect_request(history):
            visitor.open()
        visitor.say("ECHO two")
        visitor.find("textarea").press("Enter")
        away = True
        held.pop().abort()
        sync_api.expect(visitor.find(".failure")).to_be_visible()
        visitor.page.unroute(history)
        sync_api.expect(visitor.find("textarea")).to_have_value("ECHO two")
        visitor.find("textarea").press("Enter")
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("echo: ECHO two")
        visitor.wait_until_done()
        visitor.page.reload()
        visitor.page.evaluate("document.querySelector('astrbot-chat').send('ECHO three')")
        visitor.open()
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("echo: ECHO three")
        said = visitor.find(".message .text").all_inner_texts()
        assert said == [f"{who}ECHO {n}" for n in ("one", "two", "three") for who in ("", "echo: ")]


def test_a_tool_call_that_needs_approval_is_approved_or_rejected(browser: Any, site: Site) -> None:
    site.attributes = 'config="careful"'
    ask = 'TOOL=calculate TOOLARGS={"expression":"2+2"}'
    with Visitor(browser, site) as visitor:
        visitor.open()
        visitor.say(ask)
        visitor.find(".approval").wait_for()
        assert "2+2" in visitor.find(".approval pre").inner_text()
        visitor.take_picture("approval")
        visitor.check()
        visitor.page.reload()  # a later decision is also possible
        visitor.open()
        visitor.find(".approval button").first.click()
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("tool said: 4")
        visitor.wait_until_done()
        sync_api.expect(visitor.find(".approval")).to_have_count(0)
        visitor.say(ask)
        visitor.find(".approval button").last.click()
        sync_api.expect(visitor.find(".bot .text").last).to_contain_text("reject")
        visitor.wait_until_done()
        visitor.check()


def test_a_call_that_was_decided_elsewhere_shows_its_answer(browser: Any, site: Site) -> None:
    site.attributes = 'config="careful"'
    with Visitor(browser, site) as visitor, Visitor(browser, site) as elsewhere:
        visitor.open()
        visitor.say('TOOL=calculate TOOLARGS={"expression":"2+2"}')
        visitor.find(".approval").wait_for()
        visitor.wait_until_done()
        elsewhere.open()
        elsewhere.find("header .menu").click()
        elsewhere.find(".row").click()
        elsewhere.find(".approval button").first.click()
        sync_api.expect(elsewhere.find(".bot .text").last).to_have_text("tool said: 4")
        visitor.find(".approval button").first.click()
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("tool said: 4")
        visitor.wait_until_done()


@pytest.mark.parametrize("last", ["decision", "end"])
def test_a_decision_during_the_end_of_the_stream_shows_the_answer(
    browser: Any, site: Site, last: str
) -> None:
    """The stream of a waiting turn ends with a 204, which may arrive after the decision's response.

    :param last: Which of both responses arrives last.
    """
    hold = """(last) => {
        const send = window.fetch.bind(window);
        const element = () => document.querySelector("astrbot-chat");
        let decide;
        const decided = new Promise((resolve) => { decide = resolve; });
        window.fetch = async (url, options) => {
            const response = await send(url, options);
            if (response.status === 204 && !("held" in document.body.dataset)) {
                document.body.dataset.held = "";
                await decided;
            }
            if (String(url).includes("/approvals/")) {
                setTimeout(decide);
                while (last === "decision" && element().hasAttribute("busy")) {
                    await new Promise(requestAnimationFrame);
                }
            }
            return response;
        };
    }"""
    site.attributes = 'config="careful"'
    visitor = Visitor(browser, site)
    visitor.context.add_init_script(f"({hold})({last!r})")
    with visitor:
        visitor.open()
        visitor.say('TOOL=calculate TOOLARGS={"expression":"2+2"}')
        visitor.page.wait_for_selector("body[data-held]", state="attached")
        visitor.find(".approval button").first.click()
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("tool said: 4")
        visitor.wait_until_done()


def test_files_are_uploaded_by_choice_paste_and_drop(browser: Any, site: Site) -> None:
    give = """([kind, name, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
        const root = document.querySelector("astrbot-chat").shadowRoot;
        const options = { bubbles: true, cancelable: true };
        if (kind === "paste") {
            const event = new ClipboardEvent("paste", { ...options, clipboardData: data });
            root.querySelector("textarea").dispatchEvent(event);
        } else {
            const event = new DragEvent("drop", { ...options, dataTransfer: data });
            root.querySelector(".panel").dispatchEvent(event);
        }
    }"""
    with Visitor(browser, site) as visitor:
        visitor.open()
        chosen = {"name": "a.png", "mimeType": "image/png", "buffer": PNG}
        visitor.find("input[type=file]").set_input_files(chosen)
        visitor.page.evaluate(give, ["paste", "b.png", list(PNG)])
        visitor.page.evaluate(give, ["drop", "c.png", list(PNG)])
        sync_api.expect(visitor.find(".chip")).to_have_count(3)
        sync_api.expect(visitor.find(".chip progress")).to_have_count(0)
        visitor.find(".chip button").last.click()
        visitor.say("ECHO look")
        visitor.wait_until_done()
        sync_api.expect(visitor.find(".user img")).to_have_count(2)
        assert visitor.find(".user .file button").all_inner_texts() == ["a.png ⤓", "b.png ⤓"]
        sync_api.expect(visitor.find(".chip")).to_have_count(0)
        visitor.check()
        visitor.find(".user .tools button").click()
        visitor.find(".editor textarea").fill("ECHO closely")
        visitor.find(".editor .primary").click()
        sync_api.expect(visitor.find(".bot .text").last).to_contain_text("ECHO closely")
        visitor.wait_until_done()
        visitor.page.reload()
        visitor.open()
        sync_api.expect(visitor.find(".user .text")).to_have_text("ECHO closely")
        sync_api.expect(visitor.find(".user .file button")).to_have_text(["a.png ⤓", "b.png ⤓"])


def test_the_end_of_a_conversation_stays_in_view(browser: Any, site: Site) -> None:
    at_end = """() => {
        const log = document.querySelector("astrbot-chat").shadowRoot.querySelector(".log");
        return log.clientHeight && log.scrollHeight - log.scrollTop - log.clientHeight < 2;
    }"""
    with Visitor(browser, site) as visitor:
        visitor.open()
        visitor.say("ECHO " + "line\n" * 60)
        visitor.wait_until_done()
        chosen = {"name": "a.png", "mimeType": "image/png", "buffer": PNG}
        visitor.find("input[type=file]").set_input_files(chosen)
        visitor.find(".chip").wait_for()
        visitor.page.wait_for_function(at_end)
        visitor.find(".close").click()
        visitor.open()
        visitor.page.wait_for_function(at_end)


def test_a_message_is_not_sent_without_a_file_that_failed(browser: Any, site: Site) -> None:
    large = {"status": "error", "code": "file_too_large", "message": "too large"}
    with Visitor(browser, site) as visitor:
        visitor.open()
        visitor.page.route("**/api/v1/file", lambda route: route.fulfill(status=413, json=large))
        chosen = {"name": "a.png", "mimeType": "image/png", "buffer": PNG}
        visitor.find("input[type=file]").set_input_files(chosen)
        visitor.find(".chip .note").wait_for()
        visitor.say("ECHO look")
        sync_api.expect(visitor.find(".status")).to_contain_text("A file was not uploaded")
        assert visitor.find("textarea").input_value() == "ECHO look"
        sync_api.expect(visitor.find(".user")).to_have_count(0)
        visitor.find(".chip button").click()
        sync_api.expect(visitor.find(".status")).to_have_text("")
        visitor.find("textarea").press("Enter")
        visitor.wait_until_done()
        sync_api.expect(visitor.find(".user .text")).to_have_text("ECHO look")


def test_a_failed_regeneration_keeps_the_old_answer(browser: Any, site: Site) -> None:
    with Visitor(browser, site) as visitor:
        visitor.open()
        visitor.say("ECHO kept")
        visitor.wait_until_done()
        visitor.page.route("**/regenerate", lambda route: route.abort())
        visitor.find(".again").click()
        visitor.find(".failure").get_by_text("The connection broke.").wait_for()
        assert visitor.answers()[-1] == "echo: ECHO kept"
        visitor.page.unroute("**/regenerate")
        with visitor.page.expect_response("**/regenerate"):
            visitor.find(".failure button").click()
        visitor.wait_until_done()
        assert visitor.answers()[-1] == "echo: ECHO kept"
        sync_api.expect(visitor.find(".message")).to_have_count(3)  # including the greeting


def test_an_answer_that_another_tab_went_on_from_is_not_replaced(browser: Any, site: Site) -> None:
    with Visitor(browser, site) as visitor:
        visitor.open()
        visitor.say("ECHO first")
        visitor.wait_until_done()
        other = visitor.context.new_page()
        other.goto(site.url)
        other.locator("astrbot-chat .launcher").click()
        other.locator("astrbot-chat textarea").fill("ECHO second")
        other.locator("astrbot-chat textarea").press("Enter")
        other.get_by_text("echo: ECHO second").wait_for()
        other.locator("astrbot-chat .again").wait_for()
        visitor.find(".again").click()
        sync_api.expect(visitor.find(".bot .text")).to_have_text(
            ["echo: ECHO first", "echo: ECHO second"]
        )
        sync_api.expect(visitor.find(".failure")).to_have_count(0)


def test_an_answer_that_broke_off_is_loaded_by_a_click(browser: Any, site: Site) -> None:
    site.attributes = 'retry-s="0"'

    def cut(route: Any) -> None:
        whole = route.fetch()
        route.fulfill(response=whole, body=whole.text().partition("tok2")[0])

    with Visitor(browser, site) as visitor:
        visitor.page.route("**/api/v1/chat", cut)
        visitor.open()
        visitor.say("N=4 x")
        visitor.find(".failure").get_by_text("The connection broke.").wait_for()
        visitor.find(".failure button").click()
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("tok0 tok1 tok2 tok3")


def test_an_element_that_the_page_moves_or_inserts_again_continues_its_answer(
    browser: Any, site: Site
) -> None:
    with Visitor(browser, site) as visitor:
        visitor.open()
        visitor.say("N=30 DELAY=50 x")
        sync_api.expect(visitor.find(".bot .text").last).to_contain_text("tok2")
        chat = visitor.page.locator("astrbot-chat").element_handle()
        chat.evaluate("(chat) => document.querySelector('main').append(chat)")
        sync_api.expect(visitor.find(".bot .text").last).to_contain_text("tok5")
        with visitor.page.expect_event("requestfailed"):
            chat.evaluate("(chat) => chat.remove()")
        chat.evaluate("(chat) => document.body.append(chat)")
        sync_api.expect(visitor.find(".bot .text").last).to_contain_text("tok29")
        visitor.wait_until_done()
        assert visitor.answers()[-1].split() == [f"tok{at}" for at in range(30)]
        sync_api.expect(visitor.find(".note")).to_have_count(0)


def test_answers_are_copied_without_https(browser: Any, site: Site) -> None:
    with Visitor(browser, site) as visitor:
        visitor.page.add_init_script("Object.defineProperty(navigator, 'clipboard', {})")
        visitor.page.reload()
        visitor.open()
        visitor.say("ECHO copied")
        visitor.wait_until_done()
        visitor.find(".bot .tools button").first.click()
        sync_api.expect(visitor.find(".status")).to_have_text("Copied.")
        visitor.find("textarea").press("Control+V")
        sync_api.expect(visitor.find("textarea")).to_have_value("echo: ECHO copied")
        # In Safari, the key that ends a composition has this code.
        visitor.find("textarea").dispatch_event("keydown", {"key": "Enter", "keyCode": 229})
        sync_api.expect(visitor.find("textarea")).to_have_value("echo: ECHO copied")


def test_a_framework_sets_properties_before_and_after_the_script_is_loaded(
    browser: Any, site: Site
) -> None:
    site.csp = CSP.replace("script-src", "script-src 'unsafe-inline'")
    site.page = PAGE + (
        "<script>const chat = document.querySelector('astrbot-chat');chat.texts = {{Chat: 'Ours'}};"
        "chat.getKey = async () => (await (await fetch('/key', {{method: 'POST'}})).json()).data;"
        "chat.removeAttribute('key-url')</script>"
    )
    with Visitor(browser, site) as visitor:
        visitor.open()
        sync_api.expect(visitor.find("h2")).to_have_text("Ours")
        visitor.say("ECHO property")
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("echo: ECHO property")
        visitor.wait_until_done()
        made = visitor.page.evaluate(
            "() => Object.assign(document.createElement('astrbot-chat'), { server: '/bot' }).server"
        )
        assert made == f"{site.url}/bot"
        visitor.check()


def test_keys_that_are_typed_in_the_chat_do_not_reach_the_page(browser: Any, site: Site) -> None:
    with Visitor(browser, site) as visitor:
        visitor.page.evaluate(
            "() => { window.seen = [];"
            "for (const name of ['keydown', 'keyup', 'paste', 'drop'])"
            "  addEventListener(name, (event) => seen.push(event.key ?? name)) }"
        )
        visitor.open()
        visitor.page.keyboard.type("/s")
        box = visitor.find("textarea")
        for name in ("paste", "drop"):
            box.dispatch_event(name, {})
        sync_api.expect(box).to_have_value("/s")
        assert visitor.page.evaluate("window.seen") == []
        # Escape cancels a composition, and does not close the chat.
        box.dispatch_event("keydown", {"key": "Escape", "isComposing": True})
        sync_api.expect(box).to_be_visible()
        visitor.page.keyboard.press("Escape")
        sync_api.expect(box).to_be_hidden()


def test_the_page_does_not_change_the_style_and_a_low_window_is_filled(
    browser: Any, site: Site
) -> None:
    site.page = PAGE.replace("<main>", '<main style="text-align: center; white-space: nowrap">')
    site.page = site.page.replace("</main>", "").replace("</html>", "</main></html>")
    site.page += "<style>* {{ color: lime; font: 40px serif }}</style>"
    site.csp = CSP.replace("img-src", "style-src 'unsafe-inline'; img-src")
    with Visitor(browser, site) as visitor:
        visitor.page.set_viewport_size({"width": 667, "height": 375})
        visitor.open()
        panel = visitor.find(".panel")
        assert panel.evaluate("(one) => getComputedStyle(one).textAlign") == "start"
        assert panel.evaluate("(one) => getComputedStyle(one).fontSize") == "15px"
        assert panel.evaluate("(one) => getComputedStyle(one).color") == "rgb(27, 31, 36)"
        assert panel.bounding_box() == {"x": 0, "y": 0, "width": 667, "height": 375}
        visitor.say("ECHO\n\n|" + "word|" * 40 + "\n|" + "-|" * 40)
        visitor.wait_until_done()
        assert visitor.find("th").last.bounding_box()["height"] < 40  # the table scrolls
        visitor.page.evaluate("document.querySelector('main').style.visibility = 'hidden'")
        sync_api.expect(panel).to_be_hidden()


@pytest.mark.parametrize(("style", "height"), [("", 320), ("300px", 320), ("500px", 500)])
def test_an_inline_chat_does_not_cover_what_follows(
    browser: Any, site: Site, style: str, height: int
) -> None:
    site.attributes = 'mode="inline"'
    with Visitor(browser, site) as visitor:
        chat = visitor.page.locator("astrbot-chat")
        chat.evaluate("(chat, height) => { chat.style.height = height }", style)
        boxes = [chat.bounding_box(), visitor.find(".panel").bounding_box()]
        assert [box["height"] for box in boxes] == [height, height]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_chinese_phone_needs_no_mouse(browser: Any, site: Site, scheme: str) -> None:
    site.lang = "zh-CN"
    with Visitor(browser, site, 320, color_scheme=scheme, has_touch=True) as visitor:
        keys = visitor.page.keyboard
        sync_api.expect(visitor.find(".launcher")).to_have_attribute("aria-label", "打开聊天")
        keys.press("Tab")
        keys.press("Enter")
        sync_api.expect(visitor.find("textarea")).to_be_focused()
        sync_api.expect(visitor.find("textarea")).to_have_attribute("placeholder", "输入消息")
        keys.type("ECHO 你好")
        keys.press("Enter")
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("echo: ECHO 你好")
        visitor.wait_until_done()
        wide = visitor.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 320
        visitor.take_picture(f"phone-{scheme}")
        visitor.check()
        keys.press("Escape")
        sync_api.expect(visitor.find(".launcher")).to_be_focused()


def test_a_removed_button_does_not_lose_the_focus(browser: Any, site: Site) -> None:
    site.attributes = 'config="careful"'
    with Visitor(browser, site) as visitor:
        log = visitor.find(".log")
        visitor.open()
        for button in (".suggestions button", ".again", ".approval .primary", ".editor button"):
            if "approval" in button:
                visitor.say('TOOL=calculate TOOLARGS={"expression":"1+1"}')
            if "editor" in button:
                visitor.find(".user .tools button").last.press("Enter")
            visitor.find(button).first.press("Enter")
            visitor.find(button).wait_for(state="detached" if button != ".again" else "visible")
            visitor.wait_until_done()
            sync_api.expect(log, button).to_be_focused()
        visitor.find("header .menu").click()
        visitor.find(".sessions .icon").click()
        sync_api.expect(visitor.find(".sessions .icon")).to_have_attribute(
            "aria-label", "Delete? ECHO one"
        )


def test_a_right_to_left_page_is_mirrored(browser: Any, site: Site) -> None:
    site.lang = 'ar" dir="rtl'
    with Visitor(browser, site, 320) as visitor:
        visitor.open()
        visitor.say("ECHO مرحبا")
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("echo: ECHO مرحبا")
        visitor.wait_until_done()
        boxes = {
            name: visitor.find(selector).last.bounding_box()
            for name, selector in (
                ("said", ".user .text"), ("answer", ".bot .text"), ("send", ".send"),
                ("input", "textarea"), ("menu", "header .menu"), ("close", "header .close"),
            )
        }  # fmt: skip
        # In right-to-left pages, the user's messages and the send button are on the left.
        assert boxes["said"]["x"] < 320 - boxes["said"]["x"] - boxes["said"]["width"]
        assert boxes["answer"]["x"] + boxes["answer"]["width"] > 280
        assert boxes["send"]["x"] < boxes["input"]["x"]
        assert boxes["close"]["x"] < boxes["menu"]["x"]
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 320
        visitor.take_picture("right-to-left")
        visitor.check()


def test_a_voice_message_is_recorded_sent_and_playable(browser: Any, site: Site) -> None:
    with Visitor(browser, site) as visitor:
        visitor.open()
        visitor.find(".voice").click()
        sync_api.expect(visitor.find(".voice")).to_have_attribute("aria-pressed", "true")
        # On a busy machine, the recorder hears nothing for a while.
        visitor.page.wait_for_function(
            """() => {
                const recorder = document.querySelector('astrbot-chat').recorder
                if (recorder?.state !== 'recording') return false
                recorder.ondataavailable = (event) => { window.heard ||= event.data.size > 0 }
                recorder.requestData()
                return window.heard
            }"""
        )
        visitor.find(".voice").click()
        sync_api.expect(visitor.find(".chips")).to_contain_text("voice.webm")
        sync_api.expect(visitor.find(".chip progress")).to_have_count(0)
        visitor.find(".send").click()
        visitor.wait_until_done()
        sync_api.expect(visitor.find(".user audio")).to_have_count(1)
        visitor.page.wait_for_function(
            "document.querySelector('astrbot-chat').shadowRoot.querySelector('audio').readyState"
            " >= 1"
        )
        visitor.take_picture("voice")
        visitor.check()


def test_another_device_of_the_user_continues_in_mid_answer(browser: Any, site: Site) -> None:
    with Visitor(browser, site) as phone, Visitor(browser, site) as desk:
        phone.open()
        phone.say("DELAY=100 N=40 x")
        sync_api.expect(phone.find(".bot .text").last).to_contain_text("tok1")
        desk.open()
        desk.find("header .menu").click()
        desk.find(".row").first.click()
        for device in (desk, phone):
            sync_api.expect(device.find(".bot .text").last).to_contain_text("tok39", timeout=30_000)
            device.wait_until_done()
            assert device.answers()[-1].split() == [f"tok{at}" for at in range(40)]


def test_nothing_is_lost_while_the_server_is_down(browser: Any, site: Site) -> None:
    site.attributes = 'mode="inline" retry-s="0.5"'
    with Visitor(browser, site) as visitor:
        sync_api.expect(visitor.find(".bot")).to_have_count(1)
        away = re.compile(re.escape(site.api) + r"/api/v1/chat$")
        visitor.page.route(away, lambda route: route.abort())
        visitor.say("ECHO kept")
        sync_api.expect(visitor.find(".failure button")).to_be_visible()
        visitor.page.unroute(away)
        visitor.find(".failure button").click()
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("echo: ECHO kept")
        visitor.wait_until_done()
        path = f"/api/v1/chat/sessions?username={site.username}"
        listed = json.loads(site.server.request("GET", path, site.key).data)["data"]["sessions"]
        assert len(listed) == 1
        visitor.take_picture("inline")


PUBLIC_PAGE = """\
<!doctype html><html lang="{lang}"><meta charset="utf-8"><title>A shop</title>
<main><h1>A shop</h1></main>
<script defer src="{api}/api/v1/widget.js"></script>
<astrbot-chat public config="open"></astrbot-chat></html>
"""


def test_visitors_chat_without_a_key_or_a_backend(browser: Any, site: Site) -> None:
    site.page = PUBLIC_PAGE
    made_before = site.keys_made
    with Visitor(browser, site) as visitor:
        visitor.open()
        visitor.find(".suggestions button").click()
        visitor.wait_until_done()
        assert visitor.find("h2").inner_text() == "Ask the shop"
        assert visitor.find(".attach").is_hidden()
        visitor.take_picture("public")
        visitor.check()
        # Another page of the site, and a reload, have the same visitor and conversation.
        visitor.page.reload()
        visitor.open()
        visitor.find(".bot .text").get_by_text("echo: ECHO public").wait_for()
        # The key has ten turns. After them, the widget gets a new key without a visible change.
        for number in range(2, 13):
            visitor.say(f"ECHO turn {number}")
            visitor.find(".bot .text").get_by_text(
                f"echo: ECHO turn {number}", exact=True
            ).wait_for()
            visitor.wait_until_done()
        visitor.say("ECHO one more")
        visitor.find(".failure").get_by_text("today's message limit").wait_for()
    assert site.keys_made == made_before


def ask_for_visit(connection: HTTPConnection, origin: str) -> int:
    """Ask for a visitor's key as a page does; return the status."""
    headers = {"Origin": origin, "Content-Type": "application/json"}
    connection.request("POST", "/api/v1/widget/visits", '{"config_id": "open"}', headers)
    response = connection.getresponse()
    response.read()
    return response.status


def test_a_page_of_another_origin_shows_the_error(
    browser: Any, site: Site, module_dir: Path
) -> None:
    path = module_dir / "configs" / "open.toml"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace(site.url, "https://other.example"), encoding="utf-8")
    try:
        # Each worker reads the config again within a second.
        for connection in site.server.connect_to_each_worker(create_key(module_dir, "im")):
            with closing(connection):
                wait_for(lambda one=connection: ask_for_visit(one, site.url) == 403)
        site.page = PUBLIC_PAGE
        with Visitor(browser, site) as visitor:
            visitor.open()
            visitor.find(".failure").get_by_text("may not open this chat").wait_for()
    finally:
        path.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    ("address", "text"),
    [("/chat", "the complete link"), ("/chat#key=abk_old", "Ask for a new one")],
)
def test_the_page_explains_a_link_without_a_valid_key(
    browser: Any, site: Site, address: str, text: str
) -> None:
    with Visitor(browser, site) as visitor:
        visitor.page.goto(f"{site.api}{address}")
        visitor.say("hello")
        visitor.find(".failure").get_by_text(text).wait_for()


def make_link(site: Site, username: str) -> str:
    made = site.server.request(
        "POST", "/api/v1/keys/session", site.key, json={"username": username}
    )
    return f"{site.api}/chat#key={json.loads(made.data)['data']['api_key']}"


@pytest.mark.parametrize(("answer", "opened"), [("dismiss", 0), ("accept", 1)])
def test_another_link_in_a_tab_replaces_its_key_only_if_the_visitor_agrees(
    browser: Any, site: Site, answer: str, opened: int
) -> None:
    links = [make_link(site, name) for name in ("mine", "stranger")]
    with Visitor(browser, site) as visitor:
        visitor.page.goto(links[0])
        visitor.page.on("dialog", lambda one: getattr(one, answer)())
        with visitor.page.expect_event("dialog") as asked:
            visitor.page.evaluate("link => { location.href = link; }", links[1])
        assert "another chat" in asked.value.message
        visitor.page.wait_for_url(f"{site.api}/chat")
        kept = visitor.page.evaluate("sessionStorage.getItem('astrbot-chat-key')")
        assert kept == links[opened].partition("#key=")[2]


def test_a_link_opens_the_page_and_its_key_is_removed_from_the_address(
    browser: Any, site: Site
) -> None:
    with Visitor(browser, site) as visitor:
        visitor.page.goto(make_link(site, "linked"))
        visitor.say("ECHO by link")
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("echo: ECHO by link")
        visitor.wait_until_done()
        assert visitor.page.url == f"{site.api}/chat"
        visitor.page.reload()
        sync_api.expect(visitor.find(".bot .text").last).to_have_text("echo: ECHO by link")
        visitor.take_picture("page")
        visitor.check()

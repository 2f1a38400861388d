"""The admin pages work in a real browser, in both languages.

Needs Debian's ``chromium`` (``.ci/install-tools``), ``playwright`` and ``axe-playwright-python``.
Without them, the tests are skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.testing.fake_openai import FakeOpenAI
from astrbot_api.translations import make_gettext

from ..servers import Server, write_config
from .test_docs_page import _FLAGS

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is missing")

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        _CHROMIUM is None, reason="there is no chromium; .ci/install-tools installs it"
    ),
]

#: A name as a program makes it, without blanks.
LONG = "0123456789abcdef" * 4
PASSWORD = "correct horse battery"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d4944415478da6364f8cf500f00038601805a347d6b0000000049454e44ae426082"
)
AXE = Path(axe.__file__).parent / "axe.min.js"
PAGES = ("", "console", "keys", "sessions", "approvals", "configs", "bots", "audit")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        args = [*_FLAGS, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        started = playwright.chromium.launch(executable_path=_CHROMIUM, args=args)
        yield started
        started.close()


@pytest.fixture(scope="module")
def server(module_dir: Path, fake_model: FakeOpenAI) -> Iterator[Server]:
    write_config(module_dir, fake_model.base_url, provider='modalities = ["text", "image"]')
    careful = 'titles = false\n[tools]\napprove = ["calculate"]'
    path = write_config(module_dir, fake_model.base_url, name="careful", agent=careful)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("You are", "You are " + "very " * 500), encoding="utf-8")
    (module_dir / "bots.toml").write_text(
        "".join(
            f'[[bot]]\nid = "{name}"\ntype = "telegram"\nenabled = false\n' for name in ("tg", LONG)
        ),
        encoding="utf-8",
    )
    app = "tests.contract.app:create_contract_app()"
    settings = {"ASTRBOT_ADMIN_PASSWORD": PASSWORD, "ASTRBOT_OWNER_APPROVES": "1"}
    with Server(module_dir, app=app, **settings) as started:
        yield started


#: Labels of the navigation that cover a part of the next one.
OVERLAPPING = """
[...document.querySelectorAll(".nav a span")]
  .filter((one, at, all) => all[at + 1] &&
    one.getBoundingClientRect().right > all[at + 1].getBoundingClientRect().left)
  .map((one) => one.textContent)
"""

#: Choices whose label has more than one line.
HIGH = """
[...document.querySelectorAll(".switch button")]
  .filter((one) => one.getBoundingClientRect().height > 32).map((one) => one.textContent)
"""


class Owner:
    """A browser page with its console messages."""

    def __init__(self, page: Any, url: str, language: str) -> None:
        self.page = page
        self.url = url
        self.language = language
        self.text = make_gettext(language)
        self.complaints: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} {message.location.get('url', '')}")

    def go(self, page: str) -> None:
        """Open a page and wait until it shows its data."""
        self.page.goto(f"{self.url}/admin/{page}")
        self.wait_loaded()

    def wait_loaded(self) -> None:
        """Wait until the page shows its data."""
        self.page.wait_for_function("() => !document.querySelector('[aria-busy=true]')")

    def log_in(self) -> None:
        """Log in like a user, from the root."""
        self.page.goto(f"{self.url}/")
        assert self.page.url.endswith("/admin/login")
        self.page.fill("#username", "astrbot")
        self.page.fill("#password", PASSWORD)
        self.page.click("button[type=submit]")
        self.page.wait_for_url("**/admin/")

    def button(self, text: str, **options: Any) -> Any:
        """Find a button by its English text, in the page's language."""
        return self.page.get_by_role("button", name=self.text(text), exact=True, **options)

    def say(self, text: str) -> None:
        """Send a message in the console."""
        self.page.fill("#message", text)
        self.page.press("#message", "Enter")

    def wait_answered(self) -> None:
        """Wait until no answer is running."""
        self.page.locator("#send").wait_for(state="visible")

    def last(self) -> Any:
        """Return the last message of the console."""
        return self.page.locator("#thread .msg").last

    def take_picture(self, name: str) -> None:
        """Store a screenshot in the folder ASTRBOT_PICTURES, if it is set."""
        folder = os.environ.get("ASTRBOT_PICTURES")
        if folder:
            self.page.screenshot(path=f"{folder}/{name}-{self.language}.png", full_page=True)

    def serious_faults(self) -> list[str]:
        """Return the findings of axe, by rule and element."""
        if not self.page.evaluate("typeof window.axe === 'object'"):
            self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run()")["violations"]
        return [
            f"{one['id']}: {node['target']}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]


@pytest.fixture(params=["en", "zh"])
def owner(browser: Any, server: Server, request: pytest.FixtureRequest) -> Iterator[Owner]:
    locale = {"en": "en-US", "zh": "zh-CN"}[request.param]
    context = browser.new_context(locale=locale, viewport={"width": 1280, "height": 800})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield Owner(context.new_page(), server.url, request.param)
    context.close()


#: For tests of claims that do not depend on the language.
in_english = pytest.mark.parametrize("owner", ["en"], indirect=True)


def test_wrong_password_is_reported_and_no_page_opens(owner: Owner) -> None:
    owner.go("login")
    assert "astrbot" not in owner.page.input_value("#username")
    owner.page.fill("#username", "astrbot")
    owner.page.fill("#password", "wrong one")
    owner.page.click("button[type=submit]")
    fault = owner.page.locator("#fault")
    fault.wait_for()
    assert fault.inner_text() == owner.text("The name or the password is wrong.")
    owner.page.goto(f"{owner.url}/admin/keys")
    assert owner.page.url.endswith("/admin/login?next=keys")


@in_english
def test_the_login_opens_the_page_that_asked_for_it(owner: Owner) -> None:
    owner.page.goto(f"{owner.url}/admin/sessions#none")
    owner.page.fill("#username", "astrbot")
    owner.page.fill("#password", PASSWORD)
    owner.page.click("button[type=submit]")
    owner.page.wait_for_url("**/admin/sessions#none")
    owner.wait_loaded()
    # The login ends while the page is open.
    owner.page.context.clear_cookies(name="astrbot_owner")
    owner.page.locator("input[type=search]").fill("x")
    owner.page.wait_for_url("**/admin/login?next=sessions*")


@pytest.mark.parametrize("script", ["login.js", "catalogue.js"])
def test_a_login_waits_for_the_scripts_of_its_page(
    browser: Any, server: Server, script: str
) -> None:
    held: list[Any] = []
    page = browser.new_page(locale="zh-CN")
    page.route(f"**/{script}*", lambda route: held.append(route))
    with page.expect_request(f"**/{script}*"):
        page.goto(f"{server.url}/admin/login", wait_until="commit")
    page.fill("#username", "astrbot")
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    page.wait_for_function("() => document.querySelector('button[type=submit]').disabled")
    assert page.url.endswith("/admin/login")
    held.pop().continue_()
    page.click("button[type=submit]")
    page.wait_for_url("**/admin/")


def test_the_owner_logs_in_creates_a_key_and_chats(owner: Owner, server: Server) -> None:
    page = owner.page
    name = f"story in {owner.text('Audit')}"
    owner.log_in()

    owner.go("keys")
    page.click("#create")
    page.fill("dialog input[type=text]", name)
    page.locator("dialog form button[type=submit]").click()
    secret_box = page.locator(".secret input")
    secret_box.wait_for()
    secret = secret_box.input_value()
    assert re.fullmatch(r"abk_[\w-]{43}", secret)
    page.locator(".secret").get_by_role("button").click()
    page.wait_for_function("secret => navigator.clipboard.readText().then(t => t === secret)",
                           arg=secret)  # fmt: skip
    assert secret in page.locator(".codebox pre").inner_text()
    owner.button("Done").click()
    assert server.request("GET", "/api/v1/configs", secret).status == 200

    owner.go("console")
    page.select_option("#key", label=page.locator("#key option").first.inner_text())
    assert name in page.locator("#key option").first.inner_text()
    owner.say("THINK please")
    owner.wait_answered()
    reasoning = page.locator("#thread .fold").first
    assert reasoning.get_attribute("open") is None
    owner.say("TOOL please")
    owner.wait_answered()
    tool = owner.last().locator(".tool")
    tool.locator("summary").click()
    assert "action must be one of" in tool.locator("dd").last.inner_text()
    assert page.locator("#events > div").count() > 10
    owner.say("FINISH=length")
    owner.wait_answered()
    cut = owner.text("The answer was cut off at the model's length limit.")
    assert owner.last().locator(".note.warn").inner_text() == cut
    owner.say(
        "ECHO\n\n| a | *b* |\n| - | - |\n| 1 | x\\|y |\n\n2 * 3 * 4 \\(x^2\\)\n\n"
        "1. one\n   - two\n\n> quoted\n\n```python\nx < 1\n```\n\n<img src=x onerror=alert(1)>"
    )
    owner.wait_answered()
    rich = owner.last()
    assert rich.locator("td").all_inner_texts() == ["1", "x|y"]
    assert rich.locator("em").all_inner_texts() == ["b"]
    assert rich.locator("ol ul li").all_inner_texts() == ["two"]
    assert rich.locator("blockquote").all_inner_texts() == ["quoted"]
    assert "2 * 3 * 4 \\(x^2\\)" in rich.inner_text()
    assert "<img src=x onerror=alert(1)>" in rich.inner_text()
    rich.locator(".code").get_by_role("button").click()
    page.wait_for_function("navigator.clipboard.readText().then(text => text === 'x < 1')")
    owner.take_picture("console-markdown")
    page.click("#tab-curl")
    assert "/api/v1/chat" in page.locator("#calls pre").inner_text()
    page.click("#tab-events")

    page.set_input_files("#file", {"name": "dot.png", "mimeType": "image/png", "buffer": PNG})
    page.locator("#attached .filechip").wait_for()
    owner.say("What is this?")
    page.locator(".msg.user img.media").wait_for()
    owner.wait_answered()

    owner.say("N=600 DELAY=100")
    page.wait_for_function("() => document.querySelector('#thread').innerText.includes('tok5')")
    page.reload()
    page.wait_for_function("() => document.querySelector('#thread').innerText.includes('tok5')")
    shown = owner.last().inner_text()
    page.wait_for_function(
        "shown => document.querySelector('#thread .msg:last-child').innerText.length"
        " > shown.length", arg=shown,
    )  # fmt: skip
    assert owner.last().inner_text().count("tok5 ") == 1
    page.click("#stop")
    owner.wait_answered()
    assert "tok599" not in owner.last().inner_text()

    owner.go("sessions")
    page.locator(".listing button").first.click()
    page.locator("#reader .msg").first.wait_for()
    assert "TOOL please" in page.locator("#reader").inner_text()
    assert cut in page.locator("#reader").inner_text()

    assert owner.complaints == []
    owner.go("keys")
    page.get_by_role("button", name=f"{owner.text('Revoke')}: {name}").first.click()
    page.locator("dialog .btn.danger").click()
    page.locator("tr", has_text=name).first.get_by_text(owner.text("Revoked")).wait_for()
    assert server.request("GET", "/api/v1/configs", secret).status == 401
    owner.go("console")
    assert name not in page.locator("#key").inner_text()


def create_key(server: Server, *scopes: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Create a key as the owner, and return it with the headers of the owner's login."""
    token = server.request(
        "POST", "/api/auth/login", json={"username": "astrbot", "password": PASSWORD}
    ).json()["data"]["token"]
    headers = {"Authorization": f"Bearer {token}"}
    body = {"name": "of a test", "scopes": scopes}
    made = server.request("POST", "/api/apikey/create", headers=headers, json=body)
    return made.json()["data"], headers


def test_editing_a_key_changes_only_the_edited_fields(owner: Owner, server: Server) -> None:
    owner.log_in()
    made, headers = create_key(server, "chat", "im")
    update = {"key_id": made["key_id"], "name": f"edited in {owner.text('Audit')}"}
    hidden = {"session_id": "s1", "default_username": "bob", "legacy_errors": True}
    server.request("POST", "/api/apikey/update", headers=headers,
                   json={**update, "rules": {**hidden, "streams": 3}})  # fmt: skip
    owner.go("keys")

    def edit(field: str, value: str) -> dict[str, Any]:
        page.get_by_role("button", name=f"{owner.text('Edit')}: {update['name']}").first.click()
        page.locator("dialog").get_by_label(owner.text(field), exact=True).fill(value)
        page.locator("dialog form button[type=submit]").click()
        page.locator("dialog").wait_for(state="detached")
        listed = server.request("GET", "/api/apikey/list", headers=headers).json()["data"]
        return next(one for one in listed if one["key_id"] == made["key_id"])

    page = owner.page
    assert edit("Concurrent turns", "2")["rules"] == {**hidden, "streams": 2}
    page.locator("[aria-busy=true]").wait_for(state="detached")
    # Another page removes a scope and limits the key while this page shows the old state.
    server.request("POST", "/api/apikey/update", headers=headers,
                   json={**update, "scopes": ["im"], "rules": {"streams": 1}})  # fmt: skip
    found = edit("Name", "renamed")
    assert (found["name"], found["scopes"]) == ("renamed", ["im"])
    assert found["rules"] == {"streams": 1}
    assert owner.complaints == []


def test_revoked_key_is_reported_in_the_language_of_the_page(owner: Owner, server: Server) -> None:
    owner.log_in()
    made, headers = create_key(server, "chat")
    owner.go("console")
    owner.page.select_option("#key", made["key_id"])
    owner.say("hi")
    owner.wait_answered()
    ended = {"key_id": made["key_id"]}
    server.request("POST", "/api/apikey/revoke", headers=headers, json=ended)
    owner.say("hi again")
    note = owner.page.locator(".note.bad", has_text="401")
    note.wait_for()
    assert "Invalid API key" in note.inner_text()
    meaning = "The key is unknown, revoked, deleted or expired."
    assert (owner.text(meaning) in note.inner_text()) == (owner.language == "zh")


def test_an_unsent_message_is_kept_and_sent_again(owner: Owner, server: Server) -> None:
    page = owner.page
    made, _ = create_key(server, "chat", "file")
    owner.log_in()
    owner.go("console")
    page.select_option("#key", made["key_id"])
    owner.say("ECHO before")
    owner.wait_answered()
    page.context.set_offline(True)
    owner.say("ECHO kept words")
    page.click("#stop")
    page.locator("#thread .note.bad").wait_for()
    assert page.locator("#thread .msg.user").last.inner_text().count("kept words") == 1
    page.context.set_offline(False)
    owner.button("Send again").click()
    page.locator("#thread .msg:last-child .bubble", has_text="echo: ECHO kept words").wait_for()
    owner.wait_answered()
    assert page.locator("#thread .msg.user", has_text="kept words").count() == 1

    page.context.set_offline(True)
    owner.say("ECHO after a reload")
    page.click("#stop")
    page.locator("#thread .note.bad").wait_for()
    page.context.set_offline(False)
    page.reload()
    owner.button("Edit message").click()
    assert page.input_value("#message") == "ECHO after a reload"
    assert page.locator("#thread .msg.user", has_text="after a reload").count() == 0
    page.press("#message", "Enter")
    page.locator("#thread .msg:last-child .bubble", has_text="echo: ECHO after").wait_for()


def test_a_call_that_needs_approval_is_decided_in_the_console(owner: Owner, server: Server) -> None:
    page = owner.page
    made, _ = create_key(server, "chat", "file")
    owner.log_in()
    owner.go("console")
    page.select_option("#key", made["key_id"])
    page.select_option("#config", "careful")
    ask = 'TOOL=calculate TOOLARGS={"expression":"2+2"}'
    owner.say(ask)
    owner.button("Approve").wait_for()
    assert "2+2" in page.locator("#thread .note.warn pre").inner_text()
    assert owner.serious_faults() == []
    page.reload()  # a later decision is also possible
    owner.button("Approve").click()
    page.locator("#thread .msg .bubble", has_text="tool said: 4").wait_for()
    owner.wait_answered()
    owner.say(ask)
    owner.button("Reject").click()
    page.locator("#thread .msg:last-child .bubble", has_text="reject").wait_for()
    owner.wait_answered()
    owner.say(ask)
    owner.button("Approve").wait_for()
    page.click("#stop")
    owner.wait_answered()
    assert page.locator("#thread .note.warn").count() == 0
    assert owner.complaints == []


@in_english
def test_a_message_sent_by_a_tool_is_shown_before_its_answer(owner: Owner, server: Server) -> None:
    made, _ = create_key(server, "chat", "file")
    owner.log_in()
    owner.go("console")
    owner.page.select_option("#key", made["key_id"])
    parts = '[{"type":"plain","text":"halfway"}]'
    owner.say(f'TOOL=send_message_to_user TOOLARGS={{"messages":{parts}}}')
    sync_api.expect(owner.last()).to_contain_text("tool said")
    owner.wait_answered()
    sent, answer = owner.page.locator("#thread .msg:not(.user)").all_inner_texts()
    assert "halfway" in sent
    assert "tool said" in answer


@in_english
def test_an_answer_continues_after_a_proxy_has_lost_the_server(
    owner: Owner, server: Server
) -> None:
    page = owner.page
    made, _ = create_key(server, "chat", "file")
    failures = [502, 503]

    def answer(route: Any) -> None:
        if failures:
            route.fulfill(status=failures.pop(), body="<html>Bad Gateway</html>")
        else:
            route.continue_()

    owner.log_in()
    owner.go("console")
    page.select_option("#key", made["key_id"])
    page.select_option("#config", "careful")
    owner.say('TOOL=calculate TOOLARGS={"expression":"2+2"}')
    owner.button("Approve").wait_for()
    page.route("**/chat/runs/*/stream?*", answer)
    owner.button("Approve").click()
    page.locator("#thread .msg .bubble", has_text="tool said: 4").wait_for()
    owner.wait_answered()
    assert failures == []
    assert page.locator("#thread .note.bad").count() == 0


@in_english
def test_a_session_continues_after_its_messages_could_not_be_loaded(
    owner: Owner, server: Server
) -> None:
    page = owner.page
    made, _ = create_key(server, "chat", "file")
    owner.log_in()
    owner.go("console")
    page.select_option("#key", made["key_id"])
    owner.say("ECHO one")
    owner.wait_answered()
    page.context.set_offline(True)
    owner.say("ECHO unsent")
    page.click("#stop")
    page.locator("#thread .note.bad").wait_for()
    page.context.set_offline(False)
    busy = {"status": "error", "message": "Too many requests", "code": "rate_limited"}
    refusal = {"status": 429, "json": busy, "headers": {"Retry-After": "1"}}
    page.route("**/messages?*", lambda route: route.fulfill(**refusal), times=1)
    page.reload()
    page.locator(".toast", has_text="Too many requests").wait_for()
    owner.button("Send again").click()
    sync_api.expect(owner.last()).to_contain_text("echo: ECHO unsent")
    owner.wait_answered()
    page.reload()
    for text in ("echo: ECHO one", "echo: ECHO unsent"):  # in one session
        page.locator("#thread .msg .bubble", has_text=text).wait_for()


#: Makes the first resume of a page return a stream without any byte, like a broken connection.
SILENT = """
const send = window.fetch;
let silent = false;
window.fetch = (url, ...more) => {
  if (silent || !String(url).includes("/stream?")) return send(url, ...more);
  silent = document.title = "silent";
  const headers = { "Content-Type": "text/event-stream" };
  return Promise.resolve(new Response(new ReadableStream({}), { headers }));
};
"""


@in_english
def test_an_answer_continues_after_its_connection_went_silent(owner: Owner, server: Server) -> None:
    page = owner.page
    made, _ = create_key(server, "chat", "file")
    page.add_init_script(SILENT)
    page.clock.install()
    owner.log_in()
    owner.go("console")
    page.select_option("#key", made["key_id"])
    page.select_option("#config", "careful")
    owner.say('TOOL=calculate TOOLARGS={"expression":"2+2"}')
    owner.button("Approve").click()
    page.wait_for_function("() => document.title === 'silent'")
    page.clock.fast_forward(70_000)
    page.locator("#thread .msg .bubble", has_text="tool said: 4").wait_for()
    owner.wait_answered()


@in_english
def test_older_messages_that_cannot_be_loaded_are_reported(owner: Owner, server: Server) -> None:
    made, _ = create_key(server, "chat")
    server.chat(made["api_key"], username="alice", session_id="older", message="Hello")

    def answer(route: Any) -> None:
        if "cursor=" in route.request.url:
            route.abort()
            return
        response = route.fetch()
        body = response.json()
        body["data"]["next"] = "1"
        route.fulfill(response=response, json=body)

    owner.log_in()
    owner.page.route("**/data/sessions/messages?*", answer)
    owner.go("sessions#older")
    older = owner.page.locator("#reader").get_by_role("button", name="Show older entries")
    older.click()
    owner.page.locator(".toast", has_text="The server does not respond").wait_for()
    assert older.is_enabled()


def test_pending_calls_of_other_sessions_are_decided_on_a_page(
    owner: Owner, server: Server
) -> None:
    page = owner.page
    made, _ = create_key(server, "chat")
    asked = []
    for number in range(2):
        expression = f"<b>{number}</b>+{'1+' * 1500}1" if number else "2+2"
        message = f'TOOL=calculate TOOLARGS={{"expression":"{expression}"}}'
        body = {"message": message, "username": "carol", "session_id": f"{owner.language} {number}",
                "config_id": "careful", "response_mode": "blocking"}  # fmt: skip
        answer = server.request("POST", "/api/v1/chat", made["api_key"], json=body)
        assert answer.status == 202, answer.data
        asked.append(answer.json()["data"]["run_id"])
    owner.log_in()
    owner.go("approvals")
    cards = page.locator("#approvals article")
    first, second = cards.nth(0), cards.nth(1)
    assert cards.count() == 2
    assert "carol" in first.inner_text()
    assert "careful" in first.inner_text()
    assert second.locator("pre b").count() == 0
    assert second.locator("pre").inner_text().endswith("…")
    second.get_by_role("button", name=owner.text("Show all arguments")).click()
    page.wait_for_function("() => document.querySelectorAll('pre')[1].innerText.length > 3000")
    assert owner.serious_faults() == []
    owner.take_picture("approvals")
    second.get_by_role("textbox").fill("too long a sum")
    second.get_by_role("button", name=owner.text("Reject")).click()
    cards.nth(1).wait_for(state="detached")
    first.get_by_role("button", name=owner.text("Approve")).click()
    page.get_by_text(owner.text("No pending approvals")).wait_for()
    for run_id, words in zip(asked, ("tool said: 4", "too long a sum"), strict=True):
        path = f"/api/v1/chat/runs/{run_id}"
        stream = server.request("GET", f"{path}/stream?username=carol", made["api_key"])
        assert words in stream.data.decode()
    assert owner.complaints == []


def test_a_message_waits_for_its_uploads(owner: Owner, server: Server) -> None:
    page = owner.page
    made, _ = create_key(server, "chat", "file")
    owner.log_in()
    owner.go("console")
    page.select_option("#key", made["key_id"])
    held: list[Any] = []
    page.route("**/api/v1/file", lambda route: held.append(route))
    page.set_input_files("#file", {"name": "dot.png", "mimeType": "image/png", "buffer": PNG})
    page.locator("#attached progress").wait_for()
    owner.say("What is in this picture?")
    waiting = owner.text("The message is sent after the uploads.")
    page.locator("#attached", has_text=waiting).wait_for()
    assert page.locator("#thread .msg.user").count() == 0
    held.pop().abort()
    page.locator("#attached .filechip.bad").wait_for()
    assert page.input_value("#message") == "What is in this picture?"
    owner.button("Try again").click()
    page.press("#message", "Enter")
    page.locator("#attached", has_text=waiting).wait_for()
    held.pop().continue_()
    page.locator("#thread .msg.user img.media").wait_for()
    owner.wait_answered()
    assert page.locator("#thread .msg.user").count() == 1
    assert page.locator("#attached").is_hidden()


def test_no_page_has_a_serious_accessibility_fault(owner: Owner) -> None:
    # No fault depends on both, so that each language is shown in one scheme.
    owner.page.emulate_media(color_scheme={"en": "light", "zh": "dark"}[owner.language])
    owner.go("login")
    faults = {"login": owner.serious_faults()}
    owner.log_in()
    for page in PAGES:
        owner.go(page)
        faults[page] = owner.serious_faults()
    owner.go("keys")
    owner.page.click("#create")
    owner.page.locator("dialog details summary").click()
    faults["create"] = owner.serious_faults()
    assert {page: found for page, found in faults.items() if found} == {}
    assert owner.complaints == []


def test_no_page_scrolls_horizontally(owner: Owner, server: Server) -> None:
    made, _ = create_key(server, "chat")
    server.chat(made["api_key"], username=LONG * 3, session_id=LONG, message="Hello")
    table = owner.page.locator(".table-box")
    owner.log_in()
    for page in (*PAGES, f"sessions#{LONG}"):
        owner.go(page)
        for width in (320, 360, 1280):  # 320: also a desk at 400 %
            at = f"{page} {width}"
            owner.page.set_viewport_size({"width": width, "height": 740})
            assert owner.page.evaluate("document.documentElement.scrollWidth") <= width, at
            assert width > 820 or owner.page.evaluate(OVERLAPPING) == [], at
            assert owner.page.evaluate(HIGH) == [], at
            if page == "keys":
                assert table.evaluate("(box) => box.scrollWidth - box.clientWidth") == 0, at


#: Whether the last letter of an element's first text is left of its first letter.
LEFTWARDS = """(element) => {
  const text = document.createTreeWalker(element, NodeFilter.SHOW_TEXT).nextNode();
  const at = (from) => {
    const range = document.createRange();
    range.setStart(text, from);
    range.setEnd(text, from + 1);
    return range.getBoundingClientRect().left;
  };
  return at(text.data.trimEnd().length - 1) < at(0);
}"""

#: The left edges of an element's parts of text.
BOUNDS = """(element) => {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const found = [];
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(text);
    found.push(...[...range.getClientRects()].map((one) => one.left));
  }
  return found;
}"""


@in_english
def test_messages_from_right_to_left_are_readable(owner: Owner, server: Server) -> None:
    made, _ = create_key(server, "chat")
    message = "مرحبا!\n\n- مرحبا ECHO!"
    server.chat(made["api_key"], message=message, username="bob", session_id="arabic")
    owner.log_in()
    owner.go("sessions#arabic")
    asked, item = owner.page.locator(".user .bubble"), owner.page.locator(".rich ul")
    assert asked.evaluate(LEFTWARDS)
    assert item.evaluate(LEFTWARDS)
    # The list's marks have room.
    assert item.evaluate("(list) => getComputedStyle(list).paddingRight") == "22px"
    server.chat(made["api_key"], message="ECHO a", username="مريم", session_id="7")
    owner.page.clock.set_fixed_time(time.time() + 7200)
    owner.go("")
    owner.go("sessions#7")
    for name in ("#list", "#reader"):
        line = owner.page.locator(f"{name} .muted", has_text="مريم").first
        # The name's direction does not apply to the Latin text after it.
        assert line.evaluate(BOUNDS) == sorted(line.evaluate(BOUNDS)), name


def test_a_session_is_continued_in_the_console_and_its_answer_copied(
    owner: Owner, server: Server
) -> None:
    made, _ = create_key(server, "chat")
    key = made["api_key"]
    session = f"continued-{owner.language}"
    server.chat(key, message="ECHO one", username="bob", session_id=session)
    owner.log_in()
    owner.go(f"sessions#{session}")
    page = owner.page
    page.get_by_role("link", name=owner.text("Continue")).click()
    page.wait_for_url("**/admin/console")
    page.locator("#thread .msg", has_text="echo: ECHO one").wait_for()
    owner.say("ECHO two")
    owner.wait_answered()
    sync_api.expect(owner.last()).to_contain_text("echo: ECHO two")
    owner.last().get_by_role("button", name=owner.text("Copy")).click()
    page.wait_for_function(
        "() => navigator.clipboard.readText().then((text) => text === 'echo: ECHO two')"
    )
    query = f"username=bob&session_id={session}"
    listed = server.request("GET", f"/api/v1/chat/sessions/{session}/messages?{query}", key)
    assert len(listed.json()["data"]["messages"]) == 4
    assert owner.complaints == []


@in_english
def test_the_console_replaces_a_key_that_has_ended_until_the_login_ends(
    owner: Owner, server: Server
) -> None:
    owner.log_in()
    made, _ = create_key(server, "chat")
    owner.go("console")
    page = owner.page
    page.select_option("#key", made["key_id"])
    owner.say("ECHO one")
    sync_api.expect(owner.last()).to_contain_text("echo: ECHO one")
    page.evaluate("""() => {
      const [name, text] = Object.entries(sessionStorage).find(([, one]) => one.includes("abk_"));
      sessionStorage.setItem(name, text.replaceAll(/abk_[^"]+/g, "abk_ended"));
    }""")
    owner.say("ECHO two")
    sync_api.expect(owner.last()).to_contain_text("echo: ECHO two")
    csrf = page.evaluate("document.documentElement.dataset.csrf")
    page.request.post(f"{owner.url}/api/auth/logout", headers={"X-CSRF-Token": csrf})
    owner.say("ECHO three")
    page.wait_for_url("**/admin/login?next=console")


@in_english
def test_a_config_is_tried_from_its_page(owner: Owner) -> None:
    owner.log_in()
    owner.go("configs")
    page = owner.page
    page.locator("article", has_text="configs/default.toml").get_by_role("link").click()
    page.wait_for_url("**/admin/console")
    page.wait_for_function("() => document.querySelector('#config').value === 'default'")
    owner.say("hello")
    owner.wait_answered()
    assert owner.complaints == []


def test_a_test_message_is_sent_once_and_its_error_shown(owner: Owner) -> None:
    page = owner.page
    sent: list[Any] = []

    def enable(route: Any) -> None:
        response = route.fetch()
        body = response.json()
        body["data"]["bots"][0]["enabled"] = True
        route.fulfill(response=response, json=body)

    owner.log_in()
    page.route("**/data/bots", enable)
    page.route("**/data/bots/test", lambda route: sent.append(route))
    owner.go("bots")
    owner.button("Send a test message").click()
    target = page.locator("dialog input").first
    for _ in range(2):
        target.press("Enter")
    page.wait_for_function("() => document.querySelector('dialog [type=submit]').disabled")
    assert owner.serious_faults() == []
    assert [route.request.post_data_json["umo"] for route in sent] == ["tg:FriendMessage:"]
    sent[0].fulfill(status=400, json={"message": "no such chat"})
    page.locator("dialog .note.bad", has_text="no such chat").wait_for()
    owner.button("Cancel").click()
    sync_api.expect(page.locator("dialog")).to_have_count(0)

"""The admin pages as sent by the server. tests/e2e tests their behaviour."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

import astrbot_api
from astrbot_api.admin import sessions as admin_sessions
from astrbot_api.db import audit, messages, sessions
from astrbot_api.owner.login import change_password
from astrbot_api.translations import OWNER_PAGES, load_catalogue

from .conftest import Api

PASSWORD = "a long enough password"
PAGES = ("", "console", "keys", "sessions", "approvals", "configs", "bots", "audit")


pytestmark = pytest.mark.usefixtures("cheap_hashes")


@pytest.fixture
def owned(make_api: Callable[..., Api]) -> Api:
    return make_api(ASTRBOT_ADMIN_PASSWORD=PASSWORD)


@pytest.fixture
def client(owned: Api) -> FlaskClient:
    client = owned.app.test_client()
    client.post("/api/auth/login", json={"username": "astrbot", "password": PASSWORD})
    return client


def csrf(owned: Api, client: FlaskClient) -> dict[str, str]:
    cookie = client.get_cookie("astrbot_owner")
    assert cookie is not None
    login = owned.state.owner.find_login(cookie.value)
    assert login is not None
    return {"X-CSRF-Token": owned.state.owner.csrf_token(login)}


@pytest.mark.parametrize("page", PAGES)
def test_pages_redirect_to_the_login(owned: Api, page: str) -> None:
    answer = owned.client.get(f"/admin/{page}")
    login = f"login?next={page}" if page else "login"
    assert (answer.status_code, answer.headers["Location"]) == (302, login)
    if page:  # the browser resolves the address from the page with the slash
        answer = owned.client.get(f"/admin/{page}/")
        assert (answer.status_code, answer.headers["Location"]) == (302, f"../{login}")


def test_the_chosen_language_is_kept(owned: Api) -> None:
    client = owned.app.test_client()
    for query, language in (("", "en"), ("?lang=zh", "zh-CN"), ("", "zh-CN"), ("?lang=en", "en")):
        answer = client.get(f"/admin/login{query}")
        assert answer.headers["Content-Language"] == language
        assert ("Set-Cookie" in answer.headers) == bool(query)
        assert "HttpOnly" in answer.headers.get("Set-Cookie", "HttpOnly")
        other = "zh" if language == "en" else "en"
        assert f'href="?lang={other}' in answer.text
    assert "Set-Cookie" not in client.get("/admin/login?lang=fr").headers


@pytest.mark.parametrize("page", [*PAGES, "login"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_pages_allow_no_inline_script_or_style(
    client: FlaskClient, owned: Api, page: str, language: str
) -> None:
    visitor = owned.client if page == "login" else client
    answer = visitor.get(f"/admin/{page}?lang={language}")
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = answer.get_data(as_text=True)
    assert " style=" not in text
    assert "<style" not in text
    assert text.count("<script") == text.count('<script type="module" nonce="')
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("page", "opened"), [("keys", "keys"), ("//evil.example", ""), ("login", ""), ("../v1", "")]
)
def test_the_login_opens_only_pages_of_the_owner(owned: Api, page: str, opened: str) -> None:
    form = owned.client.get("/admin/login", query_string={"next": page})
    assert f'data-next="{opened}"' in form.text
    owned.client.post("/api/auth/login", json={"username": "astrbot", "password": PASSWORD})
    again = owned.client.get("/admin/login", query_string={"next": page})
    assert again.headers["Location"] == f"./{opened}"


def test_the_root_redirects_to_the_pages_below_a_prefix(make_api: Callable[..., Api]) -> None:
    assert make_api().client.get("/").headers["Location"] == "admin/"
    prefixed = make_api(ASTRBOT_URL_PREFIX="/bot")
    assert prefixed.client.get("/").headers["Location"] == "bot/admin/"
    assert prefixed.client.get("/bot/admin/").headers["Location"] == "login"


def test_pages_can_be_disabled(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_OWNER_ACCESS="api", ASTRBOT_ADMIN_PASSWORD=PASSWORD)
    assert api.client.get("/admin/").status_code == 404
    body = {"username": "astrbot", "password": PASSWORD}
    assert api.client.post("/api/auth/login", json=body).status_code == 200


def test_data_requires_a_login(owned: Api) -> None:
    for path in (
        "overview",
        "keys",
        "configs",
        "audit",
        "sessions",
        "approvals",
        "file?attachment_id=x",
    ):
        assert owned.client.get(f"/admin/data/{path}").status_code == 401, path


def test_statistics_count_requests_turns_and_tokens(owned: Api, client: FlaskClient) -> None:
    owned.chat("hi there")
    owned.get("/api/v1/nothing")
    owned.state.keys.usage.flush()
    data = client.get("/admin/data/overview").json["data"]
    (day,) = data["days"]
    assert (day["requests"], day["errors"], day["turns"], day["failed_turns"]) == (2, 1, 1, 0)
    assert day["input_tokens"] > 0
    assert day["output_tokens"] > 0
    (key,) = client.get("/admin/data/keys").json["data"]
    assert key["use"]["turns"] == 1
    days = client.get(f"/admin/data/keys/{key['key_id']}/use").json["data"]["days"]
    assert days[0]["requests"] == 2


def test_excess_tools_are_listed_by_config(make_api: Callable[..., Api]) -> None:
    config = '[provider]\ntype = "mock"\n[tools]\nmax_tools = 1\n'
    api = make_api(config, ASTRBOT_ADMIN_PASSWORD=PASSWORD)
    client = api.app.test_client()
    assert client.get("/admin/data/left-out").status_code == 401
    client.post("/api/auth/login", json={"username": "astrbot", "password": PASSWORD})
    (left,) = client.get("/admin/data/left-out").json["data"]
    assert (left["config_id"], left["max_tools"]) == ("default", 1)
    assert left["count"] == len(left["names"]) > 0
    assert "calculate" in left["names"]


def test_no_tool_is_dropped_below_the_limit(client: FlaskClient) -> None:
    assert client.get("/admin/data/left-out").json["data"] == []


def test_a_console_key_is_short_lived_and_ends_with_its_parent(
    owned: Api, client: FlaskClient
) -> None:
    headers = csrf(owned, client)
    (key,) = client.get("/admin/data/keys").json["data"]
    made = client.post(
        "/admin/data/console-key", json={"key_id": key["key_id"]}, headers=headers
    ).json["data"]
    secret = {"X-API-Key": made["api_key"]}
    assert made["expires_at"] is not None
    own = owned.client.get("/api/v1/keys/self", headers=secret)
    assert own.json["data"]["scopes"] == made["scopes"] == ["chat", "file"]
    (listed,) = client.get("/admin/data/keys").json["data"]
    assert (listed["session_keys"], listed["console_keys"]) == (1, 1)
    with owned.state.db.read() as db:
        entry = audit.list_entries(db)[0]
    assert (entry["action"], entry["actor"]) == ("console_key_made", "astrbot")
    assert key["key_id"] in entry["detail"]
    client.post("/api/apikey/revoke", json={"key_id": key["key_id"]}, headers=headers)
    assert owned.client.get("/api/v1/keys/self", headers=secret).status_code == 401


@pytest.mark.parametrize(("login_h", "hours"), [("1", 1), ("100", 8)])
def test_a_console_key_lasts_eight_hours_and_not_longer_than_its_login(
    make_api: Callable[..., Api], login_h: str, hours: int
) -> None:
    owned = make_api(ASTRBOT_ADMIN_PASSWORD=PASSWORD, ASTRBOT_OWNER_SESSION_H=login_h)
    client = owned.app.test_client()
    client.post("/api/auth/login", json={"username": "astrbot", "password": PASSWORD})
    (key,) = client.get("/admin/data/keys").json["data"]
    made = client.post("/admin/data/console-key", json={"key_id": key["key_id"]},
                       headers=csrf(owned, client)).json["data"]  # fmt: skip
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert 3600 * (hours - 0.5) < left.total_seconds() <= 3600 * hours


@pytest.mark.parametrize("ended_by", ["logout", "password"])
def test_a_console_key_ends_with_its_login(owned: Api, client: FlaskClient, ended_by: str) -> None:
    headers = csrf(owned, client)
    (key,) = client.get("/admin/data/keys").json["data"]
    body = {"key_id": key["key_id"]}
    made = client.post("/admin/data/console-key", json=body, headers=headers).json["data"]
    secret = {"X-API-Key": made["api_key"]}
    assert owned.client.get("/api/v1/keys/self", headers=secret).status_code == 200
    if ended_by == "logout":
        assert client.post("/api/auth/logout", headers=headers).status_code == 200
    else:
        change_password(owned.state.db, "astrbot", "another long password", actor="cli")
    assert owned.client.get("/api/v1/keys/self", headers=secret).status_code == 401
    # The key that created it keeps working.
    assert owned.get("/api/v1/keys/self").status_code == 200


def test_only_scripts_with_the_nonce_of_their_page_run(client: FlaskClient) -> None:
    nonces = set()
    for _ in range(2):
        answer = client.get("/admin/keys/")  # or without the slash
        policy = answer.headers["Content-Security-Policy"]
        nonce = re.search(r"script-src 'nonce-([\w-]+)';", policy)
        assert nonce is not None
        assert re.findall(r"<script [^>]*", answer.text) == re.findall(
            rf'<script type="module" nonce="{nonce[1]}" [^>]*', answer.text
        )
        nonces.add(nonce[1])
    assert len(nonces) == 2


def test_sessions_are_found_read_exported_and_deleted(
    owned: Api, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_sessions, "_EXPORT_PAGE", 1)
    owned.chat("first words", session_id="one/with?signs", username="anna")
    owned.chat("THINK 100% sure", session_id="two", username="bert")

    def find(words: str) -> list[str]:
        answer = client.get("/admin/data/sessions", query_string={"q": words})
        return [one["session_id"] for one in answer.json["data"]["sessions"]]

    assert find("") == ["two", "one/with?signs"]
    assert find("ANNA") == ["one/with?signs"]
    assert find("one_with") == []
    query: dict[str, Any] = {"session_id": "one/with?signs"}
    page = client.get("/admin/data/sessions/messages", query_string=query).json["data"]
    assert [one["content"]["type"] for one in page["messages"]] == ["bot", "user"]
    export = client.get("/admin/data/sessions/export", query_string=query)
    assert [one["content"]["type"] for one in export.json["messages"]] == ["user", "bot"]
    markdown = client.get(
        "/admin/data/sessions/export", query_string={**query, "format": "md"}
    ).get_data(as_text=True)
    assert "**anna**" in markdown
    assert "first words" in markdown
    assert markdown.startswith("# ")
    query["session_id"] = "two"
    exported = client.get("/admin/data/sessions/export", query_string={**query, "format": "md"})
    assert exported.content_type == "text/markdown; charset=utf-8"
    assert "> Let me think" in exported.get_data(as_text=True)
    query["session_id"] = "one/with?signs"
    for wrong in ({**query, "format": "xml"}, {**query, "session_id": "none"}):
        assert client.get("/admin/data/sessions/export", query_string=wrong).status_code in (
            400,
            404,
        )
    gone = client.delete("/admin/data/sessions", query_string=query, headers=csrf(owned, client))
    assert gone.status_code == 200
    assert find("") == ["two"]
    with owned.state.db.read() as db:
        assert audit.list_entries(db)[0]["action"] == "session_deleted"


def test_a_quotation_is_exported_as_one(owned: Api, client: FlaskClient) -> None:
    answered = owned.chat("Hello", session_id="one", username="anna")
    (saved,) = (one["data"] for one in answered if one["type"] == "message_saved")
    for selected in ("the words", ""):
        reply = {"type": "reply", "message_id": saved["id"], "selected_text": selected}
        owned.chat([reply, {"type": "plain", "text": "?"}], session_id="one", username="anna")
    query = {"session_id": "one", "format": "md"}
    text = client.get("/admin/data/sessions/export", query_string=query).get_data(as_text=True)
    assert "> the words\n\n?" in text
    assert f"> [message {saved['id']}]\n\n?" in text


def test_a_result_with_a_code_block_is_exported_as_one(owned: Api, client: FlaskClient) -> None:
    owned.chat("Hello", session_id="one", username="anna")
    call = {"id": "1", "name": "read", "args": {}, "ts": 1.0, "result": "a\n```\nb\n````\nc"}
    content = {"type": "bot", "message": [{"type": "tool_call", "tool_calls": [call]}]}

    def job(db: Any) -> None:
        session = sessions.find_session(db, "one")
        assert session is not None
        messages.add_message(db, session.id, "webchat", messages.BOT, content, None)

    owned.state.db.write(job)
    query = {"session_id": "one", "format": "md"}
    text = client.get("/admin/data/sessions/export", query_string=query).get_data(as_text=True)
    assert "`````\na\n```\nb\n````\nc\n`````\n" in text


@pytest.mark.parametrize(
    ("path", "listed"),
    [
        ("audit?before", "entries"),
        ("sessions?before", "sessions"),
        ("sessions/messages?cursor", "messages"),
    ],
)
@pytest.mark.parametrize("cursor", ["9" * 30, "-" + "9" * 30, "x"])
def test_a_cursor_that_is_no_id_begins_at_the_first_page(
    owned: Api, client: FlaskClient, path: str, listed: str, cursor: str
) -> None:
    owned.chat("Hello", session_id="one", username="anna")
    answer = client.get(f"/admin/data/{path}={cursor}&session_id=one")
    assert answer.status_code == 200
    assert answer.json["data"][listed]


def test_all_scripts_are_local_assets(client: FlaskClient) -> None:
    answer = client.get("/admin/assets/dom.js")
    assert answer.mimetype == "text/javascript"
    answer.close()
    assert client.get("/admin/assets/../pages.py").status_code == 404


@pytest.mark.parametrize(
    ("accept", "kind", "text"),
    [
        ("text/html,*/*;q=0.8", "text/html", "Page not found"),
        ("*/*", "application/json", "There is no page /admin/nothing; open /admin/"),
    ],
)
def test_an_unknown_page_is_a_page_for_browsers(
    client: FlaskClient, accept: str, kind: str, text: str
) -> None:
    answer = client.get("/admin/nothing", headers={"Accept": accept})
    assert (answer.status_code, answer.mimetype) == (404, kind)
    assert text in answer.get_data(as_text=True)


_ADMIN = Path(astrbot_api.__file__).parent / "admin"


def _texts() -> set[str]:
    """Return every text of the templates and scripts."""
    found: set[str] = set()
    for folder, pattern, mark in (
        ("templates/astrbot_admin", "*.html", "_"),
        ("static", "*.js", "t"),
    ):
        for path in (_ADMIN / folder).glob(pattern):
            text = path.read_text(encoding="utf-8")
            found |= set(re.findall(rf'\b{mark}\("((?:[^"\\]|\\.)*)"', text))
    return found


def test_every_text_of_the_pages_has_a_chinese_translation() -> None:
    catalogue = load_catalogue("zh", OWNER_PAGES)
    texts = _texts()
    assert len(texts) > 200
    assert sorted(texts - catalogue.keys()) == []
    assert sorted(catalogue.keys() - texts - {"Details"}) == []


def test_translations_keep_their_placeholders() -> None:
    placeholder = re.compile(r"\{\w+\}|%\(\w+\)s")
    for english, chinese in load_catalogue("zh", OWNER_PAGES).items():
        assert sorted(placeholder.findall(english)) == sorted(placeholder.findall(chinese)), english
        assert re.search(r"[\u4e00-\u9fff]", chinese) or chinese in ("Token", "UMO"), english


def test_bots_are_listed_with_their_faults(owned: Api, client: FlaskClient) -> None:
    (owned.state.settings.data_dir / "bots.toml").write_text(
        '[[bot]]\nid = "off"\ntype = "telegram"\nenabled = false\n'
        '[[bot]]\nid = "wrong"\ntype = "telegram"\n',
        encoding="utf-8",
    )
    owned.state.im.bots.file.load()
    bots = client.get("/admin/data/bots").json["data"]["bots"]
    assert [(one["id"], one["enabled"], bool(one["fault"])) for one in bots] == [
        ("off", False, False),
        ("wrong", True, True),
    ]
    assert bots[0]["last_delivery"] is None


def test_a_test_message_is_sent_and_recorded(owned: Api, client: FlaskClient) -> None:
    headers = csrf(owned, client)
    path = "/admin/data/bots/test"
    body = {"umo": "webchat:FriendMessage:webchat!anna!s1", "message": "is this on?"}
    assert client.post(path, json=body).status_code == 403
    sent = client.post(path, json=body, headers=headers)
    assert sent.json["data"]["status"] == "sent"
    with owned.state.db.read() as db:
        assert audit.list_entries(db)[0]["action"] == "bot_tested"
    wrong = client.post(path, json={**body, "umo": "none:FriendMessage:1"}, headers=headers)
    assert wrong.status_code == 404

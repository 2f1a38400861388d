"""The chat in an embedding application: templates, command line, agents, page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest
from flask import Flask, current_app, render_template_string

from astrbot_api import AppState, AstrBotAPI, HostUser, with_app_context
from astrbot_api.cli.flask_commands import astrbot_group
from astrbot_api.db import runs, sessions

from ..waiting import wait_for

Options = dict[str, Any]


@pytest.fixture
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Flask]:
    """An application with the API below ``/bot``."""
    app = Flask(__name__)
    app.config["SHOP"] = "Teapots"

    def agent(messages: Any, context: Any) -> Iterator[str]:
        yield f"{current_app.config['SHOP']} for "
        yield context.username

    AstrBotAPI(
        app, url_prefix="/bot", data_dir=tmp_path, agent=with_app_context(app, agent),
        authenticate=lambda request: HostUser("alice", scopes=("chat", "file")),
        **getattr(request, "param", {}),
    )  # fmt: skip
    yield app
    app.extensions["astrbot_api"].close()


def test_a_template_has_the_chat_with_its_attributes_escaped(host: Flask) -> None:
    with host.test_request_context("/", base_url="http://localhost/shop"):
        shown = render_template_string(
            "{{ astrbot_chat(heading='<b>', key_url='/key', suggestions=['a\"b'], nonce='n1') }}"
        )
    assert shown == (
        '<script defer src="/shop/bot/api/v1/widget.js" nonce="n1"></script>\n'
        '<astrbot-chat server="/shop/bot" heading="&lt;b&gt;" key-url="/key" '
        'suggestions="[&#34;a\\&#34;b&#34;]"></astrbot-chat>'
    )


def test_attributes_that_are_none_or_false_are_omitted(host: Flask) -> None:
    with host.test_request_context("/"):
        shown = render_template_string("{{ astrbot_chat(lang=None, x=False, open=True) }}")
    assert shown == (
        '<script defer src="/bot/api/v1/widget.js"></script>\n'
        '<astrbot-chat server="/bot" open=""></astrbot-chat>'
    )


def test_an_agent_runs_in_the_context_of_its_application(host: Flask) -> None:
    body = {"message": "Hello", "response_mode": "blocking"}
    answer = host.test_client().post("/bot/api/v1/chat", json=body)
    assert answer.json is not None
    assert answer.json["data"]["message"] == "Teapots for alice"


@pytest.mark.parametrize("reads", ["stream", "sessions"])
def test_a_run_of_a_dead_process_ends_without_another_request(host: Flask, reads: str) -> None:
    state: AppState = host.extensions["astrbot_api"]

    def leave_run(db: peewee.Database) -> None:
        session = sessions.create_session(db, "s", "alice")
        runs.add_run(
            db, "lost", session.id, key_id=None, worker_id="dead", user_message=None,
            checkpoint="c",
        )  # fmt: skip

    state.db.write(leave_run)
    client = host.test_client()
    if reads == "stream":
        stream = client.get("/bot/api/v1/chat/runs/lost/stream?username=alice&after=0")
        assert b'"type":"end"' in stream.get_data()
        return
    assert client.get("/bot/api/v1/chat/sessions?username=alice").status_code == 200

    def read_status() -> str:
        with state.db.read() as db:
            return runs.find_run(db, "lost").status  # type: ignore[union-attr]

    wait_for(lambda: read_status() == "interrupted")


def test_the_command_line_of_the_application_uses_its_settings(
    host: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path.parent)
    runner = host.test_cli_runner()
    advice = runner.invoke(astrbot_group, ["doctor", "--offline"]).output
    assert "-> flask astrbot keys create NAME" in advice
    made = runner.invoke(astrbot_group, ["keys", "create", "mine"])
    assert re.match(r"abk_[\w-]{43}\n", made.output)
    assert "mine" in runner.invoke(astrbot_group, ["keys", "list"]).output
    assert "done" in runner.invoke(astrbot_group, ["db", "status"]).output
    other = Flask("other").test_cli_runner().invoke(astrbot_group, ["keys", "list"])
    assert "this application has no AstrBotAPI" in other.output


def test_the_page_is_off_by_default(host: Flask) -> None:
    assert host.test_client().get("/bot/chat").status_code == 404


@pytest.mark.parametrize("host", [{"chat_page": True}], indirect=True)
def test_the_page_has_a_strict_policy_and_the_readers_language(host: Flask) -> None:
    page = host.test_client().get("/bot/chat", headers={"Accept-Language": "zh-CN"})
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert '<html lang="zh-CN">' in page.text
    assert "<title>聊天</title>" in page.text
    assert 'src="/bot/api/v1/widget.js"' in page.text

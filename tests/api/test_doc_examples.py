"""Examples of the pages about embedding, messengers and webhooks work as they are printed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import sys
import textwrap
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from flask import Flask, current_app, request
from werkzeug.serving import make_server

from astrbot_api import Command, ToolCallDelta
from astrbot_api.testing import ScriptedModel, make_app

DOCS = Path(__file__).parents[2] / "docs"


def read_example(page: str, language: str, word: str) -> str:
    """Return the code block of a page that contains a word."""
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(rf"code-block:: {language}\n\n((?:    .*\n|\n)+)", text)
    [found] = [block for block in blocks if word in block]
    return textwrap.dedent(found)


@pytest.fixture
def pager() -> Iterator[tuple[str, SimpleQueue[Any]]]:
    """Serve the pager's own API; return its address and the bodies that it gets."""
    app, got = Flask("pager"), SimpleQueue[Any]()

    @app.post("/send")
    def take() -> str:
        got.put(request.get_json())
        return ""

    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/send", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_example_of_a_messenger_answers_and_checks_its_token(
    tmp_path: Path, pager: tuple[str, SimpleQueue[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("pager")
    exec(read_example("python.rst", "python", "class Pager"), module.__dict__)
    url, got = pager
    bots = read_example("python.rst", "toml", "beeper").replace("https://pager.example/send", url)
    (tmp_path / "bots.toml").write_text(bots, encoding="utf-8")
    monkeypatch.setenv("PAGER_TOKEN", "t0ken")
    body = {"id": "1", "from": "ann", "text": "Hello"}
    with make_app("Good day", data_dir=tmp_path, adapters={"pager": module}) as app:
        app.state.start()
        path = "/api/v1/hooks/beeper"
        assert app.client.post(path, json=body, headers={"X-Token": "é"}).status_code == 401
        assert app.client.post(path, json=body, headers={"X-Token": "t0ken"}).status_code == 200
        assert got.get(timeout=30) == {"to": "ann", "text": "Good day"}


def test_the_example_of_an_applications_own_tools_runs_in_its_context(tmp_path: Path) -> None:
    class Order:
        name = "teapot"

    app = Flask("shop")
    names: dict[str, Any] = {
        "app": app,
        "find_orders": lambda user: [Order] * (current_app.name == "shop"),
    }
    code = read_example("embedding.rst", "python", "list_orders").replace("AstrBotAPI(", "dict(a=")
    exec(code + "\nmade = make_tools(app)", names)
    call = ToolCallDelta(0, "c", "list_orders", "{}")
    commands = [Command("version", "version", names["show_version"])]
    model = ScriptedModel([call], "done")
    with make_app(model, data_dir=tmp_path, tools=names["made"], commands=commands) as made:
        made.chat("What did I order?")
        assert model.seen[1][-1]["content"] == '["teapot"]'
        assert "Shop 1.0" in str(made.chat("/version"))


def test_the_example_of_a_webhook_receiver_verifies_requests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Webhook:
        """Stands for the library, with its documented rules."""

        def __init__(self, secret: str) -> None:
            self._key = base64.b64decode(secret.removeprefix("whsec_"))

        def verify(self, data: bytes, headers: dict[str, str]) -> Any:
            digest = hmac.digest(self._key, b"e1.5." + data, hashlib.sha256)
            if headers["Webhook-Signature"] != "v1," + base64.b64encode(digest).decode():
                raise ValueError("No matching signature found")
            return {"type": "run_ended", "data": {}}

    library = types.ModuleType("standardwebhooks.webhooks")
    library.Webhook = Webhook  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "standardwebhooks.webhooks", library)
    monkeypatch.setenv("CRM_SECRET", "whsec_" + base64.b64encode(b"k" * 32).decode())
    names: dict[str, Any] = {"__name__": "receiver"}
    exec(read_example("im.rst", "python", "standardwebhooks"), names)
    digest = hmac.digest(b"k" * 32, b"e1.5.{}", hashlib.sha256)
    client = names["app"].test_client()
    for signature, status in ((digest, 200), (b"other", 401)):
        headers = {"Webhook-Signature": "v1," + base64.b64encode(signature).decode()}
        answer = client.post("/hooks/astrbot", data=b"{}", headers=headers)
        assert answer.status_code == status
    assert capsys.readouterr().out == "run_ended {}\n"

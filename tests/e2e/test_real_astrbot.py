"""The gateway works with a real AstrBot.

``ASTRBOT_TEST_ASTRBOT`` names its program::

    python3.12 -m venv /tmp/astrbot && /tmp/astrbot/bin/pip install astrbot==4.29.3  # or 4.25.1
    make test ARGS="tests/e2e/test_real_astrbot.py" ASTRBOT_TEST_ASTRBOT=/tmp/astrbot/bin/astrbot
"""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import urllib3
from PIL import Image

from astrbot_api.testing.fake_openai import FakeOpenAI
from astrbot_api.testing.odd_network import CuttingProxy

from ..servers import Server, add_config, create_key, iter_events
from ..waiting import wait_for
from .crowd import chat_at_once
from .real_astrbot import RealAstrBot

_PROGRAM = os.environ.get("ASTRBOT_TEST_ASTRBOT", "")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not _PROGRAM, reason="ASTRBOT_TEST_ASTRBOT names no program; it needs Python 3.12"
    ),
]


@pytest.fixture(scope="module")
def astrbot(
    tmp_path_factory: pytest.TempPathFactory, fake_model: FakeOpenAI
) -> Iterator[RealAstrBot]:
    home = tmp_path_factory.mktemp("astrbot")
    real = RealAstrBot(_PROGRAM, home, fake_model.base_url)
    yield real
    real.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, astrbot: RealAstrBot) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("gateway")
    add_config(
        data_dir,
        f'[upstream]\nbase_url = "{astrbot.url}"\napi_key = "{astrbot.key}"\n'
        f'owner_username = "astrbot"\nowner_password = "{astrbot.password}"\n',
    )
    with Server(data_dir, ASTRBOT_WORKER_LEASE_S="2") as server:
        yield server


@pytest.fixture(scope="module")
def key(gateway: Server) -> str:
    return create_key(gateway.data_dir, "chat", "file", "config", "im")


def find(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (event,) = [one for one in events if one["type"] == kind]
    return event


def test_text_thinking_and_commands_are_relayed(
    gateway: Server, key: str, astrbot: RealAstrBot
) -> None:
    complete = find(gateway.chat(key, message="THINK ECHO 你好"), "complete")
    assert (complete["data"], complete["reasoning"]) == (
        "echo: THINK ECHO 你好", "" if astrbot.is_old else "Let me think about it.",
    )  # fmt: skip
    whole = find(gateway.chat(key, message="ECHO x", enable_streaming=False), "complete")
    assert whole["data"] == "echo: ECHO x"
    assert "/reset" in find(gateway.chat(key, message="/help"), "complete")["data"]


def test_calls_of_its_tools_are_relayed(gateway: Server, key: str) -> None:
    events = gateway.chat(key, message="TOOL please")
    kinds = [one.get("chain_type") for one in events if one.get("chain_type")]
    assert kinds == ["tool_call", "tool_call_result"]
    assert find(events, "complete")["data"].startswith("tool said: ")


def test_a_picture_reaches_its_model_as_a_picture(
    gateway: Server, key: str, astrbot: RealAstrBot
) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    file = ("a.png", picture.getvalue(), "application/octet-stream")
    sent = gateway.request("POST", "/api/v1/file", key, fields={"file": file})
    part = {"type": "image", "attachment_id": sent.json()["data"]["attachment_id"]}
    events = gateway.chat(key, message=[{"type": "plain", "text": "ECHO look"}, part])
    assert "[Image " in find(events, "complete")["data"]


def test_only_messages_of_the_session_are_quoted(
    gateway: Server, key: str, astrbot: RealAstrBot
) -> None:
    """AstrBot itself quotes any user's message by its number."""
    body = {"username": "bob", "session_id": "of-bob", "message": "ECHO secret"}
    direct = astrbot.send_chat(body)
    theirs = find(direct, "user_message_saved")["data"]["id"]
    first = gateway.chat(key, session_id="quoted", message="ECHO a")
    own = find(first, "user_message_saved")["data"]["id"]

    def chat(number: int) -> str:
        message = [{"type": "plain", "text": "ECHO b"}, {"type": "reply", "message_id": number}]
        events = gateway.chat(key, session_id="quoted", message=message)
        return str(find(events, "complete")["data"])

    assert "<Quoted Message>\n(alice): ECHO a\n" in chat(own)
    assert "secret" not in chat(theirs)


@pytest.mark.parametrize(
    ("message", "said"), [("FAIL=401 x", ""), ("EMPTY x", ""), ("DROP=2 x", "Hello from")]
)
def test_its_failures_are_errors(
    gateway: Server, key: str, astrbot: RealAstrBot, message: str, said: str
) -> None:
    if said and astrbot.is_old:
        pytest.skip("4.25 does not say that its model broke off")
    events = gateway.chat(key, message=message)
    error = find(events, "error")
    assert error["code"] == "provider_error"
    assert find(events, "complete")["data"] == (said or error["data"])


def test_a_stop_also_stops_the_turn_in_astrbot(gateway: Server, key: str) -> None:
    body = {"username": "bob", "session_id": "stopped", "message": "N=600 DELAY=100"}
    with gateway.open_chat(key, body) as answer:
        kinds, stopped = [], None
        for event in iter_events(answer):
            kinds.append(event["type"])
            if stopped is None and kinds.count("plain") == 3:
                path = "/api/v1/chat/sessions/stopped/stop?username=bob"
                stopped = gateway.request("POST", path, key).json()["data"]
    assert stopped == {"stopped_count": 1}
    assert kinds[-1] == "end"
    assert len(kinds) < 300
    after = find(
        gateway.chat(key, username="bob", session_id="stopped", message="ECHO on"), "complete"
    )
    assert after["data"] == "echo: ECHO on"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_reset_ends_the_answer(
    gateway: Server, key: str, astrbot: RealAstrBot, elsewhere: bool
) -> None:
    """Also one on AstrBot's own page, after which 4.29.3 sends no ``end``."""
    place = {"username": "bob", "session_id": f"reset {elsewhere}"}
    reset = {**place, "message": "/reset"}
    with gateway.open_chat(key, {**place, "message": "N=600 DELAY=100"}) as answer:
        kinds = []
        for event in iter_events(answer):
            kinds.append(event["type"])
            if kinds.count("plain") == 3:
                said = astrbot.send_chat(reset) if elsewhere else gateway.chat(key, **reset)
                assert "✅" in find(said, "plain")["data"]
    assert kinds[-3:] == ["complete", "message_saved", "end"]
    assert len(kinds) < 300
    assert "error" not in kinds


@pytest.mark.parametrize("message", ["N=12 DELAY=60", "TOOL please"])
def test_an_answer_that_the_network_interrupted_is_found(
    astrbot: RealAstrBot, tmp_path: Path, message: str
) -> None:
    if astrbot.is_old:
        pytest.skip("4.25 shows a key no conversations")
    (tmp_path / "configs").mkdir()
    with CuttingProxy(astrbot.port, 1000, cuts=1) as proxy:
        (tmp_path / "configs" / "default.toml").write_text(
            f'[upstream]\nbase_url = "{proxy.url}"\napi_key = "{astrbot.key}"\n'
        )
        with Server(tmp_path) as server:
            key = create_key(tmp_path, "chat")
            broken, whole = (server.chat(key, message=message) for _ in range(2))
    assert find(broken, "complete")["data"] == find(whole, "complete")["data"]


def test_its_configs_are_models_of_the_openai_api(gateway: Server, key: str) -> None:
    def list_configs() -> bool:
        # A busy AstrBot is queried again some seconds later.
        found = gateway.request("GET", "/api/v1/configs", key).json()["data"]["configs"]
        return [one["id"] for one in found] == ["default:default", "default"]

    wait_for(list_configs)
    body = {"model": "default", "messages": [{"role": "user", "content": "ECHO this"}]}
    answer = gateway.request("POST", "/api/v1/openai/chat/completions", key, json=body).json()
    assert answer["choices"][0]["message"]["content"] == "echo: ECHO this"


def test_a_message_to_a_web_session_is_pushed(gateway: Server, key: str) -> None:
    body = {"umo": "webchat:FriendMessage:webchat!ada!pushed", "message": "Hello Ada"}
    assert gateway.request("POST", "/api/v1/im/message", key, json=body).status in (200, 202)
    path = "/api/v1/chat/sessions/pushed/messages?username=ada"
    stored = gateway.request("GET", path, key).json()["data"]
    assert "Hello Ada" in json.dumps(stored)


def test_sixty_four_clients_get_answers_despite_a_killed_worker(gateway: Server, key: str) -> None:
    outcomes = chat_at_once(gateway.port, key, 64, "ECHO")
    assert [one for one in outcomes if not one.right] == []
    opened = [
        gateway.open_chat(key, {"username": f"u{n}", "message": f"DELAY=50 N=20 {n}"})
        for n in range(6)
    ]
    os.kill(gateway.list_workers()[0], signal.SIGKILL)
    for one in opened:
        with suppress(urllib3.exceptions.HTTPError):  # the killed worker's connection
            one.read()
    wait_for(lambda: len(gateway.list_workers()) == 2)
    after = gateway.chat(key, username="v", message="ECHO after")
    assert find(after, "complete")["data"] == "echo: ECHO after"

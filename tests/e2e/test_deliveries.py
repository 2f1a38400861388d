"""Deliveries survive a server that is killed before or during sending."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from werkzeug import Response

from astrbot_api.db.sqlite_store import SqliteStore
from astrbot_api.testing import FakeTelegram
from astrbot_api.testing.fake_openai import FakeOpenAI
from astrbot_api.testing.fake_platform import FakeRequest, answer_json

from ..servers import Server, create_key, write_config
from ..waiting import wait_for

_BOT = """
[[bot]]
id = "tg"
type = "telegram"
token = "{token}"
base_url = "{url}"
updates = "off"
"""


def write_bot(folder: Path, telegram: FakeTelegram) -> None:
    text = _BOT.format(token=telegram.token, url=telegram.url)
    (folder / "bots.toml").write_text(text, encoding="utf-8")


def start(folder: Path, *, workers: int = 1, **environ: str) -> Server:
    return Server(
        folder,
        workers=workers,
        ASTRBOT_WORKER_LEASE_S="1",
        ASTRBOT_IM_RETRY_S="0.1",
        ASTRBOT_IM_MAX_ATTEMPTS="100",
        **environ,
    )


def kill(server: Server) -> None:
    """Kill the server and its workers at once."""
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(server.process.pid)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for pid in (server.process.pid, *map(int, children.stdout.split())):
        os.kill(pid, signal.SIGKILL)
    server.process.wait(30)


def send(server: Server, key: str, message: Any, *, chat: int = 1) -> dict[str, Any]:
    answer = server.request(
        "POST",
        "/api/v1/im/message",
        key,
        json={"umo": f"tg:FriendMessage:{chat}", "message": message},
    )
    assert answer.status in (200, 202), answer.data
    data: dict[str, Any] = orjson.loads(answer.data)["data"]
    return data


def read_statuses(folder: Path) -> list[str]:
    store = SqliteStore(folder / "astrbot.db")
    with store.read() as db:
        rows = db.execute_sql("SELECT status FROM delivery ORDER BY id").fetchall()
    store.close()
    return [row[0] for row in rows]


class HoldingTelegram(FakeTelegram):
    """Accepts a number of messages, then does not respond until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.takes = 10**9
        self.held = threading.Event()
        self._go_on = threading.Event()

    def answer(self, request: FakeRequest) -> Response:
        if request.path.endswith("sendMessage"):
            if self.takes <= 0:
                self.held.set()
                self._go_on.wait(60)
                return answer_json({"ok": False, "error_code": 500}, 500)
            self.takes -= 1
        return super().answer(request)

    def go_on(self) -> None:
        """Reject the held requests, and accept all later ones."""
        self.takes = 10**9
        self._go_on.set()


@pytest.fixture
def telegram() -> Iterator[HoldingTelegram]:
    with HoldingTelegram() as started:
        yield started
        started.go_on()


def test_a_delivery_accepted_before_a_kill_is_sent_once_after_it(
    tmp_path: Path, telegram: HoldingTelegram
) -> None:
    write_bot(tmp_path, telegram)
    telegram.refuse()
    server = start(tmp_path, workers=2, ASTRBOT_IM_WAIT_S="0")
    key = create_key(tmp_path, "im")
    for number in range(40):
        assert send(server, key, f"text {number}", chat=number % 4)["status"] != "sent"
    kill(server)
    telegram.listen()
    with start(tmp_path, workers=2):
        telegram.wait_for_messages(40)
        wait_for(lambda: read_statuses(tmp_path) == ["sent"] * 40)
    numbers = [int(one["text"].removeprefix("text ")) for one in telegram.messages]
    assert sorted(numbers) == list(range(40))
    for chat in range(4):
        own = [number for number in numbers if number % 4 == chat]
        assert own == sorted(own)


def test_a_kill_in_mid_message_repeats_no_confirmed_part(
    tmp_path: Path, telegram: HoldingTelegram
) -> None:
    write_bot(tmp_path, telegram)
    telegram.takes = 1
    # Three messages on Telegram. The second one gets no response.
    text = "\n\n".join(letter * 3000 for letter in "abc")
    server = start(tmp_path, ASTRBOT_IM_WAIT_S="0")
    key = create_key(tmp_path, "im")
    send(server, key, text)
    assert telegram.held.wait(30)
    kill(server)
    assert [one["text"][0] for one in telegram.messages] == ["a"]
    telegram.go_on()
    with start(tmp_path):
        wait_for(lambda: read_statuses(tmp_path) == ["sent"])
    assert [one["text"].strip()[0] for one in telegram.messages] == ["a", "b", "c"]


def test_a_killed_turn_continues_and_is_answered_once(
    tmp_path: Path, telegram: HoldingTelegram, fake_model: FakeOpenAI
) -> None:
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    write_bot(tmp_path, telegram)
    path = tmp_path / "bots.toml"
    path.write_text(path.read_text().replace('updates = "off"\n', ""))
    create_key(tmp_path, "im")  # creates the database
    server = start(tmp_path)
    telegram.queue(telegram.make_update("DELAY=50 N=100", chat_id=4711))
    wait_for(lambda: _count(tmp_path, "SELECT COUNT(*) FROM run WHERE status = 'running'"))
    # The journal contains a part of the answer.
    wait_for(lambda: (tmp_path / "events.db").exists() and fake_model.stats()["open"] > 0)
    kill(server)
    with start(tmp_path):
        (message,) = telegram.wait_for_messages(1)
        wait_for(lambda: read_statuses(tmp_path) == ["sent"])
        # Messages that the platform delivers again are ignored.
        telegram.queue(telegram.make_update("N=1", chat_id=4711))
        telegram.wait_for_messages(2)
    assert message["text"].split() == [f"tok{number}" for number in range(100)]
    assert [one["text"] for one in telegram.messages][1:] == ["tok0"]
    assert _count(tmp_path, "SELECT COUNT(*) FROM run") == 2


def _count(folder: Path, sql: str) -> int:
    store = SqliteStore(folder / "astrbot.db")
    with store.read() as db:
        found = int(db.execute_sql(sql).fetchone()[0])
    store.close()
    return found

"""Push messages and answers on every messenger, through the public API."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from werkzeug import Response
from werkzeug.test import TestResponse

from astrbot_api import create_app
from astrbot_api.agent.provider import Delta, ModelMessage, TextDelta
from astrbot_api.im import pending
from astrbot_api.testing import make_app

from ..im_platforms import PNG
from ..servers import add_config
from ..waiting import wait_for
from .conftest import Api
from .messengers import MESSENGERS, HookRequest, Messenger, OneBot, Slack, Telegram, Webhook
from .uploading import upload

SETTINGS = {"ASTRBOT_IM_RETRY_S": 0.05, "ASTRBOT_IM_WAIT_S": 10}


class Bot(Api):
    """An application with the bot ``bot`` on a fake messenger."""

    messenger: Messenger

    def push(self, *segments: Any, to: str = "") -> TestResponse:
        """Send a push message to the person."""
        return self.post(
            "/api/v1/im/message",
            json={"umo": f"bot:FriendMessage:{to or self.messenger.person}", "message": segments},
        )

    def hook(self, request: HookRequest) -> int:
        """Post a request of the platform and return the status."""
        headers, body = request
        answer = self.client.post("/api/v1/hooks/bot", headers=headers, data=body)
        return answer.status_code

    def texts(self, count: int) -> list[str]:
        """Wait for this number of messages on the platform and return their texts."""
        messages = self.messenger.fake.wait_for_messages(count)
        return [self.messenger.read_text(message) for message in messages]

    def look_up(self, delivery_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/api/v1/im/deliveries/{delivery_id}").get_json()["data"]
        return found


def open_bot(folder: Path, messenger: Messenger, **more: Any) -> Bot:
    add_config(folder, '[provider]\ntype = "mock"\n[agent]\ntitles = false\n')
    (folder / "bots.toml").write_text(messenger.table())
    app = create_app({"ASTRBOT_DATA_DIR": str(folder), **SETTINGS, **more})
    bot = Bot(app)
    bot.messenger = messenger
    return bot


@pytest.fixture(params=MESSENGERS, ids=lambda one: one.type)
def make_bot(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Bot]]:
    """Create the bot with the test's settings."""
    messenger: Messenger = request.param()
    made: list[Bot] = []

    def make(**settings: Any) -> Bot:
        made.append(open_bot(tmp_path, messenger, **settings))
        return made[-1]

    with messenger.fake:
        yield make
        for bot in made:
            bot.close()


@pytest.fixture
def bot(make_bot: Callable[..., Bot]) -> Bot:
    return make_bot()


# Push messages


def test_a_pushed_message_and_its_picture_arrive(bot: Bot) -> None:
    picture = upload(bot, PNG, b"red.png")["attachment_id"]
    answer = bot.push(
        {"type": "plain", "text": "Your report"}, {"type": "image", "attachment_id": picture}
    )
    assert (answer.status_code, answer.get_json()["data"]["status"]) == (200, "sent")
    messages = bot.messenger.fake.wait_for_messages(1)
    assert bot.messenger.read_text(messages[0]) == "Your report"
    assert bot.messenger.read_file(messages[-1]) == PNG


def test_a_platform_that_was_down_gets_the_message_later(
    make_bot: Callable[..., Bot],
) -> None:
    bot = make_bot(ASTRBOT_IM_WAIT_S=0.1)
    bot.messenger.fake.refuse()
    answer = bot.push({"type": "plain", "text": "Hi"})
    assert answer.status_code == 202
    delivery_id = answer.get_json()["data"]["delivery_id"]
    assert bot.look_up(delivery_id)["status"] in ("queued", "sending")
    bot.messenger.fake.listen()
    assert bot.texts(1) == ["Hi"]
    wait_for(lambda: bot.look_up(delivery_id)["status"] == "sent")
    assert len(bot.messenger.fake.messages) == 1


@pytest.mark.parametrize("status", [429, 500])
def test_a_temporarily_rejected_message_arrives_once(bot: Bot, status: int) -> None:
    bot.messenger.fake.fail_next(status, retry_after_s=0)
    answer = bot.push({"type": "plain", "text": "Hi"})
    assert answer.get_json()["data"]["status"] == "sent"
    assert bot.look_up(answer.get_json()["data"]["delivery_id"])["attempts"] == 2
    assert bot.texts(1) == ["Hi"]


def test_a_permanent_rejection_is_reported(bot: Bot) -> None:
    bot.messenger.fake.fail_next(400)
    answer = bot.push({"type": "plain", "text": "Hi"})
    assert answer.get_json()["code"] == "delivery_failed"
    assert "400" in answer.get_json()["message"]
    assert not bot.messenger.fake.messages


# Answers


def test_a_persons_message_is_answered_on_the_platform(bot: Bot) -> None:
    assert bot.hook(bot.messenger.say("ECHO good morning")) in (200, 202, 204)
    assert bot.texts(1) == ["echo: ECHO good morning"]


def test_a_redelivered_event_is_answered_once(bot: Bot) -> None:
    request = bot.messenger.say("ECHO one")
    assert len({bot.hook(request) for _ in range(3)}) == 1
    bot.hook(bot.messenger.say("ECHO two"))
    assert bot.texts(2) == ["echo: ECHO one", "echo: ECHO two"]
    assert bot.count_rows("run") == 2


def test_a_forged_request_gets_401_and_runs_nothing(bot: Bot) -> None:
    assert bot.hook(bot.messenger.forge("hi")) == 401
    assert bot.hook(({}, b"{}")) == 401
    assert bot.count_rows("run") == 0
    assert bot.count_rows("message") == 0


def test_in_a_group_the_bot_answers_only_if_addressed(bot: Bot) -> None:
    bot.hook(bot.messenger.say_in_group("ECHO one", to_bot=False))
    bot.hook(bot.messenger.say_in_group("ECHO two", to_bot=True))
    [text] = bot.texts(1)
    # In a group the model gets the speaker's name.
    assert text.startswith("echo: ")
    assert text.endswith(": ECHO two")
    assert bot.count_rows("run") == 1


def test_commands_work_on_every_platform(bot: Bot) -> None:
    bot.hook(bot.messenger.say("/sid"))
    [text] = bot.texts(1)
    assert f"bot:FriendMessage:{bot.messenger.person}" in text


def test_a_received_picture_becomes_an_attachment(bot: Bot) -> None:
    bot.hook(bot.messenger.show(PNG))
    bot.texts(1)
    with bot.state.db.read() as db:
        rows = db.execute_sql("SELECT type, size_bytes FROM attachment").fetchall()
    assert [tuple(row) for row in rows] == [("image", len(PNG))]


def test_a_temporarily_rejected_answer_arrives_once(bot: Bot) -> None:
    bot.messenger.fake.fail_next(500, times=2)
    bot.hook(bot.messenger.say("ECHO hi"))
    assert bot.texts(1) == ["echo: ECHO hi"]


def test_a_polling_bot_answers(tmp_path: Path) -> None:
    messenger = Telegram()
    settings = {"token": messenger.telegram.token, "base_url": ""}
    messenger.settings = lambda: settings  # type: ignore[method-assign]
    with messenger.fake:
        settings["base_url"] = messenger.telegram.url
        bot = open_bot(tmp_path, messenger)
        bot.state.start()
        messenger.telegram.queue(messenger.telegram.make_update("ECHO polled"))
        assert bot.texts(1) == ["echo: ECHO polled"]
        bot.state.close()


# Access


def open_polled(folder: Path, messenger: Telegram, **settings: Any) -> Bot:
    table = {"token": messenger.telegram.token, "base_url": messenger.telegram.url, **settings}
    messenger.settings = lambda: table  # type: ignore[method-assign]
    bot = open_bot(folder, messenger)
    bot.state.start()
    return bot


@pytest.mark.parametrize(
    "allow",
    [
        pytest.param([42, "-77"], id="as numbers"),
        pytest.param(["bot:42", "bot:GroupMessage:-77"], id="as /sid shows them"),
    ],
)
def test_only_allowed_senders_are_answered(tmp_path: Path, allow: list[Any]) -> None:
    messenger = Telegram()
    telegram = messenger.telegram
    with telegram:
        bot = open_polled(tmp_path, messenger, allow=allow)
        for text, chat_id, kind, sender in (
            ("ECHO stranger", 7, "private", 7),
            ("ECHO friend", 42, "private", 42),
            ("@tea_bot ECHO group", -77, "supergroup", 7),
            ("@tea_bot ECHO topic", -77, "supergroup", 7),
            ("@tea_bot ECHO other", -78, "supergroup", 7),
            ("@tea_bot ECHO friend there", -78, "supergroup", 42),
        ):
            who = {"id": sender, "is_bot": False, "first_name": "X"}
            update = telegram.make_update(text, chat_id=chat_id, chat_type=kind)
            update["message"]["from"] = who
            if text.endswith("topic"):
                update["message"] |= {"is_topic_message": True, "message_thread_id": 5}
            telegram.queue(update)
        assert sorted(text.rpartition("ECHO ")[2] for text in bot.texts(4)) == [
            "friend", "friend there", "group", "topic",
        ]  # fmt: skip
        wait_for(lambda: telegram.unconfirmed == 0)
        assert bot.count_rows("run") == 4
        bot.state.close()


def test_a_polled_message_is_confirmed_before_its_files_are_fetched(tmp_path: Path) -> None:
    messenger = Telegram()
    telegram = messenger.telegram
    release, download = threading.Event(), telegram._download

    def hold(path: str) -> Response:
        assert release.wait(30)
        return download(path)

    telegram._download = hold  # type: ignore[method-assign]
    with telegram:
        bot = open_polled(tmp_path, messenger)
        photo = [{"file_id": telegram.add_file(PNG, "a.jpg"), "width": 1, "height": 1}]
        telegram.queue(telegram.make_update(photo=photo))
        telegram.wait_for_request("/a.jpg")
        wait_for(lambda: telegram.unconfirmed == 0)
        assert bot.count_rows("run") == 0
        release.set()
        bot.texts(1)
        bot.state.close()


@pytest.mark.parametrize("polls", [False, True])
def test_an_album_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, polls: bool
) -> None:
    seen: list[str] = []

    def look(messages: list[ModelMessage]) -> Iterator[Delta]:
        seen.append(json.dumps(messages[-1]["content"]))
        yield TextDelta("Seen.")

    whole = threading.Event()
    monkeypatch.setattr(pending, "time", SimpleNamespace(sleep=lambda _: whole.wait(30)))
    messenger = Telegram()
    telegram = messenger.telegram
    origin = {"type": "hidden_user", "sender_user_name": "Kari"}
    updates = []
    for number, caption in enumerate((None, "@tea_bot What?", None)):
        file_id = telegram.add_file(f"page {number}".encode(), f"{number}.txt")
        part = {"document": {"file_id": file_id, "file_name": f"{number}.txt"}}
        if caption:
            entity = {"type": "mention", "offset": 0, "length": 8}
            part |= {"caption": caption, "caption_entities": [entity]}
        part |= {"media_group_id": "12", "forward_origin": origin}
        updates.append(telegram.make_update(**part, chat_id=-77, chat_type="supergroup"))
    updates.append(telegram.make_update("@tea_bot And?", chat_id=-77, chat_type="supergroup"))
    with telegram:
        table = messenger.settings() | {"updates": "polling" if polls else "webhook"}
        messenger.settings = lambda: table  # type: ignore[method-assign]
        (tmp_path / "bots.toml").write_text(messenger.table())
        app = make_app(look, data_dir=tmp_path, im_retry_s=0.05)
        bot = Bot(app.app, app.model, app.key)
        bot.messenger = messenger
        bot.state.start()
        if polls:
            for update in updates:
                telegram.queue(update)
            wait_for(lambda: telegram.unconfirmed == 0)
        else:
            for at in (2, 1, 0, 3):
                assert bot.hook(telegram.make_request(updates[at], "secret")) == 200
        whole.set()
        bot.texts(2)
        wait_for(lambda: bot.count_rows("inbound_pending") == 0)
        assert bot.hook(telegram.make_request(updates[2], "secret")) == (401 if polls else 200)
        assert bot.count_rows("inbound_pending") == 0
        bot.close()
    assert [("What?" in one, "And?" in one) for one in seen] == [(True, False), (False, True)]
    assert seen[0].count("[Forwarded from Kari]") == 1
    places = [seen[0].index(f"page {number}") for number in range(3)]
    assert places == sorted(places)


def test_a_flood_of_one_bot_does_not_fill_the_outbox(tmp_path: Path) -> None:
    messenger = Telegram()
    with messenger.fake:
        bot = open_bot(tmp_path, messenger, ASTRBOT_MAX_TURNS_PER_SESSION=1)
        messenger.fake.refuse()
        bot.hook(messenger.say("FIRST=60000"))
        for _ in range(10):
            assert bot.hook(messenger.say("again")) == 200
        assert bot.count_rows("delivery") == 3
        bot.state.close()


def test_a_webhook_gets_the_reason_of_a_rejected_message(tmp_path: Path) -> None:
    messenger = Webhook()
    with messenger.fake:
        bot = open_bot(tmp_path, messenger)
        headers, body = messenger.receiver.make_request([{"type": "plain", "text": 5}])
        answer = bot.client.post("/api/v1/hooks/bot", headers=headers, data=body)
        assert answer.status_code == 400
        assert answer.get_json()["message"] == "message[0].text: must be a string"
        bot.state.close()


def test_quoted_and_forwarded_qq_messages_reach_the_model(tmp_path: Path) -> None:
    def look(messages: list[ModelMessage]) -> Iterator[Delta]:
        seen.append(str(messages[-1]["content"]))
        yield TextDelta("Read.")

    seen: list[str] = []
    messenger = OneBot()
    qq = messenger.qq
    with qq:
        (tmp_path / "bots.toml").write_text(messenger.table())
        app = make_app(look, data_dir=tmp_path, im_retry_s=0.05)
        bot = Bot(app.app, app.model, app.key)
        bot.messenger = messenger
        qq.bundles["b1"] = [{"sender": {"nickname": "Ann"}, "message": "the gate is blue"}]
        quoted = qq.add_message("the key is under the mat", user_id=42)
        bot.hook(qq.make_request(qq.make_event("[CQ:forward,id=b1]", user_id=42)))
        bot.texts(1)
        bot.hook(qq.make_request(qq.make_event(f"[CQ:reply,id={quoted}]Where?", user_id=42)))
        bot.texts(2)
        bot.close()
    assert "Ann: the gate is blue" in seen[0]
    assert "under the mat" in seen[1]
    assert "Where?" in seen[1]


def test_a_mention_is_answered_even_if_its_thread_cannot_be_read(tmp_path: Path) -> None:
    messenger = Slack()
    slack = messenger.slack
    with slack:
        bot = open_bot(tmp_path, messenger)
        event = slack.make_event(f"<@{slack.bot_user}> ECHO hi", ts="9.9", thread_ts="1.1")
        bot.hook(slack.make_request(event))
        assert bot.texts(1)[0].endswith("ECHO hi")
        slack.wait_for_request("/conversations.replies")
        bot.close()


def test_a_message_pushed_into_a_deleted_topic_arrives(tmp_path: Path) -> None:
    messenger = Telegram()
    messenger.telegram.gone_topics[9] = "Bad Request: message thread not found"
    with messenger.fake:
        bot = open_bot(tmp_path, messenger)
        answer = bot.push({"type": "plain", "text": "report"}, to="-1007#9")
        assert answer.status_code == 200
        assert bot.texts(1) == ["report"]
        bot.close()


def test_a_mention_alone_in_a_thread_of_slack_is_about_the_thread(tmp_path: Path) -> None:
    messenger = Slack()
    slack = messenger.slack
    said = {"type": "message", "user": "U7", "text": "Ship it?", "ts": "1515449522.1"}
    asked = slack.make_event(
        f"<@{slack.bot_user}>", channel="C77", ts="1515449522.9", thread_ts=said["ts"]
    )
    slack.threads["C77", said["ts"]] = [said, asked["event"]]
    with slack, closing(open_bot(tmp_path, messenger)) as bot:
        assert bot.hook(slack.make_request(asked)) == 200
        assert bot.texts(1)

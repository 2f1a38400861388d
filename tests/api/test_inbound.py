"""Each message from a messenger is answered once, by the same agent and bot."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from astrbot_api import Tool, ToolContext
from astrbot_api.agent.provider import Delta, Finished, ModelMessage, TextDelta, ToolCallDelta
from astrbot_api.db.leases import drop_lease
from astrbot_api.db.models.deliveries import InboundPending
from astrbot_api.db.models.sessions import ChatSession
from astrbot_api.deliveries.http import PlatformError
from astrbot_api.errors import ApiError, StorageError
from astrbot_api.im import pending as pending_messages
from astrbot_api.im.adapter import InFile
from astrbot_api.im.pending import PendingMessages
from astrbot_api.testing import make_app

from ..fake_messenger import FakeMessenger, to_message
from ..waiting import wait_for
from .conftest import Api

BOTS = """
[[bot]]
id = "bot1"
type = "fake"
token = "a-token"
config = "{config}"
"""

CONFIG = """
name = "{name}"
[provider]
id = "scripted"
type = "mock"
[agent]
titles = false
system_prompt = "You serve {{username}} on {{platform}} as {name}."
"""


class BotApp(Api):
    """An application with a bot on a fake messenger."""

    messenger: FakeMessenger

    def deliver(self, *, token: str = "a-token", bot: str = "bot1", **value: Any) -> TestResponse:
        """Deliver a message to the server like the platform."""
        return self.client.post(f"/api/v1/hooks/{bot}", headers={"X-Token": token}, json=value)

    def ask(self, text: str, **value: Any) -> str:
        """Send a message and return the answer on the platform."""
        before = len(self.messenger.sent)
        self.deliver(event=f"e{before}-{text[:50]}", text=text, **value)
        wait_for(
            lambda: len(self.messenger.sent) > before and not self.state.im.outbox.sending_count
        )
        return "".join(self.messenger.texts()[before:])

    def hold_files(self) -> tuple[threading.Event, threading.Event]:
        """Hold the files of messages; return an event that is set then, and one to release them."""
        asked, late = threading.Event(), threading.Event()
        _, adapter = self.state.im.bots.get_running("bot1")
        fetch = adapter.open_file

        def hang(source: str) -> Any:
            asked.set()
            assert late.wait(60)
            return fetch(source)

        adapter.open_file = hang  # type: ignore[method-assign]
        return asked, late

    def list_asked(self, umo: str = "bot1:FriendMessage:s1") -> list[str]:
        """Return the texts of the users' messages in a session."""
        path = f"/api/v1/chat/sessions/{umo}?username={umo}"
        history = self.get(path).get_json()["data"]["history"]
        parts = [one["content"]["message"] for one in history if one["content"]["type"] == "user"]
        return ["".join(part.get("text", "") for part in message) for message in parts]

    def read_session(self, umo: str) -> tuple[Any, ...]:
        """Return creator, platform and is_group of a session."""
        with self.state.db.read() as db:
            query = ChatSession.select().where(ChatSession.session_id == umo)
            session = query.get(db)
        return session.creator, session.platform_id, session.is_group


def find_with(words: str, texts: list[str]) -> str:
    """Return all texts in one, if the words are in it."""
    joined = "".join(texts)
    return joined if words in joined else ""


def echo(messages: list[ModelMessage]) -> Iterator[Delta]:
    content = messages[-1]["content"]
    yield TextDelta(f"You said: {content}")


@pytest.fixture
def make_bot_app(tmp_path: Path) -> Iterator[Callable[..., BotApp]]:
    made: list[BotApp] = []

    def make(
        answer: Callable[[list[ModelMessage]], Iterator[Delta]] = echo,
        *,
        bots: str = BOTS.format(config="default"),
        **options: Any,
    ) -> BotApp:
        (tmp_path / "configs").mkdir(exist_ok=True)
        for name in ("default", "night"):
            (tmp_path / "configs" / f"{name}.toml").write_text(CONFIG.format(name=name))
        (tmp_path / "bots.toml").write_text(bots)
        messenger = FakeMessenger()
        options = {"adapters": {"fake": messenger}, "im_retry_s": 0.01, **options}
        app = make_app(answer, data_dir=tmp_path, **options)
        bot_app = BotApp(app.app, app.model, app.key)
        bot_app.messenger = messenger
        made.append(bot_app)
        return bot_app

    yield make
    for bot_app in made:
        bot_app.close()


@pytest.fixture
def bot_app(make_bot_app: Callable[..., BotApp]) -> BotApp:
    return make_bot_app()


def test_a_message_is_answered_through_the_same_bot(bot_app: BotApp) -> None:
    answer = bot_app.deliver(event="1", text="Hello", session="north:room", number="m7")
    assert (answer.status_code, answer.get_data()) == (200, b"received")
    wait_for(lambda: bot_app.messenger.sent)
    ((target, text),) = bot_app.messenger.sent
    assert text == "You said: Hello"
    assert (target.message_type, target.session_id) == ("FriendMessage", "north:room")
    assert target.reply_to == "m7"


def test_the_api_lists_the_conversations_session(bot_app: BotApp) -> None:
    bot_app.ask("Hello", session="s1", sender="u1", name="Ulla")
    umo = "bot1:FriendMessage:s1"
    assert bot_app.read_session(umo) == (umo, "bot1", 0)
    # An API user with the same name as the sender is another user.
    refused = bot_app.post_chat(username="u1", session_id=umo, message="x")
    assert refused.status_code == 409
    listed = bot_app.get(f"/api/v1/chat/sessions?username={umo}&platform_id=bot1")
    assert listed.get_json()["data"]["total"] == 1


def test_nobody_else_can_take_the_session_of_a_conversation(bot_app: BotApp) -> None:
    umo = "bot1:GroupMessage:-1001"
    took = bot_app.post_chat(username="mallory", session_id=umo, message="mine")
    web = f"webchat:FriendMessage:webchat!mallory!{umo}"
    pushed = bot_app.post("/api/v1/im/message", json={"umo": web, "message": "mine"})
    assert [took.status_code, pushed.status_code] == [400, 400]
    assert "is the name of a messenger's conversation" in took.get_json()["message"]
    assert bot_app.ask("hello", session="-1001", group=True) == "You said: Ulla: hello"


def test_the_conversation_continues_with_its_bots_config(make_bot_app: Any) -> None:
    bot_app = make_bot_app(bots=BOTS.format(config="night"))
    bot_app.ask("first")
    bot_app.ask("second", name="Ulla")
    told = bot_app.model.seen[-1]
    assert told[0]["content"] == "You serve Ulla on fake as night."
    assert [one["content"] for one in told[1:]] == ["first", "You said: first", "second"]


def test_a_redelivered_event_runs_once(bot_app: BotApp) -> None:
    for _ in range(3):
        assert bot_app.deliver(event="same", text="Hello").status_code == 200
    bot_app.deliver(event="other", text="after")
    wait_for(lambda: len(bot_app.messenger.sent) == 2)
    assert len(bot_app.model.seen) == 2
    assert bot_app.messenger.texts() == ["You said: Hello", "You said: after"]


def test_simultaneous_duplicate_events_run_once(bot_app: BotApp) -> None:
    def deliver() -> None:
        client = bot_app.app.test_client()
        client.post(
            "/api/v1/hooks/bot1",
            headers={"X-Token": "a-token"},
            json={"event": "same", "text": "Hello"},
        )

    threads = [threading.Thread(target=deliver) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bot_app.deliver(event="other", text="after")
    wait_for(lambda: len(bot_app.messenger.sent) == 2)
    assert len(bot_app.model.seen) == 2


@pytest.mark.parametrize("token", ["", "wrong"])
def test_a_bad_signature_gets_401_and_runs_nothing(bot_app: BotApp, token: str) -> None:
    answer = bot_app.deliver(token=token, event="1", text="Hello")
    assert (answer.status_code, answer.get_json()["code"]) == (401, "bad_signature")
    assert bot_app.count_rows("run") == bot_app.count_rows("inbound_event") == 0


def test_an_unknown_bot_gets_404(bot_app: BotApp) -> None:
    assert bot_app.deliver(bot="nobody", event="1", text="x").status_code == 404


def test_an_unreadable_event_gets_400(bot_app: BotApp) -> None:
    answer = bot_app.client.post("/api/v1/hooks/bot1", headers={"X-Token": "a-token"}, data=b"[1]")
    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_request")


def test_a_compressed_event_gets_415(bot_app: BotApp) -> None:
    headers = {"X-Token": "a-token", "Content-Encoding": "gzip"}
    answer = bot_app.client.post("/api/v1/hooks/bot1", headers=headers, data=b"\x1f\x8b")
    assert answer.status_code == 415
    assert "Content-Encoding gzip is not supported" in answer.get_json()["message"]


def test_a_large_event_gets_413(make_bot_app: Any) -> None:
    bot_app = make_bot_app(max_hook_bytes=2000)
    assert bot_app.deliver(event="1", text="x" * 3000).status_code == 413


def test_a_challenge_is_answered(bot_app: BotApp) -> None:
    assert bot_app.deliver(challenge="3eZbrw").get_data() == b"3eZbrw"


def test_a_group_is_answered_only_if_the_bot_is_addressed(bot_app: BotApp) -> None:
    group = {"group": True, "session": "g1"}
    bot_app.deliver(event="1", text="Nice weather", addressed=False, **group)
    assert bot_app.ask("Hello", name="Ulla", **group).startswith("You said: Ulla: Hello")
    bot_app.ask("And I", name="Otto\nsystem", sender="u2", **group)
    assert bot_app.read_session("bot1:GroupMessage:g1")[2] == 1
    told = [one["content"] for one in bot_app.model.seen[-1][1:]]
    assert told == ["Ulla: Hello", "You said: Ulla: Hello", "Otto system: And I"]


def test_commands_work_and_sid_shows_the_umo(bot_app: BotApp) -> None:
    said = bot_app.ask("/sid", session="s1", sender="u1")
    assert "bot1:FriendMessage:s1" in said
    assert "bot1:u1" in said
    assert bot_app.model.seen == []


def test_files_become_attachments(bot_app: BotApp) -> None:
    said = bot_app.ask("Read this", files={"note.txt": "The code is 4711."})
    assert "The code is 4711." in said
    assert bot_app.count_rows("attachment") == 1


def test_a_file_that_cannot_be_fetched_does_not_prevent_the_answer(make_bot_app: Any) -> None:
    bot_app = make_bot_app(max_file_bytes=10)
    said = bot_app.ask("Read this", files={"note.txt": "The code is 4711."})
    assert "Read this" in said
    assert "note.txt could not be received" in said


def test_files_above_the_limit_are_reported(bot_app: BotApp) -> None:
    said = bot_app.ask("Read these", files={f"{at:02}.txt": f"note {at}" for at in range(12)})
    assert "note 9" in said
    assert "Only the first 10 of 12 files were received" in said


@pytest.mark.parametrize("polls", [False, True])
def test_a_file_that_its_adapter_cannot_decode_does_not_prevent_the_answer(
    make_bot_app: Any, polls: bool
) -> None:
    bot_app = make_bot_app(bots=BOTS.format(config="default") + f"polls = {str(polls).lower()}\n")
    _, adapter = bot_app.state.im.bots.get_running("bot1")
    adapter.open_file = lambda source: base64.b64decode("x")
    told = {"event": "1", "text": "Read this", "files": {"note.txt": "4711"}}
    if polls:
        bot_app.messenger.inbox.append(to_message(told))
        bot_app.state.im.pollers.check()
    else:
        bot_app.deliver(**told)
    (said,) = wait_for(bot_app.messenger.texts)
    assert "note.txt could not be received" in said


def test_a_message_whose_worker_dies_while_fetching_is_answered_by_another(
    make_bot_app: Any,
) -> None:
    dying, other = make_bot_app(), make_bot_app()
    asked, late = threading.Event(), threading.Event()

    def hang(source: str) -> None:
        asked.set()
        assert late.wait(60)
        raise PlatformError("it was only slow")

    _, adapter = dying.state.im.bots.get_running("bot1")
    adapter.open_file = hang
    told = {"event": "7", "text": "Read this", "files": {"note.txt": "The code is 4711."}}
    assert dying.deliver(**told).status_code == 200
    assert asked.wait(60)
    assert dying.deliver(**told).status_code == 200
    assert other.deliver(**told).status_code == 200
    assert other.deliver(event="8", text="Thanks").status_code == 200
    other.state.im.inbound.pending.check()
    wait_for(lambda: [one.name for one in threading.enumerate()].count("inbound") == 1)
    assert other.count_rows("run") == 0, "the one that fetches is alive"

    dying.state.db.write(lambda db: drop_lease(db, dying.state.worker.lease.get_worker_id()))
    other.state.im.inbound.pending.check()
    # Either application may send the other one's answer.
    texts = wait_for(lambda: find_with("Thanks", other.messenger.texts() + dying.messenger.texts()))
    assert "4711." in texts
    wait_for(lambda: other.count_rows("inbound_pending") == 0)
    other.state.im.inbound.pending.check()
    late.set()
    wait_for(lambda: "inbound" not in [one.name for one in threading.enumerate()])
    assert other.list_asked() == ["Read this", "Thanks"]


def send_all(bot_app: BotApp, told: list[dict[str, Any]], polls: bool) -> None:
    """Let the bot find messages at its next poll, or send them to its webhook."""
    if polls:
        bot_app.messenger.inbox += [to_message(one) for one in told]
        bot_app.state.im.pollers.check()
    else:
        assert [bot_app.deliver(**one).status_code for one in told] == [200] * len(told)


@pytest.mark.parametrize("polls", [False, True])
def test_a_slow_file_delays_only_its_conversation(make_bot_app: Any, polls: bool) -> None:
    lines = "polls = true\n" if polls else ""
    bot_app = make_bot_app(bots=BOTS.format(config="default") + lines)
    asked, late = bot_app.hold_files()
    told = [
        {"event": "1", "text": "Read this", "files": {"note.txt": "4711"}},
        {"event": "2", "text": "Which number?"},
        {"event": "3", "text": "Hello", "session": "another"},
    ]
    send_all(bot_app, told, polls)
    assert asked.wait(30)
    wait_for(lambda: bot_app.messenger.texts() == ["You said: Hello"])
    late.set()
    texts = wait_for(lambda: find_with("Which number?", bot_app.messenger.texts()))
    assert "4711" in texts
    assert bot_app.list_asked() == ["Read this", "Which number?"]
    wait_for(lambda: bot_app.count_rows("inbound_pending") == 0)


@pytest.mark.parametrize("polls", [False, True])
def test_many_slow_files_delay_no_other_conversation(
    make_bot_app: Any, monkeypatch: pytest.MonkeyPatch, polls: bool
) -> None:
    monkeypatch.setattr(pending_messages, "_MAX_FETCHING", 1)
    lines = "polls = true\n" if polls else ""
    bot_app = make_bot_app(bots=BOTS.format(config="default") + lines)
    for chore in bot_app.state.worker.chores._chores:
        if chore.job == bot_app.state.im.inbound.pending.check:
            chore.due_at = float("inf")
    asked, late = bot_app.hold_files()
    told = [
        {"event": "1", "text": "Read", "files": {"a.txt": "4711"}},
        {"event": "2", "text": "Read", "files": {"b.txt": "4712"}, "session": "s2"},
        {"event": "3", "text": "Hello", "session": "s3"},
    ]
    send_all(bot_app, told, polls)
    assert asked.wait(30)
    wait_for(lambda: bot_app.messenger.texts() == ["You said: Hello"])
    late.set()
    for number in ("4711", "4712"):
        wait_for(lambda number=number: find_with(number, bot_app.messenger.texts()))


def test_a_file_that_came_with_its_message_does_not_wait(bot_app: BotApp) -> None:
    asked, late = bot_app.hold_files()
    bot, adapter = bot_app.state.im.bots.get_running("bot1")
    assert bot_app.deliver(event="1", text="Read", files={"a.txt": "4711"}).status_code == 200
    assert asked.wait(60)
    file = InFile("file", "b.txt", data=b"4712")
    message = replace(to_message({"event": "2", "text": "Read"}), files=(file,))
    bot_app.state.im.inbound.take(bot, adapter, message)
    assert "4712" in wait_for(bot_app.messenger.texts)[0]
    late.set()
    wait_for(lambda: find_with("4711", bot_app.messenger.texts()))


def test_a_message_that_another_worker_receives_is_answered_in_order_and_at_once(
    make_bot_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PendingMessages, "check", lambda self: None)  # later
    fetching, other = make_bot_app(), make_bot_app()
    asked, late = fetching.hold_files()
    assert fetching.deliver(event="1", text="Read", files={"a.txt": "4711"}).status_code == 200
    assert asked.wait(60)
    assert other.deliver(event="2", text="Thanks").status_code == 200
    wait_for(lambda: not other.state.im.inbound.pending._fetching)
    late.set()
    wait_for(lambda: find_with("Thanks", other.messenger.texts() + fetching.messenger.texts()))
    assert other.list_asked() == ["Read", "Thanks"]


@pytest.mark.parametrize("polls", [False, True])
def test_too_many_messages_of_a_conversation_are_refused_and_delay_no_other(
    make_bot_app: Any, monkeypatch: pytest.MonkeyPatch, polls: bool
) -> None:
    monkeypatch.setattr(pending_messages, "_MAX_WAITING", 2)
    lines = "polls = true\n" if polls else ""
    bot_app = make_bot_app(bots=BOTS.format(config="default") + lines)
    asked, late = bot_app.hold_files()
    send_all(bot_app, [{"event": "1", "text": "Read", "files": {"a.txt": "4711"}}], polls)
    assert asked.wait(30)
    told = [
        {"event": "2", "text": "Which number?"},
        {"event": "2", "text": "Which number?"},  # again
        {"event": "3", "text": "Please!"},
        {"event": "5", "text": "Look!", "album": "a", "addressed": False},
        {"event": "4", "text": "Hello", "session": "another"},
    ]
    send_all(bot_app, told, polls)
    refused = "Too many messages of this conversation are waiting; try again later."
    wait_for(lambda: set(bot_app.messenger.texts()) == {refused, "You said: Hello"})
    late.set()
    wait_for(lambda: find_with("Which number?", bot_app.messenger.texts()))
    assert bot_app.list_asked() == ["Read", "Which number?"]
    assert bot_app.messenger.texts().count(refused) == 1


def test_a_message_with_a_file_waits_while_the_server_is_full(make_bot_app: Any) -> None:
    bot_app = make_bot_app(max_turns_per_session=1)
    start, full = bot_app.state.chat.runs.start, threading.Event()

    def refuse(request: Any) -> Any:
        full.set()
        raise ApiError("server_busy", "later")

    bot_app.state.chat.runs.start = refuse
    assert bot_app.deliver(event="1", text="Read this", files={"a.txt": "4711"}).status_code == 200
    assert full.wait(30)
    bot_app.state.chat.runs.start = start

    def answered() -> list[str]:
        bot_app.state.im.inbound.pending.check()
        return bot_app.messenger.texts()

    assert "4711" in wait_for(answered)[0]
    wait_for(lambda: bot_app.count_rows("inbound_pending") == 0)


def test_a_message_with_a_file_is_answered_after_no_thread_could_be_started(
    make_bot_app: Any, without_threads: Any
) -> None:
    bot_app = make_bot_app()
    with without_threads("inbound") as refused:
        bot_app.deliver(event="1", text="Read this", files={"a.txt": "4711"})
        assert refused.is_set()
    bot_app.state.im.inbound.pending.check()
    assert "4711" in wait_for(bot_app.messenger.texts)[0]


def test_a_redelivered_message_is_acknowledged_only_after_it_is_stored(
    make_bot_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot_app = make_bot_app()
    pending, failing = bot_app.state.im.inbound.pending, threading.Event()
    first_writes, write = threading.Event(), bot_app.state.db.write
    told = {"event": "1", "text": "Read", "files": {"a.txt": "4711"}}
    message = to_message(told)

    def fail(job: Any) -> Any:
        first_writes.set()
        assert failing.wait(30)
        raise StorageError("the disk is full")

    def add(refused: list[StorageError]) -> None:
        try:
            pending.add("bot1", "bot1:FriendMessage:s1", message)
        except StorageError as error:
            refused.append(error)

    refusals: tuple[list[StorageError], list[StorageError]] = ([], [])
    bot_app.state.worker.lease.get_worker_id()
    monkeypatch.setattr(bot_app.state.db, "write", fail)
    first, second = (threading.Thread(target=add, args=(one,)) for one in refusals)
    first.start()
    assert first_writes.wait(30)
    second.start()
    failing.set()
    first.join()
    second.join()
    monkeypatch.setattr(bot_app.state.db, "write", write)
    assert [len(one) for one in refusals] == [1, 1], "who has an answer is not told of it again"
    assert bot_app.deliver(**told).status_code == 200
    assert "4711" in wait_for(bot_app.messenger.texts)[0]


def test_a_message_is_answered_if_the_files_before_it_arrive_while_it_is_stored(
    make_bot_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PendingMessages, "check", lambda self: None)  # at once, not by this job
    bot_app = make_bot_app()
    asked, late = bot_app.hold_files()
    write = pending_messages.write_message

    def write_later(message: Any) -> str:
        late.set()
        wait_for(lambda: not bot_app.state.im.inbound.pending._fetching)
        return write(message)

    assert bot_app.deliver(event="1", text="Read", files={"a.txt": "4711"}).status_code == 200
    assert asked.wait(60)
    monkeypatch.setattr(pending_messages, "write_message", write_later)
    assert bot_app.deliver(event="2", text="Hello").status_code == 200
    wait_for(lambda: find_with("You said: Hello", bot_app.messenger.texts()))


def test_messages_of_a_missing_bot_are_dropped(
    make_bot_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bot_app = make_bot_app()
    pending = bot_app.state.im.inbound.pending
    message = to_message({"event": "1", "text": "Read", "files": {"a.txt": "4711"}})
    pending.add("gone", "gone:FriendMessage:s1", message)
    wait_for(lambda: "will be retried: Bot not found" in caplog.text)
    bot_app.state.db.write(
        lambda db: InboundPending.update(
            received_at=InboundPending.received_at - 3600000001
        ).execute(db)
    )

    def left() -> bool:
        pending.check()
        return bot_app.count_rows("inbound_pending") > 0

    wait_for(lambda: not left())
    assert "the bot gone is dropped" in caplog.text


def test_a_quoted_message_reaches_the_model(bot_app: BotApp) -> None:
    assert "Be at noon" in bot_app.ask("When?", quoted="Be at noon")


def test_a_message_without_text_is_about_the_quoted_one(bot_app: BotApp) -> None:
    assert bot_app.ask("", quoted="Be at noon") == bot_app.ask("Be at noon")


def test_a_quoted_message_is_cut_as_the_message_itself(make_bot_app: Any) -> None:
    said = make_bot_app(max_message_chars=100).ask("y" * 200, quoted="x" * 200)
    assert (said.count("x"), said.count("y")) == (100, 100)
    assert "The rest of the message was cut off: it has more than 100 characters" in said


def test_a_failed_turn_is_answered_with_a_sentence(make_bot_app: Any) -> None:
    def fail(messages: list[ModelMessage]) -> Iterator[Delta]:
        yield TextDelta("Well")
        raise ValueError("SECRET")

    bot_app = make_bot_app(fail)
    said = bot_app.ask("Hello")
    assert said.startswith("Well")
    assert "SECRET" not in said
    assert len(said) > len("Well")


@pytest.mark.parametrize(("reason", "words"), [("length", "cut"), ("content_filter", "withheld")])
def test_an_incomplete_answer_says_so(make_bot_app: Any, reason: str, words: str) -> None:
    def break_off(messages: list[ModelMessage]) -> Iterator[Delta]:
        yield TextDelta("The first half")
        yield Finished(reason)

    said = make_bot_app(break_off).ask("Hello")
    assert said.startswith("The first half\n\n(")
    assert words in said


def test_a_missing_config_is_reported_and_the_event_not_redelivered(make_bot_app: Any) -> None:
    bot_app = make_bot_app(bots=BOTS.format(config="gone"))
    assert "config_id not found: gone" in bot_app.ask("Hello")
    bot_app.deliver(event="e0-Hello", text="Hello")
    assert len(bot_app.messenger.sent) == 1


def test_a_message_to_a_full_server_is_answered_later(make_bot_app: Any) -> None:
    begun, free = threading.Event(), threading.Event()

    def think(messages: list[ModelMessage]) -> Iterator[Delta]:
        begun.set()
        free.wait(30)
        yield TextDelta("done")

    bot_app = make_bot_app(think, max_runs_per_worker=1)
    assert bot_app.deliver(event="1", text="Hello").status_code == 200
    assert begun.wait(30)
    assert bot_app.deliver(event="2", text="Hello again").status_code == 200
    bot, adapter = bot_app.state.im.bots.get_running("bot1")
    file = InFile("file", "b.txt", data=b"4712")
    with pytest.raises(ApiError, match="try again"):  # its bytes are not stored
        bot_app.state.im.inbound.take(
            bot, adapter, replace(to_message({"event": "3"}), files=(file,))
        )
    free.set()

    def answered() -> bool:
        bot_app.state.im.inbound.pending.check()
        return len(bot_app.messenger.sent) == 2

    wait_for(answered)
    assert bot_app.list_asked() == ["Hello", "Hello again"]


def test_stop_ends_the_running_turn(make_bot_app: Any) -> None:
    begun, free = threading.Event(), threading.Event()

    def talk(messages: list[ModelMessage]) -> Iterator[Delta]:
        if "long" not in str(messages[-1]["content"]):
            yield TextDelta("quick")
            return
        yield TextDelta("Once upon a time")
        begun.set()
        while not free.wait(0.01):
            yield TextDelta(".")

    bot_app = make_bot_app(talk)
    bot_app.deliver(event="1", text="a long story")
    assert begun.wait(30)
    bot_app.deliver(event="2", text="/stop")
    wait_for(lambda: "Stopped" in "".join(bot_app.messenger.texts()))
    assert bot_app.messenger.texts()[0].startswith("Once upon a time")
    assert not free.is_set()
    free.set()


def test_typing_is_shown_while_the_turn_runs(make_bot_app: Any) -> None:
    free = threading.Event()

    def think(messages: list[ModelMessage]) -> Iterator[Delta]:
        free.wait(30)
        yield TextDelta("Done")

    bot_app = make_bot_app(think)
    bot_app.deliver(event="1", text="Hello")
    wait_for(lambda: bot_app.messenger.typing)
    free.set()
    wait_for(lambda: bot_app.messenger.texts() == ["Done"])


def test_tools_know_the_conversation_of_their_call(make_bot_app: Any) -> None:
    seen: list[ToolContext] = []

    def look(arguments: Any, context: ToolContext) -> str:
        seen.append(context)
        context.send_file(b"%PDF-1.4\n%%EOF\n", "map.pdf")
        return "seen"

    def call(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "user":
            yield ToolCallDelta(0, "c1", "look", "{}")
        else:
            yield TextDelta("Here.")

    bot_app = make_bot_app(call, tools=[Tool("look", "Look around.", look)])
    said = bot_app.ask("Where?", sender="u1", session="s1")
    assert [(one.platform, one.username, one.session_id) for one in seen] == [
        ("fake", "bot1:u1", "bot1:FriendMessage:s1")
    ]
    assert said == "file map.pdf %PDF-1.4\n%%EOF\nHere."


def test_a_reply_waits_for_a_platform_that_is_down(make_bot_app: Any) -> None:
    bot_app = make_bot_app()
    failures = [PlatformError("away", retryable=True)] * 2

    def before_part(target: Any, text: str) -> None:
        if failures:
            raise failures.pop()

    bot_app.messenger.before_part = before_part
    assert bot_app.ask("Hello") == "You said: Hello"


def test_a_bot_that_polls_is_polled_by_one_worker(make_bot_app: Any) -> None:
    bot_app = make_bot_app(bots=BOTS.format(config="default") + "polls = true\n")
    other = make_bot_app(bots=BOTS.format(config="default") + "polls = true\n")
    bot_app.state.im.pollers.check()
    assert bot_app.messenger.polling.wait(30)
    other.state.im.pollers.check()
    bot_app.messenger.inbox.append(to_message({"event": "1", "text": "Hello"}))
    wait_for(lambda: bot_app.messenger.texts() == ["You said: Hello"])
    assert not other.messenger.polling.is_set()
    # After the first one ends, the other takes over.
    bot_app.state.im.pollers.close()
    other.state.im.pollers.check()
    assert other.messenger.polling.wait(30)


def test_a_bot_is_polled_with_its_new_settings_and_not_after_its_removal(
    make_bot_app: Any, tmp_path: Path
) -> None:
    bots = BOTS.format(config="default") + "polls = true\n"
    bot_app = make_bot_app(bots=bots)
    pollers = bot_app.state.im.pollers
    pollers.check()
    for changed in (bots.replace('config = "default"', 'config = "night"'), ""):
        poll = pollers._polls["bot1"]
        (tmp_path / "bots.toml").write_text(changed)

        def is_stopped(poll: Any = poll) -> bool:
            pollers.check()
            return bool(poll.stop.is_set())

        wait_for(is_stopped)
    assert not pollers._polls


def test_polling_ends_while_the_lease_cannot_be_renewed(
    make_bot_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise StorageError("the database is away")

    bot_app = make_bot_app(bots=BOTS.format(config="default") + "polls = true\n")
    bot_app.state.im.pollers.check()
    assert bot_app.messenger.polling.wait(30)
    with monkeypatch.context() as patched:
        patched.setattr(bot_app.state.worker.lease, "get_worker_id", fail)
        bot_app.state.im.pollers.close()
    assert not bot_app.state.im.pollers._polls


def test_a_bot_is_polled_after_no_thread_could_be_started(
    make_bot_app: Any, without_threads: Any
) -> None:
    bot_app = make_bot_app(bots=BOTS.format(config="default") + "polls = true\n")
    with without_threads("poll bot1"), pytest.raises(RuntimeError):
        bot_app.state.im.pollers.check()
    bot_app.state.im.pollers.check()
    assert bot_app.messenger.polling.wait(30)


def test_polling_continues_after_an_adapter_exits(make_bot_app: Any) -> None:
    exits = [asyncio.CancelledError(), SystemExit()]

    class Polling(threading.Event):
        def set(self) -> None:
            if exits:
                raise exits.pop()
            super().set()

    bot_app = make_bot_app(bots=BOTS.format(config="default") + "polls = true\n")
    bot_app.messenger.polling = Polling()
    bot_app.state.im.pollers.check()
    assert bot_app.messenger.polling.wait(30)


def sends(arguments: str) -> Callable[[list[ModelMessage]], Iterator[Delta]]:
    """Return a model that sends a message with a tool, then says the tool's result."""

    def call(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "user":
            yield ToolCallDelta(0, "c1", "send_message_to_user", arguments)
        else:
            yield TextDelta(str(messages[-1]["content"]))

    return call


def test_a_message_sent_by_a_tool_arrives_before_the_answer(make_bot_app: Any) -> None:
    arguments = '{"messages":[{"type":"plain","text":"A moment"}]}'
    bot_app = make_bot_app(sends(arguments))
    bot_app.deliver(event="1", text="Hello", session="s1")
    wait_for(lambda: len(bot_app.messenger.sent) == 2)
    said = "Message sent to session bot1:FriendMessage:s1"
    assert bot_app.messenger.texts() == ["A moment", said]


def test_an_invalid_message_of_a_tool_is_reported_to_the_model(make_bot_app: Any) -> None:
    arguments = '{"messages":[{"type":"image","attachment_id":"gone"}]}'
    bot_app = make_bot_app(sends(arguments))
    assert bot_app.ask("Hello") == "error: attachment not found: gone"

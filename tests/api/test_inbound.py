"""Messages from messengers: each answered once, by the same agent, through the same bot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from astrbot_api import AstrBotAPI, Tool, ToolContext, create_app
from astrbot_api.agent.provider import Delta, ModelMessage, TextDelta, ToolCallDelta
from astrbot_api.db import keys
from astrbot_api.db.runs import drop_lease
from astrbot_api.deliveries.http import PlatformError
from astrbot_api.errors import ApiError, StorageError

from ..pigeons import Loft, to_message
from ..waiting import wait_for
from .conftest import Api, Scripted

BOTS = """
[[bot]]
id = "loft"
type = "pigeon"
token = "grain"
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


class Tower(Api):
    """An application whose bot is a loft of pigeons."""

    loft: Loft
    model: Scripted

    def tell(self, *, token: str = "grain", bot: str = "loft", **value: Any) -> TestResponse:
        """Tell the server of a message, as the platform does."""
        return self.client.post(f"/api/v1/hooks/{bot}", headers={"X-Token": token}, json=value)

    def ask(self, text: str, **value: Any) -> str:
        """Send a message and return what came back for it."""
        before = len(self.loft.sent)
        self.tell(event=f"e{before}-{text[:50]}", text=text, **value)
        wait_for(lambda: len(self.loft.sent) > before and not self.state.im.outbox.sending_count)
        return "".join(self.loft.texts()[before:])

    def read_session(self, umo: str) -> tuple[Any, ...]:
        """Return creator, platform and is_group of a session."""
        with self.state.db.read() as db:
            row: tuple[Any, ...] = db.execute_sql(
                "SELECT creator, platform_id, is_group FROM chat_session WHERE session_id = ?",
                (umo,),
            ).fetchone()
        return row


def echo(messages: list[ModelMessage]) -> Iterator[Delta]:
    content = messages[-1]["content"]
    yield TextDelta(f"You said: {content}")


@pytest.fixture
def make_tower(tmp_path: Path) -> Iterator[Callable[..., Tower]]:
    made: list[Tower] = []

    def make(
        answer: Callable[[list[ModelMessage]], Iterator[Delta]] = echo,
        *,
        bots: str = BOTS.format(config="default"),
        **options: Any,
    ) -> Tower:
        (tmp_path / "configs").mkdir(exist_ok=True)
        for name in ("default", "night"):
            (tmp_path / "configs" / f"{name}.toml").write_text(CONFIG.format(name=name))
        (tmp_path / "bots.toml").write_text(bots)
        loft, model = Loft(), Scripted(answer)
        extension = AstrBotAPI(
            adapters={"pigeon": loft},  # type: ignore[dict-item]
            providers={"scripted": model},
            data_dir=tmp_path,
            **{"im_retry_s": 0.01, **options},
        )
        app = create_app(api=extension)
        tower = Tower(app, app.extensions["astrbot_api"], app.test_client(), "")
        tower.key = tower.create_key(*keys.PUBLIC_SCOPES)
        tower.loft, tower.model = loft, model
        made.append(tower)
        return tower

    yield make
    for tower in made:
        tower.state.close()


@pytest.fixture
def tower(make_tower: Callable[..., Tower]) -> Tower:
    return make_tower()


def test_a_message_is_answered_through_the_same_bot(tower: Tower) -> None:
    answer = tower.tell(event="1", text="Hello", session="north:tower", number="m7")
    assert (answer.status_code, answer.get_data()) == (200, b"coo")
    wait_for(lambda: tower.loft.sent)
    ((target, text),) = tower.loft.sent
    assert text == "You said: Hello"
    assert (target.message_type, target.session_id) == ("FriendMessage", "north:tower")
    assert target.reply_to == "m7"


def test_the_session_is_the_conversations_and_the_api_sees_it(tower: Tower) -> None:
    tower.ask("Hello", session="s1", sender="u1", name="Ulla")
    umo = "loft:FriendMessage:s1"
    assert tower.read_session(umo) == (umo, "loft", 0)
    # An API user who is called as the sender is somebody else.
    refused = tower.post_chat(username="u1", session_id=umo, message="x")
    assert refused.status_code == 409
    listed = tower.get(f"/api/v1/chat/sessions?username={umo}&platform_id=loft")
    assert listed.get_json()["data"]["total"] == 1


def test_the_conversation_goes_on_and_has_its_bots_config(make_tower: Any) -> None:
    tower = make_tower(bots=BOTS.format(config="night"))
    tower.ask("first")
    tower.ask("second", name="Ulla")
    told = tower.model.seen[-1]
    assert told[0]["content"] == "You serve Ulla on pigeon as night."
    assert [one["content"] for one in told[1:]] == ["first", "You said: first", "second"]


def test_an_event_that_is_told_twice_runs_once(tower: Tower) -> None:
    for _ in range(3):
        assert tower.tell(event="same", text="Hello").status_code == 200
    tower.tell(event="other", text="after")
    wait_for(lambda: len(tower.loft.sent) == 2)
    assert len(tower.model.seen) == 2
    assert tower.loft.texts() == ["You said: Hello", "You said: after"]


def test_events_that_are_told_at_once_run_once(tower: Tower) -> None:
    def tell() -> None:
        client = tower.app.test_client()
        client.post(
            "/api/v1/hooks/loft",
            headers={"X-Token": "grain"},
            json={"event": "same", "text": "Hello"},
        )

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tower.tell(event="other", text="after")
    wait_for(lambda: len(tower.loft.sent) == 2)
    assert len(tower.model.seen) == 2


@pytest.mark.parametrize("token", ["", "wrong"])
def test_a_bad_signature_gets_401_and_runs_nothing(tower: Tower, token: str) -> None:
    answer = tower.tell(token=token, event="1", text="Hello")
    assert (answer.status_code, answer.get_json()["code"]) == (401, "bad_signature")
    assert tower.count_rows("run") == tower.count_rows("inbound_event") == 0


def test_an_unknown_bot_gets_404(tower: Tower) -> None:
    assert tower.tell(bot="nobody", event="1", text="x").status_code == 404


def test_what_no_adapter_can_read_gets_400(tower: Tower) -> None:
    answer = tower.client.post("/api/v1/hooks/loft", headers={"X-Token": "grain"}, data=b"[1]")
    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_request")


def test_a_large_event_gets_413(make_tower: Any) -> None:
    tower = make_tower(max_hook_bytes=2000)
    assert tower.tell(event="1", text="x" * 3000).status_code == 413


def test_a_challenge_is_answered(tower: Tower) -> None:
    assert tower.tell(challenge="3eZbrw").get_data() == b"3eZbrw"


def test_a_group_is_answered_only_when_the_bot_is_addressed(tower: Tower) -> None:
    group = {"group": True, "session": "g1"}
    tower.tell(event="1", text="Nice weather", addressed=False, **group)
    assert tower.ask("Hello", name="Ulla", **group).startswith("You said: Ulla: Hello")
    tower.ask("And I", name="Otto\nsystem", sender="u2", **group)
    assert tower.read_session("loft:GroupMessage:g1")[2] == 1
    told = [one["content"] for one in tower.model.seen[-1][1:]]
    assert told == ["Ulla: Hello", "You said: Ulla: Hello", "Otto system: And I"]


def test_commands_work_and_sid_shows_the_true_umo(tower: Tower) -> None:
    said = tower.ask("/sid", session="s1", sender="u1")
    assert "loft:FriendMessage:s1" in said
    assert "loft:u1" in said
    assert tower.model.seen == []


def test_files_become_attachments(tower: Tower) -> None:
    said = tower.ask("Read this", files={"note.txt": "The code is 4711."})
    assert "The code is 4711." in said
    assert tower.count_rows("attachment") == 1


def test_a_file_that_cannot_be_fetched_does_not_cost_the_answer(make_tower: Any) -> None:
    tower = make_tower(max_file_bytes=10)
    said = tower.ask("Read this", files={"note.txt": "The code is 4711."})
    assert "Read this" in said
    assert "note.txt could not be taken in" in said


def test_a_message_whose_worker_dies_while_it_fetches_is_answered_by_another(
    make_tower: Any,
) -> None:
    dying, other = make_tower(), make_tower()
    asked, late = threading.Event(), threading.Event()

    def hang(source: str) -> None:
        asked.set()
        assert late.wait(60)
        raise PlatformError("it was only slow")

    _, adapter = dying.state.im.bots.get_running("loft")
    adapter.open_file = hang
    told = {"event": "7", "text": "Read this", "files": {"note.txt": "The code is 4711."}}
    assert dying.tell(**told).status_code == 200
    assert asked.wait(60)
    assert dying.tell(**told).status_code == 200
    assert other.tell(**told).status_code == 200
    other.state.im.inbound.pending.tend()
    assert other.loft.texts() == [], "the one that fetches is alive"

    dying.state.db.write(lambda db: drop_lease(db, dying.state.worker.lease.get_worker_id()))
    other.state.im.inbound.pending.tend()
    # Either sends what the other one answered.
    wait_for(lambda: "4711." in "".join(other.loft.texts() + dying.loft.texts()))
    wait_for(lambda: other.count_rows("inbound_pending") == 0)
    other.state.im.inbound.pending.tend()
    late.set()
    wait_for(lambda: "inbound" not in [one.name for one in threading.enumerate()])
    assert other.count_rows("run") == 1


def test_a_message_with_a_file_waits_for_a_server_that_is_full(make_tower: Any) -> None:
    tower = make_tower(max_turns_per_session=1)
    start, full = tower.state.chat.runs.start, threading.Event()

    def refuse(request: Any) -> Any:
        full.set()
        raise ApiError("server_busy", "later")

    tower.state.chat.runs.start = refuse
    assert tower.tell(event="1", text="Read this", files={"a.txt": "4711"}).status_code == 200
    assert full.wait(30)
    tower.state.chat.runs.start = start

    def answered() -> list[str]:
        tower.state.im.inbound.pending.tend()
        return tower.loft.texts()

    assert "4711" in wait_for(answered)[0]
    assert tower.count_rows("inbound_pending") == 0


def test_a_message_that_is_told_twice_is_acknowledged_only_when_it_is_stored(
    make_tower: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = make_tower()
    pending, failing = tower.state.im.inbound.pending, threading.Event()
    first_writes, write = threading.Event(), tower.state.db.write
    message = to_message({"event": "1", "text": "Read", "files": {"a.txt": "4711"}})

    def fail(job: Any) -> Any:
        first_writes.set()
        assert failing.wait(30)
        raise StorageError("the disk is full")

    def add(refused: list[StorageError]) -> None:
        try:
            pending.add("loft", message)
        except StorageError as error:
            refused.append(error)

    refusals: tuple[list[StorageError], list[StorageError]] = ([], [])
    tower.state.worker.lease.get_worker_id()
    monkeypatch.setattr(tower.state.db, "write", fail)
    first, second = (threading.Thread(target=add, args=(one,)) for one in refusals)
    first.start()
    assert first_writes.wait(30)
    second.start()
    failing.set()
    first.join()
    second.join()
    monkeypatch.setattr(tower.state.db, "write", write)
    assert [len(one) for one in refusals] == [1, 1], "who has an answer is not told of it again"
    assert tower.count_rows("inbound_pending") == 0


def test_a_bot_that_stays_away_has_its_messages_given_up(
    make_tower: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tower = make_tower()
    pending = tower.state.im.inbound.pending
    message = to_message({"event": "1", "text": "Read", "files": {"a.txt": "4711"}})
    pending.add("gone", message)
    wait_for(lambda: "waits: Bot not found" in caplog.text)
    tower.state.db.write(
        lambda db: db.execute_sql(
            "UPDATE inbound_pending SET received_at = received_at - 3600000001"
        )
    )

    def left() -> bool:
        pending.tend()
        return tower.count_rows("inbound_pending") > 0

    wait_for(lambda: not left())
    assert "the bot gone is given up" in caplog.text


def test_a_quoted_message_is_told_to_the_model(tower: Tower) -> None:
    assert "Be at noon" in tower.ask("When?", quoted="Be at noon")


def test_a_failed_turn_is_answered_with_a_sentence(make_tower: Any) -> None:
    def fail(messages: list[ModelMessage]) -> Iterator[Delta]:
        yield TextDelta("Well")
        raise ValueError("SECRET")

    tower = make_tower(fail)
    said = tower.ask("Hello")
    assert said.startswith("Well")
    assert "SECRET" not in said
    assert len(said) > len("Well")


def test_a_missing_config_is_told_and_the_event_not_told_again(make_tower: Any) -> None:
    tower = make_tower(bots=BOTS.format(config="gone"))
    assert "config_id not found: gone" in tower.ask("Hello")
    tower.tell(event="e0-Hello", text="Hello")
    assert len(tower.loft.sent) == 1


def test_a_server_that_is_full_has_the_platform_try_again(make_tower: Any) -> None:
    tower = make_tower(max_runs_per_worker=1)
    tower.state.chat.runs.drain()
    assert tower.tell(event="1", text="Hello").status_code == 503
    assert tower.count_rows("inbound_event") == 0


def test_stop_ends_the_turn_that_runs(make_tower: Any) -> None:
    begun, free = threading.Event(), threading.Event()

    def talk(messages: list[ModelMessage]) -> Iterator[Delta]:
        if "long" not in str(messages[-1]["content"]):
            yield TextDelta("quick")
            return
        yield TextDelta("Once upon a time")
        begun.set()
        while not free.wait(0.01):
            yield TextDelta(".")

    tower = make_tower(talk)
    tower.tell(event="1", text="a long story")
    assert begun.wait(30)
    tower.tell(event="2", text="/stop")
    wait_for(lambda: "Stopped" in "".join(tower.loft.texts()))
    assert tower.loft.texts()[0].startswith("Once upon a time")
    assert not free.is_set()
    free.set()


def test_typing_is_shown_while_the_answer_is_made(make_tower: Any) -> None:
    free = threading.Event()

    def think(messages: list[ModelMessage]) -> Iterator[Delta]:
        free.wait(30)
        yield TextDelta("Done")

    tower = make_tower(think)
    tower.tell(event="1", text="Hello")
    wait_for(lambda: tower.loft.typing)
    free.set()
    wait_for(lambda: tower.loft.texts() == ["Done"])


def test_tools_know_where_they_are_called_from(make_tower: Any) -> None:
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

    tower = make_tower(call, tools=[Tool("look", "Look around.", look)])
    said = tower.ask("Where?", sender="u1", session="s1")
    assert [(one.platform, one.username, one.session_id) for one in seen] == [
        ("pigeon", "loft:u1", "loft:FriendMessage:s1")
    ]
    assert said == "file map.pdf %PDF-1.4\n%%EOF\nHere."


def test_a_reply_waits_for_a_platform_that_is_away(make_tower: Any) -> None:
    tower = make_tower()
    failures = [PlatformError("away", retryable=True)] * 2

    def before_part(target: Any, text: str) -> None:
        if failures:
            raise failures.pop()

    tower.loft.before_part = before_part
    assert tower.ask("Hello") == "You said: Hello"


def test_a_bot_that_polls_is_polled_by_one_worker(make_tower: Any) -> None:
    tower = make_tower(bots=BOTS.format(config="default") + "polls = true\n")
    other = make_tower(bots=BOTS.format(config="default") + "polls = true\n")
    tower.state.im.pollers.tend()
    assert tower.loft.polling.wait(30)
    other.state.im.pollers.tend()
    tower.loft.inbox.append(to_message({"event": "1", "text": "Hello"}))
    wait_for(lambda: tower.loft.texts() == ["You said: Hello"])
    assert not other.loft.polling.is_set()
    # When the first one ends, the other takes over.
    tower.state.im.pollers.close()
    other.state.im.pollers.tend()
    assert other.loft.polling.wait(30)


def test_a_tool_speaks_before_the_answer_and_both_arrive_in_order(make_tower: Any) -> None:
    arguments = '{"messages":[{"type":"plain","text":"A moment"}]}'

    def call(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "user":
            yield ToolCallDelta(0, "c1", "send_message_to_user", arguments)
        else:
            yield TextDelta(str(messages[-1]["content"]))

    tower = make_tower(call)
    tower.tell(event="1", text="Hello", session="s1")
    wait_for(lambda: len(tower.loft.sent) == 2)
    said = "Message sent to session loft:FriendMessage:s1"
    assert tower.loft.texts() == ["A moment", said]


def test_what_a_tool_says_wrongly_is_told_to_the_model(make_tower: Any) -> None:
    arguments = '{"messages":[{"type":"image","attachment_id":"gone"}]}'

    def call(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "user":
            yield ToolCallDelta(0, "c1", "send_message_to_user", arguments)
        else:
            yield TextDelta(str(messages[-1]["content"]))

    tower = make_tower(call)
    assert tower.ask("Hello") == "error: attachment not found: gone"

"""Signed events for other systems: sent once, retried, failed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from werkzeug import Response

from astrbot_api import tool
from astrbot_api.agent.provider import ToolCallDelta
from astrbot_api.config import watched as watchedfile
from astrbot_api.db import deliveries, delivery_claims
from astrbot_api.db.models.deliveries import Delivery
from astrbot_api.deliveries import attempts
from astrbot_api.deliveries.http import PlatformError
from astrbot_api.deliveries.signing import verify
from astrbot_api.deliveries.webhook_file import WebhookFile, read_webhooks
from astrbot_api.errors import SettingsError, StorageError
from astrbot_api.runtime.clock import now_us
from astrbot_api.testing import make_app
from astrbot_api.testing.fake_platform import FakePlatform, FakeRequest

from ..fake_messenger import FakeMessenger
from ..waiting import LIMIT_S, wait_for
from .conftest import Api

SECRET = "a-secret-of-sixteen-or-more"

_FILE = """
[[webhook]]
id = "crm"
url = "{url}/hook"
secret = "{secret}"
"""


class Receiver(FakePlatform):
    """A system that receives events. Requests to ``/hung…`` get no response until it closes."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = threading.Event()
        #: Responses to the next requests, before the usual one.
        self.next_answers: list[Response] = []

    def answer(self, request: FakeRequest) -> Response:
        """Accept an event with a valid signature."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        event_id = verify(SECRET, headers, request.data)
        assert event_id is not None
        if request.path.startswith("/hung"):
            self.closing.wait(60)
        elif self.next_answers:
            return self.next_answers.pop(0)
        else:
            self.accept({"id": event_id, **orjson.loads(request.data)})
        return Response(status=204)

    def types(self) -> list[str]:
        """Return the types of the received events."""
        return [one["type"] for one in self.messages]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started
        started.closing.set()


@pytest.fixture
def make_webhook_app(tmp_path: Path, receiver: Receiver) -> Iterator[Callable[..., Api]]:
    made: list[Api] = []

    def make(lines: str = "", script: Any = "Hello", **settings: Any) -> Api:
        (tmp_path / "bots.toml").write_text('[[bot]]\nid = "bot1"\ntype = "fake"\n')
        text = _FILE.format(url=receiver.url, secret=SECRET) + lines
        (tmp_path / "webhooks.toml").write_text(text)
        messenger = FakeMessenger()

        def refuse(target: Any, text: str) -> None:
            raise PlatformError("The chat does not exist.")

        messenger.before_part = refuse
        settings = {"im_retry_s": 0.01, "im_max_attempts": 3, **settings}
        app = make_app(script, data_dir=tmp_path, adapters={"fake": messenger}, **settings)
        made.append(Api(app.app, app.model, app.key))
        return made[-1]

    yield make
    receiver.closing.set()
    for api in made:
        api.close()


def test_a_pending_call_sends_an_event(make_webhook_app: Any, receiver: Receiver) -> None:
    @tool(needs_approval=True)
    def pay(amount: int) -> str:
        """Pay an amount."""
        return f"paid {amount}"

    call = [ToolCallDelta(0, "c1", "pay", '{"amount": 5}')]
    api = make_webhook_app('events = ["approval_required"]\n', call, tools=[pay])
    asked = api.chat("buy", session_id="room")[-1]
    api.state.im.outbox.wake()
    receiver.wait_for_messages(1)
    assert receiver.types() == ["approval_required"]
    assert receiver.messages[0]["data"] == {
        "run_id": asked["message_id"], "session_id": "room", "username": "alice", **asked["data"],
    }  # fmt: skip


def test_a_turn_sends_events_for_itself_and_its_messages(
    make_webhook_app: Any, receiver: Receiver
) -> None:
    api = make_webhook_app()
    events = api.chat("Hello", session_id="room")
    api.state.im.outbox.wake()
    receiver.wait_for_messages(3)
    assert sorted(receiver.types()) == ["message_stored", "message_stored", "run_ended"]
    user, bot = sorted(
        (one["data"] for one in receiver.messages if one["type"] == "message_stored"),
        key=lambda data: int(data["message_id"]),
    )
    assert (user["sender_id"], user["session_id"], user["platform_id"]) == (
        "alice", "room", "webchat",
    )  # fmt: skip
    assert user["content"]["message"] == [{"type": "plain", "text": "Hello"}]
    assert bot["sender_id"] == "bot"
    ended = next(one["data"] for one in receiver.messages if one["type"] == "run_ended")
    saved = next(one["data"]["id"] for one in events if one["type"] == "message_saved")
    assert (ended["status"], ended["error_code"], ended["message_id"]) == ("completed", None, saved)
    assert len({one["id"] for one in receiver.messages}) == 3


def test_a_webhook_receives_only_the_events_it_subscribed_to(
    make_webhook_app: Any, receiver: Receiver
) -> None:
    api = make_webhook_app('events = ["run_ended"]\n')
    api.chat("Hello")
    api.state.im.outbox.wake()
    receiver.wait_for_messages(1)
    assert api.count_rows("delivery") == 1
    assert receiver.types() == ["run_ended"]


def test_a_pushed_message_sends_an_event(make_webhook_app: Any, receiver: Receiver) -> None:
    api = make_webhook_app()
    api.post(
        "/api/v1/im/message",
        json={"umo": "webchat:FriendMessage:webchat!alice!room", "message": "Tea"},
    )
    api.state.im.outbox.wake()
    (event,) = receiver.wait_for_messages(1)
    assert event["data"]["content"]["message"] == [{"type": "plain", "text": "Tea"}]


def test_a_failed_delivery_sends_an_event_but_a_failed_event_does_not(
    make_webhook_app: Any, receiver: Receiver
) -> None:
    api = make_webhook_app('events = ["delivery_failed"]\n')
    body = {"umo": "bot1:FriendMessage:1", "message": "x"}
    answer = api.post("/api/v1/im/message", json=body)
    assert answer.status_code == 502
    (event,) = receiver.wait_for_messages(1)
    assert event["data"]["delivery_id"] == answer.headers["X-Delivery-ID"]
    assert event["data"]["error"] == "The chat does not exist."
    receiver.fail_next(410, times=1)
    api.post("/api/v1/im/message", json=body)
    wait_for(lambda: _statuses(api) == ["failed", "failed", "failed", "sent"])
    assert len(receiver.messages) == 1
    assert not api.state.im.outbox.waiters._events


def test_a_delivery_that_another_worker_has_taken_over_sends_no_event(
    make_webhook_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = threading.Event()
    api = make_webhook_app('events = ["delivery_failed"]\n', im_wait_s=0)
    monkeypatch.setattr(delivery_claims, "finish", lambda *args, **values: False)
    monkeypatch.setattr(api.state.im.outbox.waiters, "notify", lambda delivery_id: lost.set())
    body = {"umo": "bot1:FriendMessage:1", "message": "x"}
    assert api.post("/api/v1/im/message", json=body).status_code == 202
    assert lost.wait(LIMIT_S)
    (status,) = _statuses(api)  # there is no event
    assert status in ("sending", "queued")  # the next cleanup frees its row


def test_an_event_counts_for_its_key_until_it_is_sent(
    make_webhook_app: Any, receiver: Receiver
) -> None:
    """A deleted session must leave no text behind, and one key must not fill all storage."""
    api, text = make_webhook_app(), "word " * 4000

    def read_bytes() -> int:
        return int(api.get("/api/v1/keys/self").get_json()["data"]["used"]["stored_bytes"])

    receiver.next_answers += [Response(status=503)] * 3
    api.chat(text, session_id="room")
    api.client.delete("/api/v1/chat/sessions/room?username=alice", headers={"X-API-Key": api.key})
    assert read_bytes() > len(text)
    api.state.im.outbox.wake()
    receiver.wait_for_messages(3)

    def list_contents() -> set[str]:
        with api.state.db.read() as db:
            return {row.content for row in Delivery.select().execute(db)}

    wait_for(lambda: list_contents() == {"[]"})
    assert read_bytes() < len(text)
    api.state.db.write(lambda db: deliveries.prune(db, keep_us=0))
    assert read_bytes() == 0


def test_an_event_is_retried_if_its_receiver_is_down(
    make_webhook_app: Any, receiver: Receiver
) -> None:
    api = make_webhook_app('events = ["run_ended"]\n')
    receiver.fail_next(503, times=2)
    api.chat("Hello")
    api.state.im.outbox.wake()
    receiver.wait_for_messages(1)
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


def test_an_event_is_sent_after_no_thread_could_be_started(
    make_webhook_app: Any,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    without_threads: Any,
) -> None:
    monkeypatch.setattr("astrbot_api.deliveries.outbox._MAINTAIN_S", 0.0)
    api = make_webhook_app('events = ["run_ended"]\n')
    with without_threads("delivery") as refused:
        api.chat("Hello")
        api.state.im.outbox.wake()
        assert refused.wait(LIMIT_S)
    receiver.wait_for_messages(1)
    assert len(receiver.requests) == 1


def test_an_event_that_was_sent_is_not_sent_again_if_the_database_is_busy(
    make_webhook_app: Any, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, failures = delivery_claims.finish, [StorageError("It is busy."), StorageError("Still.")]

    def fail_first(*args: Any, **values: Any) -> bool:
        if failures:
            raise failures.pop()
        return finish(*args, **values)

    monkeypatch.setattr(delivery_claims, "finish", fail_first)
    monkeypatch.setattr(attempts, "time", SimpleNamespace(sleep=lambda seconds: None))
    api = make_webhook_app('events = ["run_ended"]\n')
    api.chat("Hello")
    api.state.im.outbox.wake()
    wait_for(lambda: _statuses(api) == ["sent"])
    assert len(receiver.requests) == 1


def test_an_event_waits_hours_for_a_receiver_that_stays_down(
    make_webhook_app: Any, receiver: Receiver
) -> None:
    api = make_webhook_app('events = ["run_ended"]\n', im_retry_s=2, im_max_attempts=10)
    receiver.refuse()
    api.chat("Hello")
    wait_for(lambda: _list_values(api, "attempts") == [1] and _statuses(api) == ["queued"])
    now = now_us()
    later = Delivery.update(attempts=8, due_at=now)
    api.state.db.write(lambda db: later.execute(db))
    api.state.im.outbox.wake()
    wait_for(lambda: _list_values(api, "attempts") == [9] and _statuses(api) == ["queued"])
    (due_at,) = _list_values(api, "due_at")
    assert due_at > now + 9 * 3_600_000_000


def test_an_event_is_retried_while_its_webhook_is_missing(
    make_webhook_app: Any, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchedfile, "_RECHECK_S", 0.0)
    monkeypatch.setattr(watchedfile, "_SETTLED_S", 0.0)
    api = make_webhook_app('events = ["run_ended"]\n', im_max_attempts=100)
    file = api.state.settings.data_dir / "webhooks.toml"
    text, accept = file.read_text(encoding="utf-8"), receiver.answer

    def write_empty_file(request: FakeRequest) -> Response:
        file.write_text("", encoding="utf-8")
        monkeypatch.setattr(receiver, "answer", accept)
        return Response(status=503)

    monkeypatch.setattr(receiver, "answer", write_empty_file)
    api.chat("Hello")
    wait_for(lambda: "removed" in str(_list_values(api, "error")))
    file.write_text(text, encoding="utf-8")
    receiver.wait_for_messages(1)


@pytest.mark.parametrize(
    ("answers", "statuses"),
    [
        ([(b"x" * 100_000, 500)], ["sent"]),
        ([(b"x" * 100_000, 500)] * 3, ["failed"]),
        ([(b"x" * 100_000, 200)], ["sent"]),
        ([(b"x" * 100_000, 404)] * 2, ["sent"]),
        ([(b"x" * 100_000, 410)], ["failed"]),
    ],
)
def test_the_status_of_a_long_response_decides(
    make_webhook_app: Any, receiver: Receiver, answers: Any, statuses: list[str]
) -> None:
    receiver.next_answers = [Response(*one) for one in answers]
    api = make_webhook_app('events = ["run_ended"]\n')
    api.chat("Hello")
    wait_for(lambda: _statuses(api) == statuses)
    assert receiver.next_answers == []


def test_receivers_that_do_not_respond_do_not_delay_another(
    make_webhook_app: Any, receiver: Receiver
) -> None:
    hung = "".join(
        f'[[webhook]]\nid = "hung{number}"\nurl = "{receiver.url}/hung{number}"\n'
        f'secret = "{SECRET}"\nevents = ["run_ended"]\ntimeout_s = 60\n'
        for number in range(6)
    )
    api = make_webhook_app(f'events = ["run_ended"]\n{hung}')
    for _ in range(20):
        api.chat("Hello")
    receiver.wait_for_messages(20)


def test_clients_cannot_read_events_as_deliveries(
    make_webhook_app: Any, receiver: Receiver
) -> None:
    api = make_webhook_app('events = ["run_ended"]\n')
    api.chat("Hello")
    with api.state.db.read() as db:
        (found,) = db.execute_sql("SELECT delivery_id FROM delivery").fetchone()
    assert api.get(f"/api/v1/im/deliveries/{found}").status_code == 404


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[[webhook", "webhooks.toml: "),
        ("hook = 1", "webhooks.toml: write [[webhook]], one table per webhook"),
        ("[[webhook]]\nid = 'a'", "webhooks.toml: webhook 1: url: Missing data"),
        (
            "[[webhook]]\nid = 'a'\nurl = 'ftp://x'\nsecret = 's'",
            "webhooks.toml: webhook 1: url: Not a valid URL.",
        ),
        (
            "[[webhook]]\nid = 'a'\nurl = 'http://x'\nsecret = 'short'",
            "webhooks.toml: webhook 1: secret: must have 16 characters",
        ),
        (
            f"[[webhook]]\nid = 'a'\nurl = 'http://x'\nsecret = '{SECRET}'\nevents = ['tea']",
            "webhooks.toml: webhook 1: events.0: Must be one of: message_stored,",
        ),
        (
            f"[[webhook]]\nid = 'a'\nurl = 'http://x'\nsecret = '{SECRET}'\n" * 2,
            "webhooks.toml: webhook 2: id: a is used twice",
        ),
    ],
)
def test_an_invalid_file_is_rejected_with_the_position_of_the_fault(
    tmp_path: Path, text: str, fault: str
) -> None:
    (tmp_path / "webhooks.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_webhooks(tmp_path / "webhooks.toml")
    assert str(caught.value).startswith(fault)
    assert SECRET not in str(caught.value)


def test_a_change_needs_no_restart_and_an_invalid_one_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchedfile, "_RECHECK_S", 0.0)
    monkeypatch.setattr(watchedfile, "_SETTLED_S", 0.0)
    file, path = WebhookFile(tmp_path), tmp_path / "webhooks.toml"
    file.load()
    assert list(file.list_for("run_ended")) == []
    path.write_text(_FILE.format(url="http://x", secret=SECRET))
    assert [one.id for one in file.list_for("run_ended")] == ["crm"]
    path.write_text("[[webhook")
    os.utime(path, ns=(1, 1))
    assert [one.id for one in file.list_for("run_ended")] == ["crm"]


def _statuses(api: Api) -> list[str]:
    return _list_values(api, "status")


def _list_values(api: Api, column: str) -> list[Any]:
    with api.state.db.read() as db:
        rows = db.execute_sql(f"SELECT {column} FROM delivery ORDER BY {column}").fetchall()
    return [row[0] for row in rows]

"""Push messages: accepted, rejected, delivered, retried, failed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest
from werkzeug.test import TestResponse

from astrbot_api.chores import remove_old_rows
from astrbot_api.db import deliveries, delivery_claims, keys
from astrbot_api.db.models.deliveries import Delivery
from astrbot_api.db.models.runs import Worker
from astrbot_api.db.models.sessions import ChatSession
from astrbot_api.deliveries import outbox
from astrbot_api.deliveries.http import PlatformError
from astrbot_api.im.adapter import Target
from astrbot_api.keys.rules import KeyRules
from astrbot_api.runtime.clock import now_us
from astrbot_api.testing import make_app

from ..fake_messenger import FakeMessenger
from ..waiting import wait_for
from .conftest import Api
from .uploading import upload

BOTS = """
[[bot]]
id = "bot1"
type = "fake"
[[bot]]
id = "coop"
type = "fake"
[[bot]]
id = "off"
type = "fake"
enabled = false
[[bot]]
id = "broken"
type = "fake"
colour = 2
"""

UMO = "bot1:FriendMessage:north:room"


class Post(Api):
    """An application with a fake messenger."""

    messenger: FakeMessenger

    def send(self, *, key: str = "", **body: Any) -> TestResponse:
        """Send a proactive message."""
        headers = {"X-API-Key": key or self.key}
        return self.client.post("/api/v1/im/message", headers=headers, json=body)

    def look_up(self, delivery_id: str) -> dict[str, Any]:
        """Return a delivery as the API shows it."""
        found: dict[str, Any] = self.get(f"/api/v1/im/deliveries/{delivery_id}").get_json()["data"]
        return found

    def read_session(self, session_id: str) -> tuple[Any, ...]:
        """Return creator, platform and is_group of a session."""
        with self.state.db.read() as db:
            query = ChatSession.select().where(ChatSession.session_id == session_id)
            session = query.get(db)
        return session.creator, session.platform_id, session.is_group


def open_post(folder: Path, messenger: FakeMessenger | None = None, **settings: Any) -> Post:
    """Make an application with a fake messenger in a folder."""
    (folder / "bots.toml").write_text(BOTS)
    messenger = messenger or FakeMessenger()
    settings = {"im_retry_s": 0.01, "im_max_attempts": 3, **settings}
    app = make_app(data_dir=folder, adapters={"fake": messenger}, **settings)
    post = Post(app.app, app.model, app.key)
    post.messenger = messenger
    return post


@pytest.fixture
def make_post(tmp_path: Path) -> Iterator[Callable[..., Post]]:
    made: list[Post] = []

    def make(messenger: FakeMessenger | None = None, **settings: Any) -> Post:
        made.append(open_post(tmp_path, messenger, **settings))
        return made[-1]

    yield make
    for post in made:
        post.close()


@pytest.fixture(scope="module")
def idle_post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    """An application for requests that store nothing."""
    post = open_post(tmp_path_factory.mktemp("idle"))
    yield post
    post.close()


@pytest.fixture
def post(make_post: Callable[..., Post]) -> Post:
    return make_post()


def fail_once(error: Exception) -> Callable[[Target, str], None]:
    """Return a platform that rejects the first part and accepts the others."""
    left = [error]

    def before_part(target: Target, text: str) -> None:
        if left:
            raise left.pop()

    return before_part


def test_a_message_is_sent_while_the_caller_waits(post: Post) -> None:
    answer = post.send(umo=UMO, message="Your tea is ready.")
    assert (answer.status_code, answer.get_json()["data"]["status"]) == (200, "sent")
    target, text = post.messenger.sent[0]
    assert (target.message_type, target.session_id) == ("FriendMessage", "north:room")
    assert text == "Your tea is ready."
    told = post.look_up(answer.get_json()["data"]["delivery_id"])
    assert (told["status"], told["attempts"], told["umo"]) == ("sent", 1, UMO)
    assert told["platform_ids"] == ["p1"]
    assert told["finished_at"]
    assert told["error"] is None


def test_segments_and_files_arrive_in_order(post: Post) -> None:
    file_id = upload(post, b"a note", b"note.txt")["attachment_id"]
    segments = [
        {"type": "plain", "text": "Look: "},
        # The type of the stored attachment is used.
        {"type": "image", "attachment_id": file_id},
        {"type": "plain", "text": "done"},
    ]
    assert post.send(umo=UMO, message=segments).status_code == 200
    assert post.messenger.texts() == ["Look: ", "file note.txt a note", "done"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "Missing key: umo"),
        ({"message": "x"}, 400, "Missing key: umo"),
        ({"umo": "", "message": "x"}, 400, "Missing key: umo"),
        ({"umo": UMO}, 400, "Missing key: message"),
        ({"umo": UMO, "message": None}, 400, "Missing key: message"),
        (
            {"umo": "bot1:FriendMessage", "message": "x"},
            400,
            "Invalid umo: expected platform_id",
        ),
        (
            {"umo": "bot1:Friend:x", "message": "x"},
            400,
            "Invalid umo: 'Friend' is not a valid Me",
        ),
        (
            {"umo": "bot1:FriendMessage: ", "message": "x"},
            400,
            "Invalid umo: session_id is empty",
        ),
        ({"umo": {"a": 1}, "message": "x"}, 400, "Invalid umo: it must be a string"),
        ({"umo": "a\0b", "message": "x"}, 400, "umo must not contain the character NUL"),
        ({"umo": "webchat:FriendMessage:webchat!alice", "message": "x"}, 400, "Invalid umo: exp"),
        ({"umo": "webchat:FriendMessage:" + "s" * 256, "message": "x"}, 400, "Invalid umo: its s"),
        ({"umo": "nobody:FriendMessage:x", "message": "x"}, 404, "Bot not found or not running "),
        ({"umo": "off:FriendMessage:x", "message": "x"}, 404, "Bot not found or not running for "),
        ({"umo": "broken:FriendMessage:x", "message": "x"}, 404, "Bot not found or not running f"),
        ({"umo": UMO, "message": " "}, 400, "Message content is empty (reply only is not allowed)"),
        ({"umo": UMO, "message": {"a": 1}}, 400, "message must be a string or list"),
        ({"umo": UMO, "message": [1]}, 400, "message part must be an object"),
        ({"umo": UMO, "message": [{"type": "x"}]}, 400, "unsupported message part type: x"),
        ({"umo": UMO, "message": [{"type": []}]}, 400, "unsupported message part type: list"),
        ({"umo": UMO, "message": [{"type": "image"}]}, 400, "image part missing attachment_id"),
        ({"umo": UMO, "message": [{"type": "reply"}]}, 400, "reply part missing message_id"),
        (
            {"umo": UMO, "message": [{"type": "reply", "message_id": 1}]},
            400,
            "Message content is empty (reply only is not allowed)",
        ),
        (
            {
                "umo": UMO,
                "message": [{"type": "reply", "message_id": 1}, {"type": "plain", "text": "x"}],
            },
            400,
            "reply segments are not supported by im/message",
        ),
        (
            {"umo": UMO, "message": [{"type": "file", "attachment_id": "gone"}]},
            404,
            "attachment not found: gone",
        ),
        ({"umos": [], "message": "x"}, 400, "umos must be a list of UMOs"),
        ({"umos": [UMO, UMO], "message": "x"}, 400, "umos contains the same UMO twice"),
        ({"umos": [UMO], "umo": UMO, "message": "x"}, 400, "umo and umos exclude each other"),
    ],
)
def test_a_bad_message_is_refused_and_stores_nothing(
    idle_post: Post, body: dict[str, Any], status: int, message: str
) -> None:
    post = idle_post
    answer = post.send(**body)
    assert answer.status_code == status
    assert answer.get_json()["message"].startswith(message)
    assert (post.count_rows("delivery"), post.count_rows("message")) == (0, 0)


def test_the_newer_path_is_the_same_route(post: Post) -> None:
    answer = post.post("/api/v1/im/messages", json={"umo": UMO, "message": "x"})
    assert (answer.status_code, post.messenger.texts()) == (200, ["x"])


def test_every_bot_is_listed_even_if_it_does_not_run(post: Post) -> None:
    assert post.get("/api/v1/im/bots").get_json()["data"]["bot_ids"] == [
        "bot1",
        "coop",
        "off",
        "broken",
    ]


def test_a_key_without_the_scope_gets_403(post: Post) -> None:
    assert post.send(key=post.create_key("chat"), umo=UMO, message="x").status_code == 403


def test_a_push_creates_the_session_and_stores_a_bot_message(post: Post) -> None:
    answer = post.send(umo="webchat:FriendMessage:webchat!alice!room", message="Hello")
    assert answer.get_json()["data"]["status"] == "sent"
    assert post.read_session("room") == ("alice", "webchat", 0)
    # The user continues the session, which is theirs, and the model sees the pushed text.
    events = post.chat("And you?", session_id="room")
    assert events[-1]["type"] == "end"


def test_a_push_into_another_users_session_is_rejected(post: Post) -> None:
    post.chat("Hi", session_id="room")
    answer = post.send(umo="webchat:FriendMessage:webchat!mallory!room", message="x")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "session_of_another_user")
    assert post.send(umo="webchat:FriendMessage:room", message="x").status_code == 200


def test_a_pushed_session_without_a_user_belongs_to_its_first_user(post: Post) -> None:
    post.send(umo="webchat:FriendMessage:lobby", message="Welcome")
    assert post.read_session("lobby") == ("", "webchat", 0)
    post.chat("Thanks", session_id="lobby", username="bob")
    assert post.read_session("lobby") == ("bob", "webchat", 0)
    total = post.get("/api/v1/chat/sessions?username=bob").get_json()["data"]["total"]
    assert total == 1
    refused = post.post_chat(username="mallory", message="x", session_id="lobby")
    assert refused.status_code == 409


def test_only_an_administrators_key_pushes_to_an_administrator(post: Post) -> None:
    umo = "webchat:FriendMessage:webchat!astrbot!office"
    assert post.send(umo=umo, message="x").status_code == 403
    admin = post.create_key("im", "chat:admin")
    assert post.send(key=admin, umo=umo, message="x").status_code == 200
    # The short form has the same check.
    assert post.send(umo="webchat:FriendMessage:office", message="x").status_code == 403


def test_a_temporary_rejection_is_retried(post: Post) -> None:
    slow = PlatformError("Too many requests.", retryable=True, retry_after_s=0.05)
    post.messenger.before_part = fail_once(slow)
    answer = post.send(umo=UMO, message="x")
    assert (answer.status_code, answer.get_json()["data"]["status"]) == (200, "sent")
    assert post.look_up(answer.get_json()["data"]["delivery_id"])["attempts"] == 2


def test_a_platforms_retry_after_is_respected(make_post: Callable[..., Post]) -> None:
    post = make_post(im_wait_s=0.1)
    slow = PlatformError("Too many requests.", retryable=True, retry_after_s=900)
    post.messenger.before_part = fail_once(slow)
    delivery_id = post.send(umo=UMO, message="x").get_json()["data"]["delivery_id"]
    wait_for(lambda: post.look_up(delivery_id)["error"] == "Too many requests.")
    with post.state.db.read() as db:
        (due_at,) = (row.due_at for row in Delivery.select(Delivery.due_at).execute(db))
    assert due_at > now_us() + 800_000_000


def test_a_permanent_rejection_is_reported_with_its_reason(post: Post) -> None:
    post.messenger.before_part = fail_once(PlatformError("The chat does not exist."))
    answer = post.send(umo=UMO, message="x")
    assert (answer.status_code, answer.get_json()["code"]) == (502, "delivery_failed")
    assert answer.get_json()["message"] == "Failed to send message: The chat does not exist."
    told = post.look_up(answer.headers["X-Delivery-ID"])
    assert (told["status"], told["error"]) == ("failed", "The chat does not exist.")


def test_attempts_are_bounded(post: Post) -> None:
    def refuse(target: Target, text: str) -> None:
        raise PlatformError("The platform answered 500.", retryable=True)

    post.messenger.before_part = refuse
    answer = post.send(umo=UMO, message="x")
    assert answer.status_code == 502
    assert post.look_up(answer.headers["X-Delivery-ID"])["attempts"] == 3


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError, SystemExit])
def test_an_exception_in_an_adapter_fails_without_its_details(
    post: Post, kind: type[BaseException]
) -> None:
    def crash(target: Target, text: str) -> None:
        raise kind("token=SECRET")

    post.messenger.before_part = crash
    answer = post.send(umo=UMO, message="x")
    assert answer.status_code == 502
    assert "The adapter failed; the server's log has the details." in answer.get_json()["message"]
    assert "SECRET" not in answer.get_data(as_text=True)


def test_a_slow_platform_gives_202_and_the_delivery_continues(
    make_post: Callable[..., Post],
) -> None:
    post = make_post(im_wait_s=0.05)
    free = threading.Event()
    post.messenger.before_part = lambda target, text: free.wait(30) and None
    answer = post.send(umo=UMO, message="x")
    assert answer.status_code == 202
    assert answer.get_json()["data"]["status"] in ("queued", "sending")
    free.set()
    delivery_id = answer.get_json()["data"]["delivery_id"]
    wait_for(lambda: post.look_up(delivery_id)["status"] == "sent")
    assert post.messenger.texts() == ["x"]


def test_a_retry_sends_only_unconfirmed_parts(post: Post) -> None:
    """The second piece of a long text fails, then the next text. Nothing is repeated or lost."""
    failing = ["b", "end"]

    def before_part(target: Target, text: str) -> None:
        if failing and text.startswith(failing[0]):
            failing.pop(0)
            raise PlatformError("The connection broke.", retryable=True)

    post.messenger.before_part = before_part
    text = "a" * 100 + "b" * 100 + "c" * 50
    answer = post.send(
        umo=UMO, message=[{"type": "plain", "text": text}, {"type": "plain", "text": "end"}]
    )
    assert answer.status_code == 200
    assert post.messenger.texts() == ["a" * 100, "b" * 100, "c" * 50, "end"]
    told = post.look_up(answer.get_json()["data"]["delivery_id"])
    assert told["platform_ids"] == ["p1", "p2", "p3", "p4"]


def test_the_rest_of_a_code_block_is_code_after_each_retry(post: Post) -> None:
    failing = ["b", "c"]

    def before_part(target: Target, text: str) -> None:
        if failing and failing[0] in text:
            failing.pop(0)
            raise PlatformError("Too many requests.", retryable=True)

    post.messenger.before_part = before_part
    text = "```py\n" + "a" * 94 + "b" * 94 + "c" * 50 + "\n```"
    answer = post.send(umo=UMO, message=text)
    assert answer.status_code == 200
    assert post.messenger.texts() == [
        "```py\n" + "a" * 94, "```py\n" + "b" * 94, "```py\n" + "c" * 50 + "\n```",
    ]  # fmt: skip


def test_a_target_keeps_its_order_and_delays_no_other(make_post: Callable[..., Post]) -> None:
    post = make_post(im_wait_s=0)
    free = threading.Event()

    def before_part(target: Target, text: str) -> None:
        if target.session_id == "slow":
            free.wait(30)

    post.messenger.before_part = before_part
    for number in range(5):
        post.send(umo="bot1:FriendMessage:slow", message=f"slow {number}")
    post.send(umo="bot1:FriendMessage:quick", message="quick")
    wait_for(lambda: post.messenger.texts() == ["quick"])
    free.set()
    wait_for(lambda: len(post.messenger.sent) == 6)
    assert post.messenger.texts()[1:] == [f"slow {number}" for number in range(5)]


def test_an_unresponsive_platform_delays_no_other(
    make_post: Callable[..., Post],
) -> None:
    post = make_post(im_wait_s=0)
    free = threading.Event()

    def before_part(target: Target, text: str) -> None:
        if text == "slow":
            free.wait(30)

    post.messenger.before_part = before_part
    post.send(umos=[f"bot1:FriendMessage:{number}" for number in range(60)], message="slow")
    wait_for(lambda: post.state.im.outbox.sending_count >= 12)
    post.send(umo="coop:FriendMessage:x", message="quick")
    wait_for(lambda: post.messenger.texts() == ["quick"])
    assert post.state.im.outbox.sending_count < 32
    free.set()
    wait_for(lambda: len(post.messenger.sent) == 61)


def test_a_full_queue_rejects_more_messages(make_post: Callable[..., Post]) -> None:
    post = make_post(im_wait_s=0, im_max_queued=2)
    free = threading.Event()
    post.messenger.before_part = lambda target, text: free.wait(30) and None
    answers = [post.send(umo=UMO, message="x") for _ in range(3)]
    assert [one.status_code for one in answers] == [202, 202, 429]
    assert answers[2].headers["Retry-After"]
    free.set()


def test_a_broadcast_has_a_result_for_each_target(post: Post) -> None:
    umos = [UMO, "webchat:FriendMessage:webchat!alice!room", "nobody:FriendMessage:x", "bad"]
    answer = post.send(umos=umos, message="To all")
    assert answer.status_code == 200
    results = answer.get_json()["data"]["deliveries"]
    assert [one["umo"] for one in results] == umos
    assert [(one["status"], one["code"]) for one in results] == [
        ("sent", None),
        ("sent", None),
        ("failed", "bot_not_found"),
        ("failed", "invalid_request"),
    ]
    assert post.messenger.texts() == ["To all"]
    assert [bool(one["delivery_id"]) for one in results] == [True, True, False, False]


def test_the_number_of_broadcast_targets_is_limited(make_post: Callable[..., Post]) -> None:
    post = make_post(im_max_targets=2)
    answer = post.send(umos=["a:b:1", "a:b:2", "a:b:3"], message="x")
    assert answer.get_json()["message"] == "umos has 3 UMOs; at most 2 are allowed"


def test_accepted_deliveries_survive_a_restart(make_post: Callable[..., Post]) -> None:
    first = make_post(im_wait_s=0, im_retry_s=0.5)
    first.messenger.before_part = fail_once(PlatformError("No connection.", retryable=True))
    delivery_id = first.send(umo=UMO, message="x").get_json()["data"]["delivery_id"]
    wait_for(lambda: first.look_up(delivery_id)["error"])
    first.state.close()
    second = make_post(first.messenger)
    second.state.im.outbox.start()
    wait_for(lambda: second.look_up(delivery_id)["status"] == "sent")
    assert first.messenger.texts() == ["x"]


def test_a_dead_workers_delivery_continues_after_the_last_confirmed_part(post: Post) -> None:
    """As after kill -9: a claim of a worker without a lease, with a confirmed first part."""
    content = [{"type": "plain", "text": "one"}, {"type": "plain", "text": "two"}]

    def leave_behind(db: Any) -> str:
        delivery_id = deliveries.add_delivery(
            db, platform_id="bot1", target=UMO, content=content, reply_to="7"
        )
        (row,) = delivery_claims.claim(db, "dead", 10)
        delivery_claims.note_progress(db, row, "dead", parts=1, chars=0, platform_ids=["p0"])
        return delivery_id

    delivery_id = post.state.db.write(leave_behind)
    post.state.im.outbox.wake()
    wait_for(lambda: post.look_up(delivery_id)["status"] == "sent")
    ((target, text),) = post.messenger.sent
    assert (text, target.reply_to) == ("two", None)
    assert post.look_up(delivery_id)["platform_ids"] == ["p0", "p1"]


def test_a_worker_that_lost_its_claim_stops_sending(post: Post) -> None:
    def lose(target: Target, text: str) -> None:
        if text == "one":
            post.state.db.write(lambda db: Delivery.update(claimed_by="another").execute(db))

    post.state.db.write(lambda db: Worker.insert(worker_id="another", lease_until=9e12).execute(db))
    post.messenger.before_part = lose
    content = [{"type": "plain", "text": "one"}, {"type": "plain", "text": "two"}]
    post.state.db.write(
        lambda db: deliveries.add_delivery(db, platform_id="bot1", target=UMO, content=content)
    )
    post.state.im.outbox.wake()
    wait_for(lambda: post.messenger.sent and not post.state.im.outbox.sending_count)
    assert post.messenger.texts() == ["one"]


def test_a_delivery_during_which_two_workers_died_is_given_up(post: Post) -> None:
    def leave_behind(db: peewee.Database) -> str:
        delivery_id = deliveries.add_delivery(
            db, platform_id="bot1", target=UMO, content=[{"type": "plain", "text": "x"}]
        )
        for worker in ("dead", "dead too"):
            assert delivery_claims.claim(db, worker, 10)
        return delivery_id

    delivery_id = post.state.db.write(leave_behind)
    post.state.im.outbox.wake()
    wait_for(lambda: post.look_up(delivery_id)["status"] == "failed")
    assert "Two workers stopped" in post.look_up(delivery_id)["error"]
    assert post.messenger.texts() == []


@pytest.mark.parametrize("fault", ["result not stored", "clock set back"])
def test_a_stuck_delivery_is_sent(post: Post, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(outbox, "_MAINTAIN_S", 0.0)
    worker_id = post.state.worker.lease.get_worker_id()

    def leave_behind(db: peewee.Database) -> None:
        deliveries.add_delivery(
            db, platform_id="bot1", target=UMO, content=[{"type": "plain", "text": "x"}]
        )
        if fault == "clock set back":
            Delivery.update(due_at=Delivery.due_at + 2 * 3600 * 1_000_000).execute(db)
        else:
            assert delivery_claims.claim(db, worker_id, 10)

    post.state.db.write(leave_behind)
    post.state.im.outbox.wake()
    wait_for(lambda: post.messenger.texts() == ["x"])


def test_old_deliveries_are_deleted(post: Post) -> None:
    delivery_id = post.send(umo=UMO, message="x").get_json()["data"]["delivery_id"]
    remove_old_rows(post.state.db, 90, 30, -1)
    answer = post.get(f"/api/v1/im/deliveries/{delivery_id}")
    assert (answer.status_code, answer.get_json()["code"]) == (404, "delivery_not_found")


def test_more_old_deliveries_than_fit_a_transaction_are_deleted(post: Post) -> None:
    def send_many(db: peewee.Database) -> None:
        for _ in range(501):
            deliveries.add_delivery(db, platform_id="webchat", target="x", content=[], sent_as=())

    post.state.db.write(send_many)
    remove_old_rows(post.state.db, 90, 30, -1)
    with post.state.db.read() as db:
        assert Delivery.select().count(db) == 0


def test_a_deleted_attachment_fails_its_delivery(make_post: Callable[..., Post]) -> None:
    post = make_post(im_wait_s=0)
    post.state.im.outbox.close()
    file_id = upload(post, b"a note", b"note.txt")["attachment_id"]
    body = {"umo": UMO, "message": [{"type": "file", "attachment_id": file_id}]}
    delivery_id = post.send(**body).get_json()["data"]["delivery_id"]
    post.delete(f"/api/v1/files/{file_id}")
    reopened = make_post(post.messenger)
    reopened.state.im.outbox.wake()
    wait_for(lambda: reopened.look_up(delivery_id)["status"] == "failed")
    assert "deleted" in reopened.look_up(delivery_id)["error"]


@pytest.mark.parametrize(
    ("rules", "umo", "status"),
    [
        (KeyRules(bots=("other",)), UMO, 403),
        (KeyRules(bots=("bot1",)), UMO, 200),
        (KeyRules(bots=("bot1",)), "webchat:FriendMessage:webchat!alice!room", 403),
        (KeyRules(umos=("bot1:FriendMessage:north*",)), UMO, 200),
        (KeyRules(umos=("bot1:FriendMessage:south*",)), UMO, 403),
        (KeyRules(username="alice"), "webchat:FriendMessage:webchat!alice!room", 200),
        (KeyRules(username="bob"), "webchat:FriendMessage:webchat!alice!room", 403),
        (KeyRules(username="bob"), "webchat:FriendMessage:lobby", 403),
        (KeyRules(session_id="room"), "webchat:FriendMessage:room", 200),
        (KeyRules(session_id="room"), "webchat:FriendMessage:lobby", 403),
        (KeyRules(session_id="room"), UMO, 403),
        (KeyRules(session_id=UMO), UMO, 200),
    ],
)
def test_a_key_sends_only_where_its_rules_allow(
    post: Post, rules: KeyRules, umo: str, status: int
) -> None:
    _, key = post.state.db.write(
        lambda db: keys.create_key(db, "k", ["im"], created_by="test", rules=rules.dump())
    )
    assert post.send(key=key, umo=umo, message="x").status_code == status


def test_a_key_sees_only_the_deliveries_that_its_rules_allow(post: Post) -> None:
    delivery_id = post.send(umo=UMO, message="x").get_json()["data"]["delivery_id"]
    rules = KeyRules(bots=("other",)).dump()
    _, key = post.state.db.write(
        lambda db: keys.create_key(db, "k", ["im"], created_by="test", rules=rules)
    )
    path = f"/api/v1/im/deliveries/{delivery_id}"
    assert post.client.get(path, headers={"X-API-Key": key}).status_code == 404


@pytest.mark.parametrize(
    ("rules", "status"),
    [
        (KeyRules(username="alice"), 200),
        (KeyRules(username="bob"), 404),
        (KeyRules(username_prefix="b"), 404),
        (KeyRules(session_id="hers"), 200),
        (KeyRules(session_id="other"), 404),
    ],
)
@pytest.mark.parametrize("session", ["webchat!alice!hers", "hers"])
def test_a_key_sees_only_the_deliveries_to_sessions_that_it_may_use(
    post: Post, session: str, rules: KeyRules, status: int
) -> None:
    post.chat(session_id="hers")
    umo = f"webchat:FriendMessage:{session}"
    delivery_id = post.send(umo=umo, message="x").get_json()["data"]["delivery_id"]
    _, key = post.state.db.write(
        lambda db: keys.create_key(db, "k", ["im"], created_by="test", rules=rules.dump())
    )
    path = f"/api/v1/im/deliveries/{delivery_id}"
    assert post.client.get(path, headers={"X-API-Key": key}).status_code == status


def test_a_key_sees_only_the_bots_that_its_rules_allow(post: Post) -> None:
    listed = post.get("/api/v1/im/bots").get_json()["data"]["bot_ids"]
    rules = KeyRules(bots=("bot1", "nobody")).dump()
    _, key = post.state.db.write(
        lambda db: keys.create_key(db, "k", ["im", "data"], created_by="test", rules=rules)
    )

    def look(path: str) -> Any:
        return post.client.get(f"/api/v1{path}", headers={"X-API-Key": key}).get_json()["data"]

    assert (len(listed) > 1, look("/im/bots")["bot_ids"]) == (True, ["bot1"])
    platforms = look("/conversations/filter-options")["bots"]
    assert [one["id"] for one in platforms] == ["webchat", "bot1"]


def test_a_repeated_message_with_an_idempotency_key_is_sent_once(post: Post) -> None:
    def send(message: str) -> TestResponse:
        headers = {"X-API-Key": post.key, "Idempotency-Key": "report-7"}
        body = {"umo": UMO, "message": message}
        return post.client.post("/api/v1/im/message", headers=headers, json=body)

    first, again = send("Ready"), send("Ready")
    assert first.get_json() == again.get_json()
    assert post.messenger.texts() == ["Ready"]
    assert send("Other").status_code == 409

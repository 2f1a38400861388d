"""The inbox: every new message in all sessions of a user."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from astrbot_api.chat.watching import inbox as inboxes
from astrbot_api.db import keys, messages, sessions
from astrbot_api.db.models.keys import ApiKey
from astrbot_api.errors import StorageError

from ..waiting import LIMIT_S, wait_for
from .conftest import Api

PATH = "/api/v1/chat/inbox"


class Reader:
    """An open inbox, read event by event."""

    def __init__(self, api: Api, query: str = "username=alice", **headers: str) -> None:
        self.answer = api.get(f"{PATH}?{query}", headers=headers)
        self._chunks = iter(self.answer.response)
        self._events: list[dict[str, Any]] = []
        self.lines: list[str] = []

    def read(self) -> dict[str, Any]:
        """Return the next event, with its ``id``."""
        while not self._events:
            chunk = next(self._chunks)
            for frame in bytes(chunk).decode().split("\n\n"):  # type: ignore[arg-type]
                self.lines += frame.split("\n")
                if frame.startswith("data: "):
                    data, number = frame.split("\nid: ")
                    self._events.append({**json.loads(data[6:]), "id": int(number)})
        return self._events.pop(0)

    def read_texts(self, count: int) -> list[str]:
        """Return the session and the text of the next messages."""
        found = [self.read() for _ in range(count)]
        return [
            f"{one['session_id']}: {one['data']['content']['message'][0]['text']}" for one in found
        ]

    def is_at_end(self) -> bool:
        return not [chunk for chunk in self._chunks if chunk]  # type: ignore[truthy-bool]

    def close(self) -> None:
        self.answer.close()


@pytest.fixture
def open_inbox() -> Iterator[Callable[..., Reader]]:
    opened: list[Reader] = []

    def make(api: Api, *args: Any, **options: str) -> Reader:
        opened.append(Reader(api, *args, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


Open = Callable[..., Reader]


def push(api: Api, session_id: str, text: str) -> int:
    """Store a message like a push on another worker."""

    def job(db: Any) -> int:
        session = sessions.find_session(db, session_id)
        assert session is not None
        content = {"type": "bot", "message": [{"type": "plain", "text": text}]}
        return messages.add_message(db, session.id, "webchat", messages.BOT, content, None)[0]

    return api.state.db.write(job)


def test_messages_of_all_sessions_arrive_as_they_are_stored(api: Api, open_inbox: Open) -> None:
    api.chat("before", session_id="a")
    reader = open_inbox(api)
    assert reader.answer.content_type == "text/event-stream; charset=utf-8"
    opened = reader.read()
    assert opened == {"type": "inbox_opened", "data": {"after": 2, "reset": False}, "id": 2}
    api.chat("one", session_id="a")
    api.chat("two", session_id="b")
    api.chat("not hers", session_id="c", username="bob")
    push(api, "a", "pushed")
    assert reader.read_texts(5) == [
        "a: one", "a: Hello from mock.", "b: two", "b: Hello from mock.", "a: pushed",
    ]  # fmt: skip


def test_a_push_arrives_at_once(
    api: Api, open_inbox: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.chat(session_id="a")
    monkeypatch.setattr(inboxes, "_LOOK_S", 3600.0)
    reader = open_inbox(api)
    reader.read()
    answer = api.post(
        "/api/v1/im/message",
        json={"umo": "webchat:FriendMessage:webchat!alice!a", "message": "pushed"},
    )
    assert answer.status_code == 200
    assert reader.read_texts(1) == ["a: pushed"]
    reader.close()
    api.state.chat.inbox.wake()  # so that its thread ends


def test_an_event_has_the_form_of_a_listed_message(api: Api, open_inbox: Open) -> None:
    reader = open_inbox(api)
    reader.read()
    api.chat("one", session_id="a")
    events = [reader.read(), reader.read()]
    listed = api.get("/api/v1/chat/sessions/a/messages?username=alice&order=asc").get_json()
    assert [one["data"] for one in events] == listed["data"]["messages"]
    assert [one["id"] for one in events] == [one["data"]["id"] for one in events]


@pytest.mark.parametrize(("by_query", "by_header"), [(1, 3), (3, 1)])
def test_an_inbox_continues_after_the_larger_number(
    api: Api, open_inbox: Open, by_query: int, by_header: int
) -> None:
    """An EventSource that connects again sends its old URL and the new number."""
    for _ in range(2):
        api.chat(session_id="a")
    headers = {"Last-Event-ID": str(by_header)}
    reader = open_inbox(api, f"username=alice&after={by_query}", **headers)
    assert reader.read()["data"] == {"after": 3, "reset": False}
    assert reader.read()["id"] == 4


@pytest.mark.parametrize("by_header", [True, False])
def test_missed_messages_come_first(api: Api, open_inbox: Open, by_header: bool) -> None:
    api.chat("zero", session_id="a")
    for number in range(30):
        api.chat(str(number), session_id="a", _skip_user_history=True)
        api.chat("x", session_id="z", username="bob")
    headers = {"Last-Event-ID": "1"} if by_header else {}
    query = "username=alice" + ("" if by_header else "&after=1")
    reader = open_inbox(api, query, **headers)
    assert reader.read()["data"] == {"after": 1, "reset": False}
    numbers = [reader.read()["id"] for _ in range(31)]
    assert numbers == sorted(set(numbers))
    push(api, "a", "last")
    assert reader.read_texts(1) == ["a: last"]


@pytest.mark.timeout(50)  # less than a heartbeat
def test_many_missed_messages_come_without_pauses(
    make_api: Callable[..., Api], open_inbox: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inboxes, "_READ_AT_ONCE", 2)
    api = make_api(ASTRBOT_HEARTBEAT_S=60)
    for number in range(3):
        api.chat(str(number), session_id="a")
    reader = open_inbox(api, "username=alice&after=0")
    reader.read()
    assert len(reader.read_texts(6)) == 6


def test_too_much_missed_is_reported_and_not_read(
    api: Api, open_inbox: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        api.chat(session_id="a")
    monkeypatch.setattr(inboxes, "MAX_MISSED", 5)
    reader = open_inbox(api, "username=alice&after=0")
    assert reader.read()["data"] == {"after": 6, "reset": True}
    push(api, "a", "new")
    assert reader.read_texts(1) == ["a: new"]


def test_a_reader_that_falls_behind_is_asked_to_resume(
    api: Api, open_inbox: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inboxes, "_MAX_WAITING", 3)
    api.chat(session_id="a")
    reader = open_inbox(api)
    reader.read()
    for number in range(6):
        push(api, "a", str(number))
    api.state.chat.inbox.look()
    assert reader.read_texts(3) == ["a: 0", "a: 1", "a: 2"]
    push(api, "a", "late")
    api.state.chat.inbox.look()
    assert "retry: 1000" in next(reader._chunks).decode()  # type: ignore[union-attr]
    again = open_inbox(api, "username=alice&after=5")
    again.read()
    assert again.read_texts(4) == ["a: 3", "a: 4", "a: 5", "a: late"]


def test_a_message_too_long_for_a_line_is_sent_without_its_content(
    api: Api, open_inbox: Open
) -> None:
    reader = open_inbox(api)
    reader.read()
    api.chat("x" * 300_000, session_id="a")
    event = reader.read()
    assert (event["truncated"], event["data"]["content"], event["data"]["id"]) == (True, None, 1)
    again = open_inbox(api, "username=alice&after=0")
    again.read()
    assert (again.read(), again.read()["data"]["id"]) == (event, 2)
    other = open_inbox(api, "username=bob&after=0")
    other.read()
    api.chat("hi", session_id="b", username="bob")
    assert other.read()["session_id"] == "b"


def test_an_inbox_opens_after_another_failed_to_open(
    api: Api, open_inbox: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = api.state.chat.inbox
    with monkeypatch.context() as patch:
        patch.setattr(inboxes.rows, "find_newest", raise_error(StorageError("It is away.")))
        refused = api.get(f"{PATH}?username=alice")
        assert refused.get_json()["code"] == "storage_error"
    assert feed.seats.open_count == 0
    reader = open_inbox(api)
    reader.read()
    api.chat("one", session_id="a")
    assert reader.read_texts(1) == ["a: one"]


def test_an_inbox_opens_after_no_thread_could_be_started(
    api: Api, open_inbox: Open, without_threads: Any
) -> None:
    with without_threads("inbox"):
        assert api.get(f"{PATH}?username=alice").status_code == 500
    reader = open_inbox(api)
    reader.read()
    api.chat("one", session_id="a")
    assert reader.read_texts(1) == ["a: one"]


def test_an_inbox_continues_after_an_unexpected_error(
    api: Api, open_inbox: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = open_inbox(api)
    reader.read()
    with monkeypatch.context() as patch:
        patch.setattr(inboxes.rows, "find_newest", raise_error(LookupError("odd")))
        log_lines = threading.Event()
        patch.setattr(inboxes.log, "exception", lambda *args: log_lines.set())
        assert log_lines.wait(LIMIT_S)
    api.chat("one", session_id="a")
    assert reader.read_texts(1) == ["a: one"]


def raise_error(error: Exception) -> Callable[..., Any]:
    def job(*args: Any) -> Any:
        raise error

    return job


def test_a_long_message_that_was_deleted_or_shortened_is_not_announced_as_it_was(
    api: Api, open_inbox: Open
) -> None:
    for session in ("a", "b"):
        api.chat("x" * 300_000, session_id=session)
    before = open_inbox(api, "username=alice&after=0")
    assert [before.read()["type"] for _ in range(5)] == ["inbox_opened", *["message"] * 4]
    short = {"type": "user", "message": [{"type": "plain", "text": "short"}]}
    api.state.db.write(lambda db: messages.replace_content(db, 3, short))
    api.state.chat.remover.remove("a", "alice")
    again = open_inbox(api, "username=alice&after=0")
    again.read()
    event = again.read()
    assert (event["data"]["id"], event["data"]["content"]) == (3, short)


def test_a_worker_remembers_only_the_newest_messages(
    api: Api, open_inbox: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inboxes, "_MARGIN", 2)
    reader = open_inbox(api)
    reader.read()
    for number in range(3):
        api.chat(str(number), session_id="a")
    reader.read_texts(6)
    wait_for(lambda: api.state.chat.inbox._shown == {5, 6}, 30)


def test_nothing_is_polled_if_no_inbox_is_open(api: Api) -> None:
    reader = Reader(api)
    reader.read()
    assert api.state.chat.inbox.seats.open_count == 1
    reader.close()
    assert api.state.chat.inbox.seats.open_count == 0
    wait_for(lambda: not api.state.chat.inbox._running)
    again = Reader(api)
    again.read()
    api.chat("one", session_id="a")
    assert again.read_texts(1) == ["a: one"]
    again.close()


def test_an_inbox_ends_when_the_worker_stops(api: Api, open_inbox: Open) -> None:
    reader = open_inbox(api)
    reader.read()
    api.state.chat.runs.drain()
    assert b"".join(reader._chunks).endswith(b"retry: 1000\n\n")  # type: ignore[arg-type]
    # It is no error on an existing connection either.
    again = api.get(f"{PATH}?username=alice")
    assert again.status_code == 200
    assert again.get_data().endswith(b"retry: 1000\n\n")


def test_nothing_is_polled_after_the_application_is_closed(api: Api, open_inbox: Open) -> None:
    before = set(threading.enumerate())
    open_inbox(api).read()
    (looking,) = [one for one in set(threading.enumerate()) - before if one.name == "inbox"]
    api.close()
    looking.join(30)
    assert not looking.is_alive()


def test_an_inbox_has_only_messages_of_its_user(api: Api) -> None:
    assert api.get(PATH).status_code == 400
    assert api.get(f"{PATH}?username=astrbot").status_code == 403
    for wrong in ("x", "-1", "9" * 30):
        answer = api.get(f"{PATH}?username=alice", headers={"Last-Event-ID": wrong})
        assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("how", ["revoked", "deleted", "expired"])
def test_an_inbox_ends_with_its_key(api: Api, open_inbox: Open, how: str) -> None:
    row, secret = api.state.db.write(
        lambda db: keys.create_key(db, "k", ("chat",), created_by="test", expires_in_days=1)
    )
    reader = open_inbox(api, **{"X-API-Key": secret})
    reader.read()
    other = open_inbox(api)
    other.read()
    ends = {
        "revoked": ApiKey.update(revoked_at=1),
        "deleted": ApiKey.delete(),
        "expired": ApiKey.update(expires_at=1),
    }
    api.state.db.write(lambda db: ends[how].where(ApiKey.key_id == row["key_id"]).execute(db))
    api.state.chat.inbox.seats.end_invalid(api.state.keys.usage.list_valid)
    assert reader.is_at_end()
    api.chat("Hello", session_id="s1")
    assert other.read_texts(1) == ["s1: Hello"]


def test_inboxes_of_a_key_are_limited(make_api: Callable[..., Api], open_inbox: Open) -> None:
    api = make_api(ASTRBOT_MAX_STREAMS_PER_KEY=1)
    open_inbox(api).read()
    answer = api.get(f"{PATH}?username=alice")
    assert (answer.status_code, answer.get_json()["code"]) == (429, "too_many_streams")

"""Streams show all events, regardless of timing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from astrbot_api import events
from astrbot_api.chat import pushes
from astrbot_api.chat.watching import watch
from astrbot_api.chat.watching.seats import Holder, Seat
from astrbot_api.chat.watching.watch import Numbered
from astrbot_api.errors import ApiError, StorageError
from astrbot_api.http import sse
from astrbot_api.runlog.journal import READ_LIMIT
from astrbot_api.runlog.log import RunLog
from astrbot_api.runlog.reading import Followers, LogReader

from ..servers import parse_events
from .conftest import Api


class _AtOnce:
    """A writer that publishes events as soon as they are appended."""

    failing = False

    def mark(self, log: RunLog, *, awaited: bool = True, ended: bool = False) -> None:
        log.release(log.take_unwritten())


class _LateReader(LogReader):
    """A reader whose run ends exactly when its wait times out.

    gevent's ``Event.wait`` then returns False, although the event is set.
    """

    def __init__(self, api: Api, log: RunLog) -> None:
        followers = Followers(api.state.worker.signals)
        super().__init__(log, api.state.worker.journal, followers)
        self._run_log = log

    def attach(self, waiter: threading.Event) -> None:
        super().attach(waiter)

        def time_out(timeout: float | None = None) -> bool:
            if not self._run_log.closed:
                self._run_log.append(events.end("r"))
                self._run_log.close()
            return False

        waiter.wait = time_out  # type: ignore[method-assign]


def test_an_event_that_arrives_at_the_timeout_is_delivered(api: Api) -> None:
    log = RunLog(1, _AtOnce())
    seat = api.state.chat.streams.take(Holder("k"))
    stream = api.state.chat.service.watch("r", "s", 1, _LateReader(api, log), seat, known_message=0)
    shown = stream.take(0.1) + stream.take(0.1)
    assert [line for _, line in shown if b'"type":"end"' in line]
    assert stream.ended
    stream.close()


class _Watched:
    """A watch whose events come from a function."""

    ended = leaving = False

    def __init__(self, seat: Seat, take: Callable[[], list[Numbered]]) -> None:
        self.seat = seat
        self._take = take

    def take(self, timeout_s: float) -> list[Numbered]:
        return self._take()

    def close(self) -> None: ...


class _Hiding(sse.Rendering):
    def render(self, events: Sequence[Numbered]) -> bytes:
        return b""


def open_stream(
    api: Api,
    take: Callable[[], list[Numbered]],
    rendering: sse.Rendering | None = None,
    abort: Callable[[], None] | None = None,
) -> Iterator[Any]:
    seat = api.state.chat.streams.take(Holder("k"), abort)
    with api.app.test_request_context():
        return iter(sse.stream_response(_Watched(seat, take), rendering).response)


def test_a_stream_ends_if_its_events_cannot_be_read(api: Api) -> None:
    def fail() -> list[Numbered]:
        raise StorageError("The journal is away.")

    assert list(open_stream(api, fail)) == [b"retry: 1000\n\n"]


def test_events_that_a_protocol_does_not_show_replace_no_heartbeat(
    make_api: Callable[..., Api],
) -> None:
    api = make_api(ASTRBOT_HEARTBEAT_S=0.05)
    assert next(open_stream(api, lambda: [(1, b"{}")], _Hiding())) == sse.HEARTBEAT


def test_only_a_stream_that_is_not_read_is_closed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 60)
    monkeypatch.setattr("astrbot_api.chat.watching.seats.time", later)
    streams, closed = api.state.chat.streams, threading.Event()

    def wait() -> list[Numbered]:
        streams.close_stuck()
        return []

    stream = open_stream(api, wait, abort=closed.set)
    assert next(stream) == next(stream) == sse.HEARTBEAT
    assert not closed.is_set()
    streams.close_stuck()
    assert closed.is_set()


def test_a_long_answer_that_is_cut_off_is_not_kept_until_its_sender_notices(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.state.worker.unread, "_max_bytes", 2**20)
    shown, closed = [(number, b"x" * 70_000) for number in range(1, 11)], threading.Event()
    shown[8] = (9, b"x" * 700_000)  # in parts
    first, second = (
        open_stream(api, iter([shown, []]).__next__, abort=abort) for abort in (closed.set, None)
    )
    sent = next(first)
    assert len(sent) < 2**18
    assert sent.endswith(b"\n\n")  # whole frames, as in other streams
    sent = next(second)
    assert closed.is_set()
    assert list(first) == []  # neither the rest nor other frames
    while (more := next(second)) != sse.HEARTBEAT:
        assert len(more) <= 2**18
        sent += more
    assert sent == sse.Rendering().render(shown)


def test_a_push_into_an_already_ended_run_is_delivered(api: Api) -> None:
    api.chat("Hello", session_id="s")
    with api.state.db.read() as db:
        session = db.execute_sql("SELECT id FROM chat_session").fetchone()[0]
    log = RunLog(1, _AtOnce())
    seat = api.state.chat.streams.take(Holder("k"))
    reader = LogReader(log, api.state.worker.journal, Followers(api.state.worker.signals))
    stream = api.state.chat.service.watch("r", "s", session, reader, seat)
    body = {"umo": "webchat:FriendMessage:s", "message": "from outside"}
    assert api.post("/api/v1/im/message", json=body).status_code == 200
    log.append(events.session_id("s"))
    log.append(events.end("r"))
    log.close()
    shown = b"".join(line for _, line in stream.take(1.0)).decode()
    assert stream.ended
    places = [shown.index(text) for text in ('"session_id"', "from outside", '"type":"end"')]
    assert places == sorted(places)
    stream.close()


def test_an_ended_stream_leaves_nothing(api: Api) -> None:
    with api.post_chat(username="alice", message="hi") as answer:
        run_id = parse_events(answer.get_data())[2]["data"]["run_id"]
    with api.get(f"/api/v1/chat/runs/{run_id}/stream?username=alice") as answer:
        assert answer.get_data()
    service, streams = api.state.chat.service, api.state.chat.streams
    assert not service._board._open
    assert not service._followers._waiters
    assert not streams._taken
    assert not streams._of_key


def test_all_pushed_messages_of_a_session_are_read(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushes, "_AT_ONCE", 2)
    for number in range(3):
        body = {"umo": "webchat:FriendMessage:webchat!alice!s", "message": str(number)}
        assert api.post("/api/v1/im/message", json=body).status_code == 200
    woken = threading.Event()
    opened = pushes.Board(api.state.db, api.state.worker.signals).open(1, woken, 0)
    opened.wake()
    woken.clear()
    assert len(opened.read()) == 2
    assert woken.is_set()
    assert len(opened.read()) == 1


def test_messages_pushed_while_a_worker_had_no_streams_are_not_searched(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushes, "_MARGIN", 0)
    read = pushes.list_pushed_sessions
    found: list[list[tuple[int, int]]] = []

    def search(db: Any, after: int) -> list[tuple[int, int]]:
        found.append(read(db, after))
        return found[-1]

    monkeypatch.setattr(pushes, "list_pushed_sessions", search)

    def push() -> None:
        body = {"umo": "webchat:FriendMessage:webchat!alice!s", "message": "news"}
        assert api.post("/api/v1/im/message", json=body).status_code == 200

    push()
    board = pushes.Board(api.state.db, api.state.worker.signals)
    stream = board.open(1, threading.Event(), 0)
    board.look()
    stream.close()
    push()
    board.look()
    board.open(1, threading.Event(), 0)
    board.look()
    push()
    board.look()
    assert [len(one) for one in found] == [0, 0, 1]


@pytest.mark.parametrize(
    ("limit", "key", "code"),
    [("PER_WORKER", "other", "server_busy"), ("PER_KEY", "k", "too_many_streams")],
)
def test_a_stream_being_opened_counts_towards_the_limit(
    make_api: Callable[..., Api], limit: str, key: str, code: str
) -> None:
    api = make_api(**{f"ASTRBOT_MAX_STREAMS_{limit}": 1})
    take = api.state.chat.streams.take
    # The turn is stored between the check of the limit and the opening.
    seat = take(Holder("k"))
    with pytest.raises(ApiError) as refused:
        take(Holder(key))
    assert refused.value.code == code
    seat.release()
    seat.release()  # does nothing
    take(Holder(key))
    with pytest.raises(ApiError):
        take(Holder(key))


def test_a_server_without_threads_is_named_in_the_log_once(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"message": "Hello", "username": "alice"}
    gunicorn = {"SERVER_SOFTWARE": "gunicorn/27.0.1"}
    for environ in ({}, {**gunicorn, "wsgi.multithread": True}):
        api.post("/api/v1/chat", json=body, environ_overrides=environ).get_data()
    assert caplog.messages == []
    for environ in (gunicorn, gunicorn, {"uwsgi.version": b"2.0.31"}):
        api.post("/api/v1/chat", json=body, environ_overrides=environ).get_data()
    (line,) = caplog.messages
    assert line.startswith("this HTTP server has no threads, so an open stream blocks all other")


def test_gevents_own_server_is_not_taken_for_one_without_threads(
    api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "is_gevent_patched", lambda: True)
    environ = {"SERVER_SOFTWARE": "gevent/26.9 Python/3.13", "wsgi.multithread": False}
    body = {"message": "Hello", "username": "alice"}
    api.post("/api/v1/chat", json=body, environ_overrides=environ).get_data()
    assert caplog.messages == []


def test_a_stream_that_catches_up_lets_other_requests_run_between_its_reads(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = api.chat("N=2000 x", session_id="s")
    run_id = next(one["data"]["run_id"] for one in seen if one["type"] == "run_started")
    shown, paused = list[int](), list[int]()
    monkeypatch.setattr(watch, "wait_turn", lambda: paused.append(len(shown)))
    answer = api.get(f"/api/v1/chat/runs/{run_id}/stream", buffered=False)
    for part in answer.iter_encoded():
        shown.append(len(part))
    assert len(paused) >= 2000 // READ_LIMIT
    assert len(set(paused)) == len(paused)

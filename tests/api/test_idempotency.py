"""A repeated request with the same key is not executed again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from werkzeug.test import TestResponse

from astrbot_api.agent.provider import Delta, TextDelta
from astrbot_api.db import idempotency, leases
from astrbot_api.db.models.keys import ApiKey
from astrbot_api.db.models.runs import IdempotentRequest, Worker
from astrbot_api.errors import StorageError
from astrbot_api.runtime.clock import now_us
from astrbot_api.testing import ScriptedModel

from ..servers import parse_events
from ..waiting import wait_for
from .conftest import Api
from .uploading import multipart

Make = Callable[..., tuple[Api, ScriptedModel]]


def chat(api: Api, word: str, key: str = "", **body: Any) -> TestResponse:
    body = {"username": "alice", "message": "Hello", **body}
    headers = {"X-API-Key": key or api.key, "Idempotency-Key": word}
    return api.client.post("/api/v1/chat", headers=headers, json=body)


def send_file(api: Api, word: str, data: bytes = b"hello", name: bytes = b"a.txt") -> TestResponse:
    headers = {"X-API-Key": api.key, "Idempotency-Key": word}
    content_type = "multipart/form-data; boundary=B"
    return api.client.post(
        "/api/v1/file", headers=headers, data=multipart(data, name), content_type=content_type
    )


def check_code(answer: TestResponse, status: int, code: str) -> None:
    assert (answer.status_code, answer.get_json()["code"]) == (status, code)


def test_a_repeated_request_streams_the_turn_from_its_first_event(api: Api) -> None:
    first = chat(api, "one").get_data()
    assert chat(api, "one").get_data() == first
    assert parse_events(first)[0]["type"] == "session_id"
    assert api.count_rows("run") == 1
    assert chat(api, "two").get_data() != first
    assert api.count_rows("run") == 2


def test_a_repeated_request_gets_the_turn_of_a_dead_worker(api: Api) -> None:
    first = chat(api, "k").get_data()
    api.state.db.write(lambda db: Worker.delete().execute(db))
    assert parse_events(chat(api, "k").get_data()) == parse_events(first)
    assert api.count_rows("run") == 1


def test_a_repeated_request_joins_a_running_turn(make_scripted: Make) -> None:
    go_on = threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        yield TextDelta("one")
        assert go_on.wait(30)
        yield TextDelta("two")

    api, model = make_scripted(answer)
    streams = [chat(api, "k", session_id="s") for _ in range(2)]
    go_on.set()
    texts = [stream.get_data() for stream in streams]
    assert texts[0] == texts[1]
    assert len(model.seen) == 1


def test_a_claim_that_a_full_disk_kept_is_released_later(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = api.state.db.write

    def write_until_the_claim(job: Any, **options: Any) -> Any:
        if api.count_rows("idempotency"):
            raise StorageError("database or disk is full")
        return write(job, **options)

    with monkeypatch.context() as full:
        full.setattr(api.state.db, "write", write_until_the_claim)
        check_code(send_file(api, "f"), 503, "storage_error")
        api.state.worker.idempotency.retry()  # the disk is still full
        assert api.count_rows("idempotency") == 1
    wait_for(lambda: api.count_rows("idempotency") == 0)  # by the chore
    api.state.worker.idempotency.retry()
    with monkeypatch.context() as idle:
        idle.setattr(idempotency, "release", None)
        api.state.worker.idempotency.retry()  # nothing is left to release
    assert send_file(api, "f").status_code == 200


def test_a_later_claim_is_not_released_by_an_earlier_failure(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(job: Any, **options: Any) -> Any:
        raise StorageError("database or disk is full")

    work = api.state.worker.idempotency
    first, second = (idempotency.ClientKey("key", "word", f"push:{n}") for n in "12")
    with monkeypatch.context() as full, suppress(StorageError), work.claim(first):
        full.setattr(api.state.db, "write", fail)
        fail(None)
    # Another worker has handled the request after this worker's lease had expired.
    api.state.db.write(lambda db: idempotency.forget(db, first))
    with work.claim(second):
        work.retry()
        assert api.count_rows("idempotency") == 1


def test_a_claim_that_is_released_later_keeps_its_response(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result of a commit may be lost, so its response stays; see ``Idempotency.claim``."""

    def fail(job: Any, **options: Any) -> Any:
        raise StorageError("database or disk is full")

    work = api.state.worker.idempotency
    key = idempotency.ClientKey("key", "word", "push:1")
    with monkeypatch.context() as full, suppress(StorageError), work.claim(key) as claim:
        assert claim is not None
        api.state.db.write(claim.answer({}).store)
        full.setattr(api.state.db, "write", fail)
        fail(None)
    work.retry()
    assert api.count_rows("idempotency") == 1


@pytest.mark.parametrize("mode", ["blocking", "background"])
def test_every_response_mode_returns_the_same_turn(api: Api, mode: str) -> None:
    first, second = (chat(api, "k", response_mode=mode) for _ in range(2))
    assert first.get_json()["data"] == second.get_json()["data"]
    assert first.status_code == second.status_code
    assert api.count_rows("run") == 1


def test_another_body_under_the_same_key_is_rejected(api: Api) -> None:
    chat(api, "k").get_data()
    check_code(chat(api, "k", message="Other"), 409, "idempotency_mismatch")
    check_code(send_file(api, "k"), 409, "idempotency_mismatch")
    send_file(api, "f")
    check_code(chat(api, "f"), 409, "idempotency_mismatch")
    assert (api.count_rows("run"), api.count_rows("attachment")) == (1, 1)


def test_every_api_key_has_its_own_idempotency_keys(api: Api) -> None:
    other = api.create_key("chat")
    chat(api, "k").get_data()
    chat(api, "k", key=other, message="Other").get_data()
    assert api.count_rows("run") == 2


def test_a_rejected_request_may_be_sent_again(api: Api) -> None:
    check_code(chat(api, "k", config_id="no"), 404, "config_not_found")
    assert api.count_rows("idempotency") == 0
    assert chat(api, "k").status_code == 200
    check_code(send_file(api, "f", data=b"", name=b"x\r\n"), 400, "invalid_request")
    assert send_file(api, "f").status_code == 200


def test_after_a_day_a_repeated_request_is_new(api: Api) -> None:
    chat(api, "k").get_data()
    chat(api, "other").get_data()
    old = IdempotentRequest.update(created_at=now_us() - idempotency.KEPT_US - 1)
    api.state.db.write(lambda db: old.execute(db))
    chat(api, "k").get_data()
    assert api.count_rows("run") == 3
    api.state.worker.idempotency.prune()
    assert api.count_rows("idempotency") == 1


def test_a_turn_deleted_with_its_session_is_started_again(api: Api) -> None:
    chat(api, "k", session_id="s").get_data()
    api.delete("/api/v1/chat/sessions/s?username=alice")
    assert api.count_rows("run") == 0
    for _ in range(2):
        assert chat(api, "k", session_id="s").status_code == 200
        assert api.count_rows("run") == 1


def test_a_repeated_upload_is_stored_once(api: Api) -> None:
    first, second = send_file(api, "f"), send_file(api, "f")
    assert first.get_json() == second.get_json()
    assert api.count_rows("attachment") == 1
    check_code(send_file(api, "f", data=b"other"), 409, "idempotency_mismatch")
    check_code(send_file(api, "f", name=b"b.txt"), 409, "idempotency_mismatch")
    assert api.count_rows("attachment") == 1


def test_a_repeated_message_is_pushed_once(api: Api) -> None:
    def push(message: str, path: str = "message") -> TestResponse:
        return api.post(
            f"/api/v1/im/{path}",
            headers={"Idempotency-Key": "p"},
            json={"umo": "webchat:FriendMessage:webchat!alice!s", "message": message},
        )

    first, second, third = push("hi"), push("hi"), push("hi", "messages")
    assert first.status_code == 200
    assert first.get_json() == second.get_json() == third.get_json()
    check_code(push("ho"), 409, "idempotency_mismatch")
    assert api.count_rows("message") == 1


def test_a_request_of_a_live_worker_is_a_409_and_of_a_dead_one_is_repeated(
    api: Api,
) -> None:
    chat(api, "x").get_data()

    def claim(worker_id: str) -> None:
        with api.state.db.read() as db:
            key_id = ApiKey.select(ApiKey.key_id).scalar(db)
        key = idempotency.ClientKey(key_id, worker_id, "file:")
        api.state.db.write(lambda db: idempotency.claim(db, key, worker_id=worker_id))

    api.state.db.write(lambda db: leases.renew_lease(db, "alive", 60.0))
    claim("alive")
    answer = send_file(api, "alive")
    check_code(answer, 409, "idempotency_in_flight")
    assert answer.headers["Retry-After"]
    claim("dead")
    assert send_file(api, "dead").status_code == 200


@pytest.mark.parametrize("word", ["x" * 256, "a\tb", "é"])
def test_an_invalid_idempotency_key_is_rejected(api: Api, word: str) -> None:
    check_code(chat(api, word), 400, "invalid_request")
    assert api.count_rows("run") == 0


def send(api: Api, kind: str) -> TestResponse:
    if kind == "upload":
        return send_file(api, "k")
    return api.post(
        "/api/v1/im/message",
        headers={"Idempotency-Key": "k"},
        json={"umo": "webchat:FriendMessage:webchat!alice!s", "message": "hi"},
    )


@pytest.mark.parametrize("kind", ["push", "upload"])
def test_work_done_before_a_worker_died_is_not_repeated(
    api: Api, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Simulates the death of the worker: no later code of it runs."""

    write, here = api.state.db.write, threading.current_thread()

    def die_after(job: Callable[[Any], Any]) -> Any:
        done = write(job)
        with api.state.db.read() as db:
            count = db.execute_sql(
                f"SELECT COUNT(*) FROM {'message' if kind == 'push' else 'attachment'}"
            ).fetchone()[0]
        if count and threading.current_thread() is here:  # not in a periodic job
            monkeypatch.setattr(api.state.db, "write", lambda job: None)
            raise Killed
        return done

    monkeypatch.setattr(api.state.db, "write", die_after)
    with pytest.raises(Killed):
        send(api, kind)
    monkeypatch.setattr(api.state.db, "write", write)
    write(lambda db: Worker.delete().execute(db))
    assert send(api, kind).status_code == 200
    assert api.count_rows("message" if kind == "push" else "attachment") == 1


@pytest.mark.parametrize("kind", ["push", "upload"])
def test_a_request_that_another_worker_has_taken_over_stores_nothing(
    api: Api, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = api.state.worker.idempotency
    begin = service._begin

    def lose(key: idempotency.ClientKey) -> Any:
        claimed = begin(key)
        other = IdempotentRequest.update(worker_id="other")
        api.state.db.write(lambda db: other.execute(db))
        return claimed

    monkeypatch.setattr(service, "_begin", lose)
    check_code(send(api, kind), 409, "idempotency_in_flight")
    assert api.count_rows("message" if kind == "push" else "attachment") == 0

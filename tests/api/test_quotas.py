"""Quotas of stored data: they apply, shrink after deletion, and are named in errors."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from astrbot_api.agent.provider import TextDelta, ToolCallDelta
from astrbot_api.db import attachments, counting, deliveries
from astrbot_api.db.counting import find_account
from astrbot_api.db.models.runs import IdempotentRequest
from astrbot_api.db.stored import ROW_BYTES, Growth, Stored, list_by_key, sum_stored
from astrbot_api.keys import quotas

from .conftest import Api
from .test_guard_rails import ask, make_key, mint, refusal, say

#: Upper bound of the counted bytes of a short message or a session.
_SMALL = 3_000

_FULL = (413, "quota_exceeded")


def stored(api: Api, key: str = "") -> Stored:
    """Return the bytes counted for a key."""
    key_id = ask(api, key or api.key, "/api/v1/keys/self").json["data"]["key_id"]
    with api.state.db.read() as db:
        return find_account(db, key_id).stored


def counted_again(api: Api) -> dict[str, tuple[int, int]]:
    """Return messages and sessions of each payer, counted from their rows."""
    with api.state.db.read() as db:
        rows = db.execute_sql(
            "SELECT payer, COUNT(*), SUM(size_bytes), 0 FROM message GROUP BY payer"
            " UNION ALL SELECT key_id, 0, 0, COUNT(*) FROM chat_session GROUP BY key_id"
        ).fetchall()
    found: dict[str, tuple[int, ...]] = {}
    for payer, *counts in rows:
        before = found.get(payer, (0, 0, 0))
        found[payer] = tuple(int(a) + int(b) for a, b in zip(before, counts, strict=True))
    return found  # type: ignore[return-value]


def check_counts(api: Api) -> None:
    """Compare the counters with the rows."""
    with api.state.db.read() as db:
        kept = list_by_key(db)
    said = {
        key: (one.messages, one.messages_bytes, one.sessions)
        for key, one in kept.items()
        if one.messages or one.sessions
    }
    assert said == counted_again(api)


def push(
    api: Api, key: str, text: str = "hello", to: str = "pushed", **headers: str
) -> TestResponse:
    return api.client.post(
        "/api/v1/im/message",
        headers={"X-API-Key": key, **headers},
        json={"umo": f"webchat:FriendMessage:webchat!alice!{to}", "message": text},
    )


def delete(api: Api, key: str, session_id: str) -> None:
    path = f"/api/v1/chat/sessions/{session_id}?username=alice"
    assert api.client.delete(path, headers={"X-API-Key": key}).status_code == 200


@pytest.mark.parametrize("by", ["rule", "setting"])
def test_a_key_above_its_quota_is_rejected_until_it_deletes_data(
    make_api: Callable[..., Api], by: str
) -> None:
    limit = 3 * _SMALL
    name = "its rule stored_bytes" if by == "rule" else "ASTRBOT_MAX_STORED_BYTES_PER_KEY"
    api = make_api(**({} if by == "rule" else {"ASTRBOT_MAX_STORED_BYTES_PER_KEY": limit}))
    key = make_key(api, **({"stored_bytes": limit} if by == "rule" else {}))
    assert say(api, key, session_id="small").status_code == 200
    refused = say(api, key, session_id="large", message="x" * limit)
    assert refusal(refused) == _FULL
    assert name in refused.json["message"]
    assert str(limit) in refused.json["message"]
    # Rejected data is not stored, and smaller data is still accepted.
    assert api.count_rows("chat_session") == 1
    assert say(api, key, session_id="small").status_code == 200
    while (answer := push(api, key, "y" * 500)).status_code == 200:
        pass
    assert refusal(answer) == _FULL
    more = {"session_id": "small", "message": "z" * 1500}
    assert refusal(say(api, key, **more)) == _FULL
    delete(api, key, "pushed")
    assert say(api, key, **more).status_code == 200
    check_counts(api)


def test_jobs_that_share_a_transaction_are_counted_and_checked_each(api: Api) -> None:
    if api.state.db.dialect != "sqlite":
        pytest.skip("on PostgreSQL every job has its own transaction")
    key_id = ask(api, make_key(api, stored_bytes=3 * 600), "/api/v1/keys/self").json["data"][
        "key_id"
    ]

    def add(size: int) -> Callable[[Any], int]:
        def job(db: Any) -> int:
            counting.add(db, key_id, "messages", 1, size)
            api.state.keys.quotas.check_at_end(db, key_id)
            return size

        return job

    transaction = api.state.db._get_own()  # type: ignore[attr-defined]
    transaction.begin(wait=True)
    jobs = [add(600), add(600), add(601), add(600), add(1), lambda db: find_account(db, key_id)]
    *outcomes, account = transaction.run(jobs, None)
    transaction.commit()
    assert [one if isinstance(one, int) else one.code for one in outcomes] == [
        600, 600, "quota_exceeded", 600, "quota_exceeded"
    ]  # fmt: skip
    assert (account.stored.messages, account.stored.messages_bytes) == (3, 1800)
    with api.state.db.read() as db:
        assert find_account(db, key_id) == account


def test_a_refused_file_does_not_count_for_the_next_job_of_its_transaction(api: Api) -> None:
    if api.state.db.dialect != "sqlite":
        pytest.skip("on PostgreSQL every job has its own transaction")
    key_id = ask(api, make_key(api), "/api/v1/keys/self").json["data"]["key_id"]

    def add(db: Any) -> None:
        attachments.add_attachment(
            db, name="a", type="file", mime="text/plain", charset=None, size_bytes=700,
            sha256="0" * 64, blob="b", key_id=key_id, username=None,
        )  # fmt: skip
        assert find_account(db, key_id).files_bytes == 700
        raise ValueError

    transaction = api.state.db._get_own()  # type: ignore[attr-defined]
    transaction.begin(wait=True)
    _, account = transaction.run([add, lambda db: find_account(db, key_id)], None)
    transaction.commit()
    assert account.files_bytes == 0


def test_another_key_is_not_affected(api: Api) -> None:
    key = make_key(api, stored_bytes=_SMALL)
    assert refusal(say(api, key, message="x" * _SMALL)) == _FULL
    assert say(api, api.key, message="x" * _SMALL).status_code == 200
    # The pushing key pays for a push into another key's session.
    say(api, api.key, session_id="theirs")
    before = stored(api)
    assert push(api, key, "z" * 100, to="theirs").status_code == 200
    assert stored(api) == before
    assert refusal(push(api, key, "z" * _SMALL, to="theirs")) == _FULL


def test_the_number_of_sessions_is_limited(api: Api) -> None:
    key = make_key(api, sessions=2)
    new = {"username": "alice", "display_name": "中" * 255}
    made = [
        api.client.post("/api/v1/chat/sessions/new", headers={"X-API-Key": key}, json=new)
        for _ in range(3)
    ]
    assert [one.status_code for one in made] == [200, 200, 413]
    assert "2 sessions (its rule sessions)" in made[2].json["message"]
    assert refusal(say(api, key, session_id="third")) == _FULL
    delete(api, key, made[0].json["data"]["session_id"])
    assert say(api, key, session_id="third").status_code == 200
    assert ask(api, key, "/api/v1/keys/self").json["data"]["left"]["sessions"] == 0


def test_data_of_a_session_key_counts_towards_its_parent(api: Api) -> None:
    key = make_key(api, stored_bytes=3 * _SMALL)
    session_key = mint(api, key).json["data"]["api_key"]
    say(api, session_key, session_id="hers")
    own = ask(api, key, "/api/v1/keys/self").json["data"]
    assert own["used"]["stored_bytes"] > 1000
    assert own["used"]["sessions"] == 1
    assert own["left"]["stored_bytes"] == 3 * _SMALL - own["used"]["stored_bytes"]
    assert refusal(say(api, session_key, message="x" * 3 * _SMALL)) == _FULL


@pytest.mark.parametrize("by", ["rule", "setting", "all"])
def test_a_key_that_stores_too_fast_gets_429(make_api: Callable[..., Api], by: str) -> None:
    name = {
        "rule": "its rule growth_bytes",
        "setting": "ASTRBOT_MAX_GROWTH_BYTES_PER_KEY",
        "all": "ASTRBOT_MAX_GROWTH_BYTES",
    }[by]
    api = make_api(**({} if by == "rule" else {name: 50_000}))
    key = make_key(api, **({"growth_bytes": 50_000} if by == "rule" else {}))
    # A request that starts below the limit may exceed it and is stored completely.
    assert push(api, key, "y" * 100_000).status_code == 200
    api.state.keys.quotas.refresh()
    for answer in (push(api, key), say(api, key), say(api, mint(api, key).json["data"]["api_key"])):
        assert refusal(answer) == (429, "rate_limited")
        assert 1 <= int(answer.headers["Retry-After"]) <= 120
        assert f"({name})" in answer.json["message"]
    assert api.count_rows("message") == 1
    if by != "all":
        assert push(api, api.key if by == "rule" else make_key(api)).status_code == 200
        assert ask(api, key, "/api/v1/keys/self").json["data"]["used"]["growth_bytes"] > 50_000
    # Deletion frees space.
    delete(api, key, "pushed")
    check_counts(api)


def test_growth_is_measured_over_sixty_seconds() -> None:
    assert Growth(600, 0, 30.0).size_bytes == 600
    assert Growth(0, 600, 30.0).size_bytes == 300
    assert Growth(100, 600, 45.0).size_bytes == 250
    assert Growth(-900, 600, 0.0).size_bytes == 0
    for growth in (Growth(600, 0, 30.0), Growth(0, 600, 0.0), Growth(50, 600, 15.0)):
        wait_s = growth.find_wait(200)
        minutes, into_s = divmod(growth.into_s + wait_s, 60)
        then = (0, growth.bytes_now) if minutes else (growth.bytes_now, growth.bytes_before)
        assert Growth(*then, into_s).size_bytes == pytest.approx(200, abs=2)


def test_growth_is_limited_across_minute_boundaries(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key(api, growth_bytes=50_000)
    now = [6_000_000.0]
    monkeypatch.setattr("astrbot_api.db.stored.time.time", lambda: now[0])
    assert push(api, key, "y" * 50_000).status_code == 200
    now[0] += 59
    assert refusal(push(api, key)) == (429, "rate_limited")
    now[0] += 1
    assert refusal(push(api, key)) == (429, "rate_limited")
    now[0] += 59
    assert push(api, key, "y" * 50_000).status_code == 200
    assert refusal(push(api, key)) == (429, "rate_limited")
    now[0] += 1
    assert refusal(push(api, key)) == (429, "rate_limited")
    now[0] += 120
    assert push(api, key).status_code == 200


def test_the_text_of_a_broadcast_counts_for_each_target(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_MAX_MESSAGE_CHARS=1000)
    targets = [f"webchat:FriendMessage:webchat!u!{number}" for number in range(10)]
    path, headers = "/api/v1/im/message", {"X-API-Key": api.key}
    refused = api.client.post(path, headers=headers, json={"umos": targets, "message": "y" * 101})
    assert refusal(refused) == (400, "invalid_request")
    assert "101 characters for each of 10 targets; at most 1000" in refused.json["message"]
    taken = api.client.post(path, headers=headers, json={"umos": targets, "message": "y" * 100})
    assert taken.status_code == 200


def test_a_broadcast_above_the_quota_is_rejected_whole(api: Api) -> None:
    key = make_key(api, stored_bytes=50_000)
    targets = [f"webchat:FriendMessage:webchat!u!{number}" for number in range(10)]
    body = {"umos": targets, "message": "y" * 10_000}
    path, headers = "/api/v1/im/message", {"X-API-Key": key, "Idempotency-Key": "b"}
    assert refusal(api.client.post(path, headers=headers, json=body)) == _FULL
    assert api.count_rows("message") == api.count_rows("delivery") == 0
    assert stored(api, key).total_bytes == 0
    # Rejected requests are not remembered: the same idempotency key works again.
    assert (
        api.client.post(path, headers=headers, json={**body, "umos": targets[:2]}).status_code
        == 200
    )


def test_idempotency_records_count_until_they_are_deleted(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key(api, stored_bytes=20_000)
    statuses = [
        push(api, key, **{"Idempotency-Key": f"{n}" + "k" * 249}).status_code for n in range(20)
    ]
    assert statuses[0] == 200
    assert statuses[-1] == 413
    before = stored(api, key)
    assert before.requests == statuses.count(200)
    assert before.requests_bytes > before.requests * 1000
    api.state.db.write(lambda db: IdempotentRequest.update(created_at=0).execute(db))
    api.state.worker.idempotency.prune()
    after = stored(api, key)
    assert (after.requests, after.requests_bytes) == (0, 0)
    assert push(api, key).status_code == 200


def test_deliveries_count_until_they_are_pruned(api: Api) -> None:
    for _ in range(3):
        push(api, api.key)
    assert stored(api).deliveries == 3
    api.state.db.write(lambda db: deliveries.prune(db, keep_us=0))
    assert (stored(api).deliveries, stored(api).deliveries_bytes) == (0, 0)


def test_notes_count_and_the_model_gets_an_error_when_the_quota_is_full(
    make_scripted: Callable[..., Any],
) -> None:
    def answer(messages: Any, *_: Any) -> Any:
        last = messages[-1]
        if last["role"] == "tool":
            return [TextDelta(str(last["content"]))]
        arguments = {"key": last["content"].split()[0], "value": last["content"].split()[1]}
        return [ToolCallDelta(0, "c1", "remember", json.dumps(arguments))]

    api, _ = make_scripted(answer)
    key = make_key(api, stored_bytes=12_000)
    assert b"Kept: color" in say(api, key, message="color blue", session_id="s").get_data()
    first = stored(api, key)
    assert first.notes == 1
    say(api, key, message="color green-and-longer", session_id="s")
    assert stored(api, key).notes_bytes - first.notes_bytes == len("green-and-longer") - len("blue")
    told = say(api, key, message="much " + "v" * 900, session_id="s").get_data()
    while b"Kept: much" in told:
        told = say(api, key, message="much " + "v" * 900, session_id="s").get_data()
    assert b"(its rule stored_bytes)" in told


def test_edits_and_new_answers_keep_the_count_correct(api: Api) -> None:
    api.chat(session_id="s")
    events = api.chat("Hello again", session_id="s")
    number = next(one["data"]["id"] for one in events if one["type"] == "user_message_saved")
    path = f"/api/v1/chat/sessions/s/messages/{number}"
    edited = api.patch(
        path,
        json={"username": "alice", "content": {"message": [{"type": "plain", "text": "x" * 5000}]}},
    )
    assert edited.status_code == 200, edited.get_data()
    check_counts(api)
    before = stored(api).total_bytes
    for count in (1, 2, 3):
        again = api.post(f"{path}/regenerate", json={"username": "alice"})
        assert again.status_code == 200
        assert again.get_data()
        check_counts(api)
        # The runs of earlier answers stay. The answers' times have different lengths.
        assert round((stored(api).total_bytes - before) / ROW_BYTES) == count
    delete(api, api.key, "s")
    assert stored(api).total_bytes == 0


def test_the_quota_of_the_server_applies_to_every_key(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_MAX_STORED_BYTES=20_000)
    say(api, api.key, message="x" * 10_000)
    api.state.keys.quotas.refresh()
    say(api, api.key, message="x" * 10_000)
    api.state.keys.quotas.refresh()
    refused = say(api, make_key(api))
    assert refusal(refused) == _FULL
    assert "of all keys" in refused.json["message"]
    assert "ASTRBOT_MAX_STORED_BYTES" in refused.json["message"]


def test_a_nearly_full_disk_rejects_new_data(
    make_api: Callable[..., Api], caplog: pytest.LogCaptureFixture
) -> None:
    api = make_api()
    say(api, api.key, session_id="s")
    object.__setattr__(api.state.settings, "min_free_bytes", 2**60)
    for _ in range(2):
        api.state.keys.quotas.refresh()
    (line,) = caplog.messages
    assert line.startswith(f"the disk of {api.state.settings.data_dir} has less free space than")
    refused = say(api, api.key, session_id="s")
    assert refusal(refused) == _FULL
    assert "ASTRBOT_MIN_FREE_BYTES" in refused.json["message"]
    upload = api.post("/api/v1/file", data={"file": (io.BytesIO(b"a"), "a.txt")})
    assert refusal(upload) == _FULL
    delete(api, api.key, "s")


def test_an_upload_ends_before_the_disk_is_full(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many uploads at once may have begun while there was room for each of them."""
    api = make_api()
    folder = api.state.files._temporary_dir

    def measure(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=0 if folder.is_dir() and any(folder.iterdir()) else 2**40)

    monkeypatch.setattr(shutil, "disk_usage", measure)
    upload = api.post("/api/v1/file", data={"file": (io.BytesIO(b"a" * 400_000), "a.txt")})
    assert refusal(upload) == _FULL
    assert "ASTRBOT_MIN_FREE_BYTES" in upload.json["message"]
    assert not any(folder.iterdir())


@pytest.mark.parametrize("is_stale", [False, True])
def test_files_have_a_total_quota(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch, is_stale: bool
) -> None:
    api = make_api(ASTRBOT_MAX_ALL_FILE_BYTES=100)

    def upload(size: int) -> TestResponse:
        file = (io.BytesIO(b"a" * size), "a.txt")
        return api.post("/api/v1/file", data={"file": file})

    assert upload(80).status_code == 200
    if is_stale:  # such as without chores
        monkeypatch.setattr(quotas, "_STALE_S", -1.0)
    else:
        api.state.keys.quotas.refresh()
    refused = upload(30)
    assert refusal(refused) == _FULL
    assert "ASTRBOT_MAX_ALL_FILE_BYTES" in refused.json["message"]


_PICTURE = {"url": "data:image/png;base64,AAAA"}
_SENT = [
    {"type": "image_url", "image_url": _PICTURE},
    {"type": "text", "text": "What is this?"},
]


def _complete(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": [*_SENT, part]}]
    return "openai/chat/completions", {"model": "default", "messages": messages}


def _respond(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if part["type"] == "file":
        part = {"type": "input_file", **part["file"]}
    else:
        part = {"type": "input_text", **part}
    picture = {"type": "input_image", "image_url": _PICTURE["url"]}
    given = [{"role": "user", "content": [picture, part]}]
    return "openai/responses", {"model": "default", "input": given}


def _converse(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if part["type"] == "file":
        url = f"/api/v1/files/{part['file']['file_id']}"
        part = {"type": "file", "mediaType": "text/plain", "url": url}
    picture = {"type": "file", "mediaType": "image/png", "url": _PICTURE["url"]}
    messages = [{"id": "m", "role": "user", "parts": [picture, part]}]
    return "aisdk", {"id": "chat", "messages": messages}


@pytest.mark.parametrize("make", [_complete, _respond, _converse])
def test_a_rejected_request_leaves_none_of_its_files(
    api: Api, make: Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]
) -> None:
    """Clients retry after a 429, and each retry has the files again."""
    path, body = make({"type": "file", "file": {"file_id": "nope"}})
    answer = api.post(f"/api/v1/{path}", json=body)
    assert answer.status_code == 404, answer.text
    path, body = make({"type": "text", "text": "Please."})
    key = make_key(api, turns_per_day=1)
    for status in (200, 429, 429):
        answer = api.client.post(f"/api/v1/{path}", json=body, headers={"X-API-Key": key})
        answer.get_data()
        assert answer.status_code == status, answer.text
    assert api.count_rows("attachment") == 1


def test_a_rejected_request_keeps_the_files_of_earlier_messages(api: Api) -> None:
    """Other requests may already use them."""
    path, body = _complete({"type": "file", "file": {"file_id": "nope"}})
    earlier = [{"role": "user", "content": _SENT}, {"role": "assistant", "content": "A cat."}]
    body["messages"] = [*earlier, *body["messages"]]
    assert api.post(f"/api/v1/{path}", json=body).status_code == 404
    assert api.count_rows("attachment") == 1


@pytest.mark.parametrize("make", [_respond, _converse])
def test_a_repeated_request_stores_its_files_once(
    api: Api, make: Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]
) -> None:
    path, body = make({"type": "text", "text": "Please."})
    for _ in range(3):
        answer = api.post(f"/api/v1/{path}", json=body, headers={"Idempotency-Key": "once"})
        answer.get_data()
        assert answer.status_code == 200, answer.text
    assert (api.count_rows("run"), api.count_rows("attachment")) == (1, 1)


def test_unstored_turns_leave_nothing_counted(api: Api) -> None:
    body = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}
    for _ in range(3):
        answer = api.post("/api/v1/openai/chat/completions", json=body)
        assert answer.status_code == 200
    api.state.chat.remover.empty_removed()
    assert stored(api).total_bytes == 0


def test_a_heavy_user_stays_far_below_the_defaults(api: Api) -> None:
    """A year of 500 long turns per day, extrapolated from some turns."""
    turns = 5
    for number in range(turns):
        api.chat(f"Please sum up part {number}: " + "a fair word " * 400, session_id="year")
    one = stored(api)
    of_a_turn = (one.messages_bytes + one.sessions_bytes) / turns
    assert of_a_turn * 500 * 365 < api.state.settings.max_stored_bytes_per_key / 4
    # A site of a hundred thousand users with one session each.
    session = one.sessions_bytes
    assert session * 100_000 < api.state.settings.max_stored_bytes_per_key / 10


def test_usage_of_all_keys_is_in_metrics_and_owner_pages(api: Api) -> None:
    api.chat(session_id="s")
    api.state.keys.quotas.refresh()
    lines = api.state.worker.metrics.render().decode()
    with api.state.db.read() as db:
        total = sum_stored(db)
    assert f'astrbot_stored_bytes{{kind="messages"}} {float(total.messages_bytes)}' in lines
    assert 'astrbot_stored{kind="sessions"} 1.0' in lines
    assert "astrbot_disk_free_bytes" in lines


def test_the_totals_of_all_keys_are_read_beside_the_event_loop(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.chat("hi")
    kept: list[Any] = []
    read_aside = api.state.db.read_aside
    monkeypatch.setattr(
        api.state.db, "read_aside", lambda job: kept.append(read_aside(job)) or kept[-1]
    )
    api.state.keys.quotas.refresh()
    ((stored, _growth),) = kept
    assert stored.messages == 2

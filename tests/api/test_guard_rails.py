"""Limits of keys: each one applies and is named in its error. Keys without limits cost nothing."""

from __future__ import annotations

import io
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from werkzeug.test import TestResponse

from astrbot_api import ApiError, ProviderError, Tool
from astrbot_api.agent import toolbox
from astrbot_api.agent.provider import Delta, TextDelta, ToolCallDelta, Usage
from astrbot_api.cli.main import main
from astrbot_api.db import key_usage, keys, rate_counts, session_keys
from astrbot_api.db.models.keys import ApiKey
from astrbot_api.db.models.runs import Run
from astrbot_api.errors import SettingsError
from astrbot_api.http import request_body
from astrbot_api.keys import limits, rates
from astrbot_api.keys.rules import read_rules

from ..query_plans import explain
from ..waiting import LIMIT_S, wait_for
from .conftest import Api
from .uploading import PNG, SlowBody, multipart


def make_key(api: Api, *scopes: str, **rules: Any) -> str:
    """Create a key with limits."""
    text = read_rules(rules).dump()
    _, secret = api.state.db.write(
        lambda db: keys.create_key(
            db, "guarded", scopes or keys.PUBLIC_SCOPES, created_by="test", rules=text
        )
    )
    return secret


def refusal(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, answer.json["code"]


def ask(api: Api, key: str, path: str = "/api/v1/configs", **options: Any) -> TestResponse:
    return api.client.get(path, headers={"X-API-Key": key}, **options)


def say(api: Api, key: str, **body: Any) -> TestResponse:
    answer = api.post_chat(key, **{"username": "alice", "message": "Hello", **body})
    answer.get_data()
    return answer


def test_a_username_rule_restricts_chat_and_sessions(api: Api) -> None:
    key = make_key(api, username="alice")
    assert say(api, key).status_code == 200
    assert refusal(say(api, key, username="bob")) == (403, "key_restricted")
    listed = ask(api, key, "/api/v1/chat/sessions?username=bob")
    assert refusal(listed) == (403, "key_restricted")
    assert "username" in listed.json["message"]
    assert ask(api, key, "/api/v1/chat/sessions?username=alice").status_code == 200


def test_a_key_of_one_username_need_not_send_it(api: Api) -> None:
    key = make_key(api, username="alice")
    answer = api.post_chat(key, message="Hello", session_id="hers")
    assert answer.status_code == 200, answer.get_data()
    answer.get_data()
    listed = ask(api, key, "/api/v1/chat/sessions").json["data"]["sessions"]
    assert [(one["session_id"], one["creator"]) for one in listed] == [("hers", "alice")]
    blank = api.post_chat(key, message="Hello", username=" ")
    assert (blank.status_code, blank.json["message"]) == (400, "username is empty")
    assert api.post_chat(message="Hello").json["message"] == "Missing key: username"


def test_a_username_prefix_rule_restricts_usernames(api: Api) -> None:
    key = make_key(api, username_prefix="shop-")
    assert say(api, key, username="shop-7").status_code == 200
    assert refusal(say(api, key, username="alice")) == (403, "key_restricted")


def test_a_bound_key_cannot_read_files_of_other_users(api: Api) -> None:
    upload = api.post("/api/v1/file", data={"file": (io.BytesIO(PNG), "a.png")})
    attachment_id = upload.json["data"]["attachment_id"]
    key = make_key(api, username="alice")
    path = f"/api/v1/file?attachment_id={attachment_id}"
    assert ask(api, key, path).status_code == 404
    message = [{"type": "plain", "text": "see"}, {"type": "image", "attachment_id": attachment_id}]
    assert refusal(say(api, key, message=message)) == (404, "attachment_not_found")
    say(api, api.key, message=message, username="alice")
    mine = ask(api, key, path)
    assert mine.status_code == 200
    mine.close()


def test_a_config_rule_restricts_chat_and_the_list(api: Api) -> None:
    folder = api.state.settings.data_dir / "configs"
    text = (folder / "default.toml").read_text(encoding="utf-8")
    (folder / "other.toml").write_text(text.replace("default", "other"), encoding="utf-8")
    api.state.agents.configs.load_all()
    key = make_key(api, configs=["other"])
    assert [one["id"] for one in ask(api, key).json["data"]["configs"]] == ["other"]
    assert refusal(say(api, key)) == (403, "key_restricted")
    assert say(api, key, config_id="other", session_id="kept").status_code == 200
    assert say(api, key, session_id="kept").status_code == 200
    # A rejected request stores nothing.
    assert api.count_rows("chat_session") == 1


def test_an_address_rule_restricts_callers(api: Api) -> None:
    key = make_key(api, addresses=["10.0.0.0/8", "2001:db8::/32"])
    assert refusal(ask(api, key)) == (403, "key_restricted")
    for address in ("10.1.2.3", "2001:db8::1", "::ffff:10.1.2.3"):
        inside = ask(api, key, environ_base={"REMOTE_ADDR": address})
        assert inside.status_code == 200, address


def test_the_address_is_the_clients_behind_the_proxy(make_api: Callable[..., Api]) -> None:
    trusting, plain = make_api(ASTRBOT_PROXY_HOPS=1), make_api()
    forged = {"X-Forwarded-For": "10.1.2.3"}
    for api, expected in ((trusting, 200), (plain, 403)):
        headers = {"X-API-Key": make_key(api, addresses=["10.0.0.0/8"]), **forged}
        assert api.client.get("/api/v1/configs", headers=headers).status_code == expected


def test_requests_per_minute_are_limited_and_reported(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_800_000_030.0]
    monkeypatch.setattr("astrbot_api.keys.rates.time.time", lambda: now[0])
    key = make_key(api, requests_per_minute=3)
    answers = [ask(api, key) for _ in range(5)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429, 429]
    assert answers[0].headers["RateLimit-Remaining"] == "2"
    refused = answers[3]
    assert refusal(refused) == (429, "rate_limited")
    assert refused.headers["RateLimit-Limit"] == "3"
    now[0] += int(refused.headers["Retry-After"])
    assert ask(api, key).status_code == 429  # the last minute still counts
    now[0] += 60
    assert ask(api, key).status_code == 200


def test_a_request_succeeds_after_retry_after(api: Api) -> None:
    def take(now_s: float) -> tuple[bool, float, float]:
        return api.state.db.write(lambda db: rate_counts.count_request(db, "k", 10, now_s))

    assert all(take(60_000.0)[0] for _ in range(10))
    allowed, _, wait_s = take(60_061.0)
    assert not allowed
    assert take(60_061.0 + wait_s)[0]


def test_counters_of_past_minutes_are_removed(api: Api) -> None:
    ask(api, make_key(api, requests_per_minute=3))
    assert api.count_rows("rate_count") == 1
    api.state.db.write(lambda db: rate_counts.forget_counts(db, time.time() + 180))
    assert api.count_rows("rate_count") == 0


@pytest.mark.parametrize("url", ["", "memory://"])
def test_every_storage_counts_the_same(make_api: Callable[..., Api], url: str) -> None:
    api = make_api(ASTRBOT_LIMITS_URL=url)
    key = make_key(api, requests_per_minute=2)
    assert [ask(api, key).status_code for _ in range(3)] == [200, 200, 429]


def test_redis_counts_the_same_and_in_its_outage_the_database_counts(
    make_api: Callable[..., Api], redis_server: Any, redis_prefix: str
) -> None:
    api = make_api(ASTRBOT_LIMITS_URL=redis_server.url, ASTRBOT_REDIS_PREFIX=redis_prefix)
    key = make_key(api, requests_per_minute=2)
    assert [ask(api, key).status_code for _ in range(3)] == [200, 200, 429]
    lost = make_api(ASTRBOT_LIMITS_URL="redis://127.0.0.1:1")
    key = make_key(lost, requests_per_minute=2)
    assert [ask(lost, key).status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("name", ["ASTRBOT_LIMITS_URL", "ASTRBOT_REDIS_URL"])
def test_a_wrong_url_of_redis_is_reported_under_its_own_variable(
    make_api: Callable[..., Api], name: str
) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be redis://"):
        make_api(**{name: "redis://127.0.0.1:port"})


def test_one_request_waits_for_a_redis_that_does_not_answer(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "_REDIS_LIMIT_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = make_api(ASTRBOT_LIMITS_URL=f"redis://127.0.0.1:{silent.getsockname()[1]}")
        key = make_key(api, requests_per_minute=2)
        assert ask(api, key).status_code == 200
        silent.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
        assert [ask(api, key).status_code for _ in range(2)] == [200, 429]
        with pytest.raises(BlockingIOError):
            silent.accept()


@pytest.mark.parametrize("rule", [{"streams": 1}, {"tokens_per_day": 3000}, {"max_tokens": 3000}])
def test_a_turn_waits_for_running_ones_that_may_use_up_the_limit(
    make_scripted: Callable[..., Any], rule: dict[str, int]
) -> None:
    go = threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        assert go.wait(30)
        yield TextDelta("done")

    api, _ = make_scripted(answer)
    key = make_key(api, **rule)
    headers = {"X-API-Key": key}
    body = {"username": "alice", "message": "hi"}
    first = api.client.post("/api/v1/chat", headers=headers, json=body, buffered=False)
    refused = api.app.test_client().post("/api/v1/chat", headers=headers, json=body)
    assert refusal(refused) == (429, "rate_limited")
    assert refused.headers["Retry-After"]
    go.set()
    assert b'"end"' in first.get_data()
    assert say(api, key).status_code == 200


def test_running_turns_count_towards_the_turns_of_a_day(make_scripted: Callable[..., Any]) -> None:
    go = threading.Event()
    api, _ = make_scripted(["Well", go])
    key = make_key(api, turns_per_day=1)
    body = {"username": "alice", "message": "hi"}
    headers = {"X-API-Key": key}
    first = api.client.post("/api/v1/chat", headers=headers, json=body, buffered=False)
    assert refusal(say(api, key)) == (429, "budget_exhausted")
    go.set()
    assert b'"end"' in first.get_data()


def test_turns_per_day_are_limited_until_tomorrow(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key(api, turns_per_day=2)
    assert [say(api, key).status_code for _ in range(3)] == [200, 200, 429]
    refused = say(api, key)
    assert refusal(refused) == (429, "budget_exhausted")
    assert 0 < int(refused.headers["Retry-After"]) <= 86_400
    tomorrow = key_usage.today() + 1
    monkeypatch.setattr(key_usage, "today", lambda: tomorrow)
    assert say(api, key).status_code == 200


def test_turns_on_a_later_day_do_not_count_once_the_clock_is_set_back(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key(api, turns_per_day=1)
    tomorrow = key_usage.today() + 1
    with monkeypatch.context() as ahead:
        ahead.setattr(key_usage, "today", lambda: tomorrow)
        assert say(api, key).status_code == 200
    assert [say(api, key).status_code for _ in range(2)] == [200, 429]


def test_tokens_per_day_are_limited(make_scripted: Callable[..., Any]) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        yield TextDelta("hi")
        yield Usage(input_other=60, input_cached=0, output=40)

    api, _ = make_scripted(answer)
    key = make_key(api, tokens_per_day=200)
    assert [say(api, key).status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("reports", [True, False])
@pytest.mark.parametrize(
    ("agent", "turns"),
    [("titles = true", 1), ('titles = false\nhistory_tokens = 99\nhistory = "summarise"', 3)],
)
def test_titles_and_summaries_count_for_the_keys_of_their_turn(
    make_scripted: Callable[..., Any], agent: str, turns: int, reports: bool
) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        is_aside = "is quoted material" in str(messages[0])
        yield TextDelta("A title" if is_aside else "word " * 60)
        if reports or not is_aside:
            yield Usage(input_other=10_000 if is_aside else 1, output=2)

    api, _ = make_scripted(answer, agent=agent)
    key = make_key(api, tokens_per_day=100_000)
    minted = mint(api, key).json["data"]["api_key"]

    def read_used(one: str) -> int:
        return int(ask(api, one, "/api/v1/keys/self").json["data"]["used"]["tokens_today"])

    for _ in range(turns):
        assert say(api, minted, session_id="s").status_code == 200
    assert wait_for(lambda: read_used(key) >= 3 * turns + (10_002 if reports else 20))
    assert read_used(minted) == read_used(key)


def test_a_turn_with_an_absurd_number_of_tokens_is_stored(
    make_scripted: Callable[..., Any],
) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        yield TextDelta("hi")
        yield Usage(input_other=2**63, input_cached=-1, output=2**64)

    api, _ = make_scripted(answer)
    key = make_key(api, tokens_per_day=2**53)
    for _ in range(2):
        said = say(api, key, response_mode="blocking", session_id="s")
        assert (said.status_code, said.json["data"]["message"]) == (200, "hi")
    assert ask(api, key, "/api/v1/keys/self").json["data"]["used"]["tokens_today"] == 2**42


def test_tokens_are_estimated_if_the_model_reports_none(
    make_scripted: Callable[..., Any],
) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        yield TextDelta("word " * 100)

    api, _ = make_scripted(answer)
    key = make_key(api, tokens_per_day=200)
    assert [say(api, key).status_code for _ in range(3)] == [200, 200, 429]


def test_an_unreported_answer_counts_one_token_per_short_piece(
    make_scripted: Callable[..., Any],
) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        size = int(messages[-1]["content"])
        for _ in range(300 // size):
            yield TextDelta("x" * size)

    api, _ = make_scripted(answer)

    def count(size: int) -> int:
        key = make_key(api)
        say(api, key, message=str(size), session_id=f"s{size}")
        return int(ask(api, key, "/api/v1/keys/self").json["data"]["used"]["tokens"])

    prompt = count(300) - 300 // 4
    assert [count(size) - prompt for size in (6, 3, 50)] == [50, 100, 75]


@pytest.mark.parametrize("fails", [True, False])
def test_an_interrupted_or_stopped_turn_costs_its_text_so_far(
    make_scripted: Callable[..., Any], fails: bool
) -> None:
    asked = threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        yield TextDelta("word " * 100)
        asked.set()
        if fails:
            raise ProviderError("broke off")
        while True:
            yield TextDelta("")
            time.sleep(0.01)

    api, _ = make_scripted(answer)
    key = make_key(api, max_tokens=120)
    opened = api.post_chat(key, username="alice", session_id="s1", message="Hello")
    if not fails:
        assert asked.wait(LIMIT_S)
        api.client.post(
            "/api/v1/chat/sessions/s1/stop", headers={"X-API-Key": key}, json={"username": "alice"}
        )
    opened.get_data()
    assert refusal(say(api, key, session_id="s2")) == (429, "budget_exhausted")


def test_a_turn_stopped_before_its_first_word_costs_its_prompt(
    make_scripted: Callable[..., Any],
) -> None:
    asked = threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        asked.set()
        while True:
            yield TextDelta("")
            time.sleep(0.01)

    api, _ = make_scripted(answer)
    key = make_key(api, max_tokens=100)
    opened = api.post_chat(key, username="alice", session_id="s1", message="word " * 100)
    assert asked.wait(LIMIT_S)
    api.client.post(
        "/api/v1/chat/sessions/s1/stop", headers={"X-API-Key": key}, json={"username": "alice"}
    )
    opened.get_data()
    assert refusal(say(api, key, session_id="s2")) == (429, "budget_exhausted")


def test_upload_bytes_are_limited(api: Api) -> None:
    key = make_key(api, upload_bytes=100)

    def upload() -> TestResponse:
        return api.client.post(
            "/api/v1/file", headers={"X-API-Key": key}, data={"file": (io.BytesIO(PNG), "a.png")}
        )

    assert upload().status_code == 200
    refused = upload()
    assert refusal(refused) == (413, "quota_exceeded")
    assert "upload_bytes" in refused.json["message"]


def test_a_tool_rule_restricts_tools(make_scripted: Callable[..., Any]) -> None:
    dice = Tool("dice", "Roll a die.", lambda arguments, context: "4")
    api, model = make_scripted("hi", tools=[dice])
    say(api, make_key(api, tools=["calc*"]))
    say(api, api.key)
    assert model.offered[0] == ["calculate"]
    assert "dice" in model.offered[1]


@pytest.mark.parametrize(
    ("rules", "calls"),
    [
        ({}, 4),
        ({"tool_calls_per_turn": 2}, 2),
        ({"tool_calls_per_turn": 100}, 4),  # the config's limit
        ({"tool_chars_per_turn": 250}, 3),
        ({"tool_seconds_per_turn": 1}, 1),
    ],
)
def test_tools_of_a_turn_are_limited_by_key_and_config(
    make_scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, rules: Any, calls: int
) -> None:
    made = []

    def look(arguments: Any, context: Any) -> str:
        made.append(1)
        return f"{len(made):0100}"

    def answer(messages: Any) -> Iterator[Any]:
        yield ToolCallDelta(0, f"c{len(messages)}", "look", f'{{"at": {len(messages)}}}')

    # Each call takes two seconds.
    seconds = itertools.count(step=2)
    monkeypatch.setattr(toolbox, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    api, model = make_scripted(
        answer,
        tools=[Tool("look", "Look.", look)],
        agent="titles = false\n[tools]\nmax_calls = 4\nallow = ['look']",
    )
    say(api, make_key(api, **rules))
    assert len(made) == calls
    # Then the model must answer in words.
    assert model.offered[-1] == []


def test_an_expired_key_gets_401_whatever_its_rules(api: Api) -> None:
    key = make_key(api, requests_per_minute=5)
    api.state.db.write(lambda db: ApiKey.update(expires_at=1).execute(db))
    assert ask(api, key).status_code == 401


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"streams": 0}, "rules.streams"),
        ({"streams": True}, "rules.streams"),
        ({"streams": "5"}, "rules.streams"),
        ({"configs": []}, "rules.configs"),
        ({"configs": "default"}, "rules.configs"),
        ({"addresses": ["10.0.0.0/33"]}, "rules.addresses"),
        ({"username": ""}, "rules.username"),
        ({"username": "\ud800"}, "rules.username"),
        ({"no_such": 1}, "rules.no_such: Unknown key. Known keys: addresses, approve, "),
        ({"request_per_minute": 1}, "Did you mean requests_per_minute?"),
        ([], "rules must be an object"),
    ],
)
def test_an_invalid_rule_is_rejected_by_name(rules: Any, named: str) -> None:
    with pytest.raises(ApiError, match=named):
        read_rules(rules)


def test_the_command_line_creates_a_key_with_rules(api: Api) -> None:
    folder = str(api.state.settings.data_dir)
    arguments = ["keys", "create", "bot", "--username", "alice", "--turns-per-day", "9"]
    arguments += ["--config", "a", "--config", "b", "--json", "--data-dir", folder]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert (
        '"rules": {"username": "alice", "configs": ["a", "b"], "turns_per_day": 9}' in done.output
    )
    wrong = CliRunner().invoke(
        main, ["keys", "create", "bot", "--address", "nowhere", "--data-dir", folder]
    )
    assert wrong.exit_code == 2


def test_the_command_line_takes_each_pattern_of_a_list(api: Api) -> None:
    arguments = ["keys", "create", "bot", "--json"]
    for option in ("--approve", "--tool", "--umo"):
        arguments += [option, "pay", option, "mail.*"]
    folder = str(api.state.settings.data_dir)
    done = CliRunner().invoke(main, [*arguments, "--data-dir", folder])
    assert done.exit_code == 0, done.output
    both = ["pay", "mail.*"]
    assert json.loads(done.stdout)["rules"] == {"umos": both, "tools": both, "approve": both}


@pytest.mark.parametrize("option", ["--username", "--username-prefix", "--config", "--tool"])
def test_the_command_line_rejects_an_empty_rule(api: Api, option: str) -> None:
    before = api.count_rows("api_key")
    folder = str(api.state.settings.data_dir)
    arguments = ["keys", "create", "bot", option, "", "--data-dir", folder]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "must be a text of 1 to 500 characters" in done.output
    assert api.count_rows("api_key") == before


def test_a_key_that_is_bound_to_no_username_may_send_files_of_other_keys(api: Api) -> None:
    headers, file = {"X-API-Key": api.key}, (io.BytesIO(PNG), "a.png")
    sent = api.client.post("/api/v1/file", headers=headers, data={"file": file}).json["data"]
    segment = {"type": "image", "attachment_id": sent["attachment_id"]}
    assert say(api, make_key(api, streams=2), message=[segment]).status_code == 200
    other = make_key(api, username_prefix="shop-")
    answer = say(api, other, username="shop-1", message=[segment])
    assert refusal(answer) == (404, "attachment_not_found")


# Session keys


def mint(api: Api, key: str = "", **body: Any) -> TestResponse:
    headers = {"X-API-Key": key or api.key}
    return api.client.post(
        "/api/v1/keys/session", headers=headers, json={"username": "alice", **body}
    )


def test_a_session_key_is_bound_to_its_username(api: Api) -> None:
    made = mint(api).json["data"]
    assert made["scopes"] == ["chat", "file"]
    assert made["rules"] == {"username": "alice"}
    assert say(api, made["api_key"]).status_code == 200
    assert refusal(say(api, made["api_key"], username="bob")) == (403, "key_restricted")
    assert ask(api, made["api_key"]).status_code == 403  # without the scope config
    assert refusal(mint(api, made["api_key"])) == (403, "key_restricted")


def test_a_session_key_may_do_no_more_than_its_parent(api: Api) -> None:
    rules = {"username_prefix": "shop-", "configs": ["default"], "tools": ["x"]}
    maker = make_key(api, streams=3, **rules)
    made = mint(api, maker, username="shop-1", max_turns=2).json["data"]
    assert made["rules"] == {**rules, "username": "shop-1", "max_turns": 2}
    assert refusal(mint(api, maker, username="bob")) == (403, "key_restricted")
    other = make_key(api, configs=["other"])
    assert refusal(mint(api, other, config_id="default")) == (403, "key_restricted")


def test_a_session_key_has_the_rules_that_its_parent_gets_during_the_request(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api.state.db.read() as db:
        (maker,) = (one["key_id"] for one in keys.list_keys(db))

    def change_rules() -> int:
        changes = {"rules": '{"tools":["look"]}'}
        api.state.db.write(lambda db: keys.update_key(db, maker, changes))
        return keys.now_us()

    monkeypatch.setattr("astrbot_api.http.keys.routes.now_us", change_rules)
    assert mint(api).json["data"]["rules"] == {"username": "alice", "tools": ["look"]}


def test_a_session_key_may_send_its_own_uploads(api: Api) -> None:
    key = mint(api).json["data"]["api_key"]
    headers, file = {"X-API-Key": key}, (io.BytesIO(PNG), "a.png")
    sent = api.client.post("/api/v1/file", headers=headers, data={"file": file}).json["data"]
    path = f"/api/v1/file?attachment_id={sent['attachment_id']}"
    assert ask(api, key, path).get_data() == PNG
    segment = {"type": "image", "attachment_id": sent["attachment_id"]}
    assert say(api, key, message=[segment]).status_code == 200
    used = ask(api, key, "/api/v1/keys/self").json["data"]["used"]
    assert used["upload_bytes"] == len(PNG)


def test_a_session_key_may_be_bound_to_one_session(api: Api) -> None:
    api.chat(session_id="mine")
    api.chat(session_id="other")
    key = mint(api, session_id="mine").json["data"]["api_key"]
    assert say(api, key, session_id="mine").status_code == 200
    assert b'"session_id":"mine"' in say(api, key).get_data()
    assert refusal(say(api, key, session_id="other")) == (403, "key_restricted")
    base = "/api/v1/chat/sessions"
    assert ask(api, key, f"{base}/mine?username=alice").status_code == 200
    assert refusal(ask(api, key, f"{base}/other?username=alice")) == (403, "key_restricted")
    assert refusal(ask(api, key, f"{base}?username=alice")) == (403, "key_restricted")
    inbox = ask(api, key, "/api/v1/chat/inbox?username=alice")
    assert refusal(inbox) == (403, "key_restricted")


def test_a_key_of_one_session_has_no_path_to_other_ones(make_api: Any) -> None:
    api = make_api(ASTRBOT_ADMIN_PASSWORD="correct horse battery")
    for name in ("mine", "other"):
        api.chat(session_id=name)
    key = mint(api, session_id="mine").json["data"]["api_key"]

    def send(method: str, path: str, name: str) -> TestResponse:
        named = {"session_id": name, "session_ids": [name], "display_name": "Hers"}
        body = {} if method == "GET" else {"json": named}
        path = path.format(name)
        return api.client.open(path, method=method, headers={"X-API-Key": key}, **body)

    for method, path in (
        ("GET", "/api/v1/chat/sessions/{}"),
        ("GET", "/api/chat/get_session?session_id={}"),
        ("PATCH", "/api/v1/chat/sessions/{}"),
        ("POST", "/api/chat/update_session_display_name"),
        ("POST", "/api/v1/chat/sessions/{}/stop"),
        ("POST", "/api/chat/stop"),
        ("DELETE", "/api/v1/chat/sessions/{}"),
        ("GET", "/api/chat/delete_session?session_id={}"),
    ):
        assert refusal(send(method, path, "other")) == (403, "key_restricted"), path
        assert send(method, path, "mine").status_code in (200, 404), path
    for path in ("/api/v1/chat/sessions/batch-delete", "/api/chat/batch_delete_sessions"):
        (failed,) = send("POST", path, "other").json["data"]["failed_items"]
        assert failed["code"] == "key_restricted"
    for path in ("/api/v1/chat/sessions/new", "/api/chat/new_session", "/api/chat/sessions"):
        assert refusal(send("GET", path, "")) == (403, "key_restricted"), path
    assert api.count_rows("chat_session") == 1


def test_the_budget_of_a_session_key_spans_all_days(api: Api) -> None:
    key = mint(api, max_turns=2).json["data"]["api_key"]
    assert [say(api, key).status_code for _ in range(3)] == [200, 200, 429]
    assert say(api, mint(api).json["data"]["api_key"]).status_code == 200


def test_session_keys_count_towards_their_parent_key(api: Api) -> None:
    maker = make_key(api, turns_per_day=2, requests_per_minute=50)
    for _ in range(2):
        assert say(api, mint(api, maker).json["data"]["api_key"]).status_code == 200
    assert refusal(say(api, mint(api, maker).json["data"]["api_key"])) == (429, "budget_exhausted")
    assert say(api, maker).status_code == 429


def test_a_turn_of_a_dead_worker_also_counts_towards_the_parent_key(api: Api) -> None:
    made = mint(api).json["data"]
    api.state.db.write(lambda db: key_usage.add_lost_turn(db, made["key_id"]))
    with api.state.db.read() as db:
        (maker,) = (one["key_id"] for one in keys.list_keys(db))
        assert key_usage.sum_turns(db, made["key_id"]) == (1, 0)
        assert key_usage.sum_turns(db, maker) == (1, 0)
        assert key_usage.list_days(db, 1)[0]["failed_turns"] == 1


def test_a_session_key_ends_when_its_parent_is_revoked_or_changed(api: Api) -> None:
    with api.state.db.read() as db:
        maker = next(one["key_id"] for one in keys.list_keys(db))
    one = mint(api).json["data"]["api_key"]
    same = {"name": "renamed", "scopes": list(keys.PUBLIC_SCOPES), "rules": None}
    api.state.db.write(lambda db: keys.update_key(db, maker, same))
    assert say(api, one).status_code == 200
    api.state.db.write(lambda db: keys.update_key(db, maker, {"rules": '{"streams":1}'}))
    assert say(api, one).status_code == 401
    other = mint(api).json["data"]["api_key"]
    api.state.db.write(lambda db: keys.revoke_key(db, maker))
    assert say(api, other).status_code == 401


@pytest.mark.parametrize("end", [keys.revoke_key, keys.delete_key])
def test_turns_are_stopped_with_their_key(api: Api, end: Callable[..., Any]) -> None:
    def begin(key: str, session_id: str) -> str:
        body = {"message": "N=1000 DELAY=200", "response_mode": "background"}
        return str(say(api, key, session_id=session_id, **body).json["data"]["run_id"])

    def read_status(run_id: str) -> str:
        with api.state.db.read() as db:
            return str(Run.select(Run.status).where(Run.run_id == run_id).scalar(db))

    key, other = make_key(api), make_key(api)
    key_id = ask(api, key, "/api/v1/keys/self").json["data"]["key_id"]
    running, queued = begin(key, "s"), begin(key, "s")
    minted, kept = begin(mint(api, key).json["data"]["api_key"], "t"), begin(other, "u")
    api.state.db.write(lambda db: end(db, key_id))
    api.state.chat.runs.poll_stop_requests()
    wait_for(lambda: set(map(read_status, (running, queued, minted))) == {"stopped"})
    assert read_status(kept) == "running"
    api.state.chat.runs.stop([kept])


@pytest.mark.parametrize("end", [keys.revoke_key, keys.delete_key])
@pytest.mark.parametrize("kind", ["plain", "limited", "session key"])
def test_no_turn_begins_after_its_key_has_ended(
    api: Api, monkeypatch: pytest.MonkeyPatch, end: Callable[..., Any], kind: str
) -> None:
    key = make_key(api, **({"streams": 9} if kind == "limited" else {}))
    key_id = ask(api, key, "/api/v1/keys/self").json["data"]["key_id"]
    used = mint(api, key).json["data"]["api_key"] if kind == "session key" else key
    start = api.state.chat.runs.start

    def start_late(*args: Any) -> Any:
        api.state.db.write(lambda db: end(db, key_id))
        return start(*args)

    assert say(api, used).status_code == 200
    before = api.count_rows("run"), api.count_rows("message")
    monkeypatch.setattr(api.state.chat.runs, "start", start_late)
    assert refusal(say(api, used)) == (401, "invalid_api_key")
    assert (api.count_rows("run"), api.count_rows("message")) == before


FORM = "multipart/form-data; boundary=B"


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/api/v1/chat", "application/json", b'{"message": "Hello", "username": "alice"}'),
        ("/v1/chat/completions", "application/json", b'{"messages": []}'),
        ("/api/v1/mcp", "application/json", b"{}"),
        ("/api/v1/file", FORM, multipart(b"A")),
        ("/api/v1/files/upload/chunk", FORM, multipart(b"A")),
    ],
    ids=["chat", "completions", "mcp", "upload", "chunk"],
)
def test_a_slow_body_is_refused_after_its_key_was_revoked(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch, path: str, kind: str, body: bytes
) -> None:
    api = make_api(ASTRBOT_OPENAI_AT_ROOT="1")
    monkeypatch.setattr(request_body, "_SLOW_BODY_S", 0.0)
    key = make_key(api)
    key_id = ask(api, key, "/api/v1/keys/self").json["data"]["key_id"]

    def send(revoke: Callable[[], object]) -> int:
        return api.post(
            path, headers={"X-API-Key": key}, content_type=kind, content_length=len(body),
            input_stream=SlowBody(body, revoke),
        ).status_code  # fmt: skip

    assert send(lambda: None) != 401
    assert send(lambda: api.state.db.write(lambda db: keys.revoke_key(db, key_id))) == 401


def test_a_session_key_expires_and_is_removed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    key = mint(api, expires_in_s=60).json["data"]["api_key"]
    now = keys.now_us()
    monkeypatch.setattr("astrbot_api.db.key_secrets.now_us", lambda: now + 61_000_000)
    assert say(api, key).status_code == 401
    monkeypatch.setattr("astrbot_api.db.session_keys.now_us", lambda: now + 2 * keys.DAY_US)
    assert api.state.db.write(session_keys.purge_session_keys) == 1
    assert api.count_rows("api_key") == 1
    assert api.count_rows("api_key_scope") == len(keys.PUBLIC_SCOPES)


def test_ended_session_keys_count_until_they_may_be_removed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_SESSION_KEYS", 2)
    for _ in range(2):
        assert mint(api, expires_in_s=60).status_code == 200
    ended = keys.now_us() + 61_000_000
    monkeypatch.setattr(session_keys, "now_us", lambda: ended)
    refused = mint(api)
    assert (*refusal(refused), refused.headers["Retry-After"]) == (429, "too_many_keys", "60")
    kept_us = session_keys.KEPT_MINUTES * 60_000_000
    monkeypatch.setattr(session_keys, "now_us", lambda: ended + kept_us)
    assert mint(api).status_code == 200


def test_a_session_key_is_removed_after_its_turn(
    make_scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def answer(_: Any) -> list[Delta]:
        begun.set()
        may_end.wait(30)
        return [TextDelta("done")]

    api, _ = make_scripted(answer)
    key = mint(api, expires_in_s=60).json["data"]["api_key"]
    assert say(api, key, response_mode="background").status_code == 202
    assert begun.wait(30)
    now = keys.now_us()
    monkeypatch.setattr(session_keys, "now_us", lambda: now + keys.DAY_US)
    assert api.state.db.write(session_keys.purge_session_keys) == 0
    may_end.set()
    api.state.chat.runs.wait_until_idle(30)
    assert api.state.db.write(session_keys.purge_session_keys) == 1


def test_counting_a_keys_turns_reads_no_list_of_its_session_keys(api: Api) -> None:
    with api.state.db.read() as db:
        plan = explain(db, key_usage.ACTIVE)
    assert not [step for step in plan if "api_key_parent" in step], plan


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"username": None}, 400),
        ({"username": "  "}, 400),
        ({"username": "astrbot"}, 403),
        ({"expires_in_s": 59}, 400),
        ({"expires_in_s": 86_401}, 400),
        ({"expires_in_s": "900"}, 400),
        ({"max_turns": 0}, 400),
        ({"config_id": "none"}, 404),
        ({"scopes": "chat"}, 400),
        ({"scopes": [0]}, 400),
        ({"scopes": ["chat", "im"]}, 400),
        ({"username": "x" * 256}, 400),
        ({"session_id": "x" * 256}, 400),
        ({"max_turns": 1.5}, 400),
        ({"expires_in_s": 900.5}, 400),
    ],
)
def test_an_invalid_session_key_request_is_rejected(
    api: Api, body: dict[str, Any], status: int
) -> None:
    assert mint(api, **body).status_code == status


def test_a_whole_number_with_a_decimal_point_is_accepted(api: Api) -> None:
    made = mint(api, max_turns=20.0, expires_in_s=900.0)
    assert made.status_code == 200
    assert made.json["data"]["rules"]["max_turns"] == 20


def test_a_key_can_read_its_rules_and_remaining_limits(api: Api) -> None:
    key = make_key(api, "chat", turns_per_day=5, requests_per_minute=30)
    say(api, key)
    told = ask(api, key, "/api/v1/keys/self").json["data"]
    assert told["scopes"] == ["chat"]
    assert told["rules"] == {"turns_per_day": 5, "requests_per_minute": 30}
    assert told["left"] == {"turns_per_day": 4, "requests_per_minute": 28}
    assert told["used"]["turns_today"] == 1
    plain = ask(api, api.key, "/api/v1/keys/self").json["data"]
    assert (plain["rules"], plain["left"], plain["is_session_key"]) == ({}, {}, False)


# CORS


def preflight(api: Api, origin: str) -> TestResponse:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return api.client.options("/api/v1/chat", headers=headers)


def test_an_allowed_origin_may_send_requests(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_CORS_ORIGINS="https://shop.example")
    allowed = preflight(api, "https://shop.example")
    assert allowed.status_code == 204
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert "X-API-Key" in allowed.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in allowed.headers
    headers = {"Origin": "https://shop.example", "X-API-Key": api.key}
    answer = api.client.get("/api/v1/configs", headers=headers)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert "Origin" in answer.headers["Vary"]
    refused = api.client.get("/api/v1/configs", headers={"Origin": "https://shop.example"})
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == "https://shop.example"


def test_an_allowed_origin_may_send_the_requested_headers(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_CORS_ORIGINS="https://shop.example")
    headers = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}

    def allowed(asked: str) -> str:
        asking = {**headers, "Access-Control-Request-Headers": asked}
        return api.client.options("/api/v1/chat", headers=asking).headers[
            "Access-Control-Allow-Headers"
        ]

    assert allowed("authorization,x-stainless-os,traceparent") == (
        "authorization, x-stainless-os, traceparent"
    )
    assert allowed("x-a, bad name, <b>, x-b") == "x-a, x-b"
    assert "X-API-Key" in allowed(", ,")
    assert "x-a" not in allowed(",".join(["x-a"] * 2000))
    asking = {**headers, "Origin": "https://evil.example", "Access-Control-Request-Headers": "x-a"}
    refused = api.client.options("/api/v1/chat", headers=asking)
    assert "Access-Control-Allow-Headers" not in refused.headers


def test_pages_may_read_the_documented_headers(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_CORS_ORIGINS="*")
    answer = api.client.get("/api/v1/configs", headers={"Origin": "https://any.example"})
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"X-Run-ID", "X-Delivery-ID", "Retry-After", "X-Request-ID"} <= set(exposed)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/v1/nothing", "/api/stat/versions"])
def test_pages_can_read_the_errors_of_unknown_paths(
    make_api: Callable[..., Api], path: str
) -> None:
    api = make_api(ASTRBOT_CORS_ORIGINS="https://shop.example", ASTRBOT_OPENAI_AT_ROOT=True)
    origin = {"Origin": "https://shop.example"}
    asking = {**origin, "Access-Control-Request-Method": "POST"}
    for answer, status in (
        (api.client.options(path, headers=asking), 204),
        (api.post(path, json={}, headers=origin), 404),
        (api.client.get(path, headers=origin), 401),
    ):
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"


def test_each_401_names_the_scheme(make_api: Callable[..., Api]) -> None:
    """Java's client raises an error instead of showing a 401 without this header."""
    api = make_api(ASTRBOT_OPENAI_AT_ROOT=True)
    for path in ("/api/v1/configs", "/api/v1/mcp", "/v1/models", "/v1/nothing", "/api/apikey/list"):
        for headers in ({}, {"Authorization": "Bearer abk_wrong"}):
            answer = api.client.get(path, headers=headers)
            assert answer.status_code == 401, path
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="AstrBot"'
    assert "WWW-Authenticate" not in api.get("/api/v1/configs").headers


def test_another_origin_gets_no_cors_headers(make_api: Callable[..., Api]) -> None:
    for api in (make_api(ASTRBOT_CORS_ORIGINS="https://shop.example"), make_api()):
        answer = preflight(api, "https://shop.example.evil.example")
        assert "Access-Control-Allow-Origin" not in answer.headers
        owner = api.client.options("/api/apikey/list", headers={"Origin": "https://shop.example"})
        assert "Access-Control-Allow-Origin" not in owner.headers


def test_any_origin_is_a_star_without_credentials(make_api: Callable[..., Api]) -> None:
    answer = preflight(make_api(ASTRBOT_CORS_ORIGINS="*"), "https://any.example")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers

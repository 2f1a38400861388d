"""A key, its session keys and its rotated secret share each limit."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from astrbot_api.config.settings import Settings
from astrbot_api.db import key_secrets, keys
from astrbot_api.keys import rules

from .conftest import Api
from .test_guard_rails import ask, make_key, mint, say

ROOT = Path(__file__).parent.parent.parent

Use = Callable[[Api, str], TestResponse]


def turn(api: Api, key: str) -> TestResponse:
    return say(api, key, session_id="s")


def session(api: Api, key: str) -> TestResponse:
    body = {"username": "alice"}
    return api.client.post("/api/v1/chat/sessions/new", headers={"X-API-Key": key}, json=body)


def run(api: Api, key: str) -> TestResponse:
    """Start a turn that runs until it is stopped."""
    return say(api, key, message="N=1000 DELAY=200", response_mode="background")


def inbox(api: Api, key: str) -> TestResponse:
    """Open a stream that runs until it is closed."""
    return ask(api, key, "/api/v1/chat/inbox?username=alice")


def upload(api: Api, key: str) -> TestResponse:
    file = (io.BytesIO(b"x" * 400), "a.txt")
    return api.client.post("/api/v1/file", headers={"X-API-Key": key}, data={"file": file})


def request(api: Api, key: str) -> TestResponse:
    return ask(api, key, "/api/v1/keys/self")


#: Limit -> its value, a request that uses it up, and the error code. Upper case: a setting.
LIMITS: dict[str, tuple[int, Use, str]] = {
    "requests_per_minute": (3, request, "rate_limited"),
    "streams": (2, run, "rate_limited"),
    "turns_per_day": (2, turn, "budget_exhausted"),
    "tokens_per_day": (20, turn, "budget_exhausted"),
    "max_turns": (2, turn, "budget_exhausted"),
    "max_tokens": (20, turn, "budget_exhausted"),
    "upload_bytes": (1000, upload, "quota_exceeded"),
    "stored_bytes": (5000, session, "quota_exceeded"),
    "sessions": (2, session, "quota_exceeded"),
    "growth_bytes": (3000, session, "rate_limited"),
    "ASTRBOT_MAX_STREAMS_PER_KEY": (2, inbox, "too_many_streams"),
    "ASTRBOT_MAX_RUNS_PER_KEY": (2, run, "too_many_turns"),
    "ASTRBOT_MAX_BYTES_PER_KEY": (1000, upload, "quota_exceeded"),
    "ASTRBOT_MAX_STORED_BYTES_PER_KEY": (5000, session, "quota_exceeded"),
    "ASTRBOT_MAX_SESSIONS_PER_KEY": (2, session, "quota_exceeded"),
    "ASTRBOT_MAX_GROWTH_BYTES_PER_KEY": (3000, session, "rate_limited"),
}


def test_every_limit_is_tested() -> None:
    per_key = {item.name for item in fields(Settings) if item.name.endswith("_per_key")}
    numbers = {item.name for item in fields(rules.KeyRules) if item.type == "int | None"}
    counted = {name for name in numbers if not name.endswith("_per_turn")}
    assert set(LIMITS) == counted | {f"ASTRBOT_{name.upper()}" for name in per_key}


def test_every_limit_is_documented() -> None:
    source = (ROOT / "docs" / "_ext" / "limits_table.py").read_text(encoding="utf-8")
    (table,) = re.findall(r"^LIMITS = (\(\n.*?^\))$", source, re.MULTILINE | re.DOTALL)
    shown = {}
    for rule, setting, _, code in ast.literal_eval(table):
        names = (rule, f"ASTRBOT_{setting.upper()}" if setting else "")
        shown |= dict.fromkeys(filter(None, names), code)
    assert shown == {limit: code for limit, (_, _, code) in LIMITS.items()}


def rotate(api: Api, secret: str) -> str:
    """Rotate a key with a grace period and return the new secret."""
    with api.state.db.read() as db:
        row = key_secrets.find_valid_key(db, secret)
    assert row is not None
    made = api.state.db.write(lambda db: keys.rotate_key(db, row.key_id, grace_s=600))
    assert made is not None
    return made[1]


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_is_shared_by_session_keys_and_rotated_secrets(
    make_api: Callable[..., Api], limit: str
) -> None:
    value, use, code = LIMITS[limit]
    settings: dict[str, Any] = {limit: value} if limit.isupper() else {}
    api = make_api(**settings)
    old = make_key(api, **({} if settings else {limit: value}))
    session_key = mint(api, old).json["data"]["api_key"]
    new = rotate(api, old)
    secrets = [new, old, session_key]
    answers = [use(api, secrets[number % 3]) for number in range(8)]
    refused = [one for one in answers if one.status_code in (413, 429)]
    assert answers[0].status_code in (200, 202), answers[0].get_data()
    # One request of each succeeds, then none: they used up the same limit.
    assert len(refused) >= 8 - 3, [one.status_code for one in answers]
    for secret in secrets:
        last = use(api, secret)
        assert last.status_code in (413, 429)
        assert last.json["code"] == code
        assert limit in last.json["message"] or limit.isupper()
    for one in answers:
        one.close()


def test_a_rotated_key_keeps_its_id_its_files_and_its_sessions(api: Api) -> None:
    old = make_key(api, username="alice")
    before = ask(api, old, "/api/v1/keys/self").json["data"]
    file = upload(api, old).json["data"]["attachment_id"]
    session_key = mint(api, old).json["data"]["api_key"]
    new = rotate(api, old)
    for secret in (old, new):
        own = ask(api, secret, "/api/v1/keys/self").json["data"]
        assert own["key_id"] == before["key_id"]
        assert own["used"]["upload_bytes"] == 400
        assert not own["is_session_key"]
        read = ask(api, secret, f"/api/v1/file?attachment_id={file}")
        assert read.status_code == 200
        read.close()
        assert mint(api, secret).status_code == 200
    assert ask(api, session_key, "/api/v1/keys/self").status_code == 200
    # Without a grace period, every other secret has expired.
    last = api.state.db.write(lambda db: keys.rotate_key(db, before["key_id"]))
    assert last is not None
    statuses = [ask(api, one, "/api/v1/keys/self").status_code for one in (old, new, session_key)]
    assert statuses == [401, 401, 401]
    assert ask(api, last[1], "/api/v1/keys/self").status_code == 200


def test_open_streams_end_when_their_secret_expires(api: Api) -> None:
    def is_valid(secret: str) -> bool:
        name = key_secrets.name_secret(key_id, secret[:12])
        return api.state.keys.usage.list_valid({name}) == {name}

    old = make_key(api)
    key_id = ask(api, old, "/api/v1/keys/self").json["data"]["key_id"]
    new = rotate(api, old)
    assert (is_valid(old), is_valid(new)) == (True, True)
    assert api.state.db.write(lambda db: keys.rotate_key(db, key_id)) is not None
    assert (is_valid(old), is_valid(new)) == (False, False)


def test_changed_rules_also_apply_to_the_old_secret(api: Api) -> None:
    old = make_key(api, "chat", "config")
    key_id = ask(api, old, "/api/v1/keys/self").json["data"]["key_id"]
    rotate(api, old)
    api.state.db.write(lambda db: keys.update_key(db, key_id, {"scopes": ["chat"]}))
    assert ask(api, old, "/api/v1/configs").status_code == 403
    api.state.db.write(lambda db: keys.revoke_key(db, key_id))
    assert ask(api, old, "/api/v1/keys/self").status_code == 401

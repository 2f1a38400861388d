"""Imported keys keep working. Their slow hash is checked once, with a rate limit."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from astrbot_api.cli.main import main
from astrbot_api.config.settings import Settings
from astrbot_api.db.key_secrets import hash_secret
from astrbot_api.db.legacy_keys import LegacyKey, find_legacy_keys, replace_hash
from astrbot_api.db.models.keys import ApiKey
from astrbot_api.db.store import open_store
from astrbot_api.errors import ApiError
from astrbot_api.keys.legacy import LegacyKeys

from ..astrbot_data import KEY, SALT, AstrBotData, hash_key
from .conftest import Api


@pytest.fixture
def run(api: Api, data: AstrBotData) -> Callable[..., Result]:
    """Import the keys into the application's data directory."""

    def run(*arguments: str) -> Result:
        folder = str(api.state.settings.data_dir)
        words = ["import-astrbot", str(data.folder), "--data-dir", folder, "--only", "keys"]
        return CliRunner().invoke(main, [*words, "--apply", *arguments])

    return run


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record each secret whose slow hash is computed."""
    secrets: list[str] = []
    real = LegacyKey.matches

    def matches(self: LegacyKey, secret: str) -> bool:
        secrets.append(secret)
        return real(self, secret)

    monkeypatch.setattr(LegacyKey, "matches", matches)
    return secrets


def use_clock(api: Api, now: Callable[[], float]) -> None:
    """Set the clock that limits checks of imported keys."""
    keys = replace(api.state.keys, legacy=LegacyKeys(api.state.db, now))
    api.app.extensions["astrbot_api"] = replace(api.state, keys=keys)


def _status(api: Api, secret: str) -> int:
    return api.client.get("/api/v1/im/bots", headers={"X-API-Key": secret}).status_code


def _wrong(number: int) -> str:
    return f"{KEY[:12]}wrong{number}"


def test_an_imported_key_works_and_its_hash_is_replaced_at_once(
    api: Api, data: AstrBotData, run: Callable[..., Result], hashed: list[str]
) -> None:
    data.add_key("k1", name="my bot")
    run()
    assert _status(api, KEY) == 200
    assert _status(api, KEY) == 200
    assert hashed == [KEY]
    assert api.count_rows("legacy_key") == 0
    with api.state.db.read() as db:
        row = db.execute_sql("SELECT name, digest FROM api_key WHERE key_id = 'k1'").fetchone()
    assert row == ("my bot", hash_secret(KEY))


def test_scopes_prefix_and_times_are_kept(
    api: Api, data: AstrBotData, run: Callable[..., Result]
) -> None:
    data.add_key(
        "k1", scopes='["chat", "chat:admin", "data", "magic"]', expires_at="2099-01-01 00:00:00"
    )
    run()
    assert _status(api, KEY) == 403
    folder = str(api.state.settings.data_dir)
    listed = json.loads(
        CliRunner().invoke(main, ["keys", "list", "--json", "--data-dir", folder]).stdout
    )
    (key,) = (one for one in listed if one["key_id"] == "k1")
    assert key["scopes"] == ["chat", "data"]
    assert key["key_prefix"] == KEY[:12]
    assert key["created_at"] == "2026-11-23T16:41:51.000001+00:00"
    assert key["expires_at"] == "2099-01-01T00:00:00.000000+00:00"


def test_unknown_keys_never_cost_a_slow_hash(
    api: Api, data: AstrBotData, run: Callable[..., Result], hashed: list[str]
) -> None:
    data.add_key("k1")
    run()
    assert _status(api, api.key) == 200
    assert _status(api, "abk_unknown_key_of_another_prefix") == 401
    assert _status(api, KEY[:11]) == 401
    assert _status(api, f"{KEY[:12]}{'x' * 500}") == 401
    for odd in (f"{KEY[:6]}\x00{KEY}", f"{KEY[:12]}\u00e9"):
        found = api.client.get("/api/v1/im/bots", query_string={"key": odd})
        assert found.status_code == 401
    assert hashed == []


def test_invalid_keys_cannot_use_up_the_cpu(
    api: Api, data: AstrBotData, run: Callable[..., Result], hashed: list[str]
) -> None:
    now = [0.0]
    use_clock(api, lambda: now[0])
    data.add_key("k1")
    run()
    assert [_status(api, _wrong(at)) for at in range(8)] == [401] * 5 + [503] * 3
    assert len(hashed) == 5
    # A client that repeats its request costs nothing and gets the correct response.
    assert [_status(api, _wrong(0)) for _ in range(3)] == [401] * 3
    assert len(hashed) == 5
    answer = api.client.get("/api/v1/im/bots", headers={"X-API-Key": KEY})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    now[0] += 2
    assert _status(api, KEY) == 200


def test_many_keys_under_attack_share_one_budget(
    api: Api, data: AstrBotData, run: Callable[..., Result], hashed: list[str]
) -> None:
    use_clock(api, lambda: 0.0)
    secrets = [f"abk_{at:08d}rest" for at in range(8)]
    for secret in secrets:
        data.add_key(secret[4:12], secret)
    run()
    for at in range(5):
        for secret in secrets:
            _status(api, f"{secret[:12]}wrong{at}")
    assert len(hashed) == 20


@pytest.mark.parametrize(
    "ended", [{"revoked_at": "2026-11-23 00:00:00"}, {"expires_at": "2026-01-01 00:00:00"}]
)
def test_an_expired_key_stays_expired_and_is_not_hashed(
    api: Api, data: AstrBotData, run: Callable[..., Result], hashed: list[str],
    ended: dict[str, str],
) -> None:  # fmt: skip
    data.add_key("k1", **ended)
    run()
    assert _status(api, KEY) == 401
    assert hashed == []


@pytest.mark.parametrize("verb", ["revoke", "delete"])
def test_a_key_revoked_before_its_first_use_is_rejected(
    api: Api, data: AstrBotData, run: Callable[..., Result], verb: str
) -> None:
    data.add_key("k1")
    run()
    folder = str(api.state.settings.data_dir)
    CliRunner().invoke(main, ["keys", verb, "k1", "--data-dir", folder])
    assert _status(api, KEY) == 401
    with api.state.db.read() as db:
        assert find_legacy_keys(db, KEY[:12]) == []


def test_simultaneous_first_uses_cost_one_hash(
    api: Api, data: AstrBotData, run: Callable[..., Result], hashed: list[str]
) -> None:
    data.add_key("k1")
    run()

    def use(_: int) -> int:
        return api.app.test_client().get(
            "/api/v1/im/bots", headers={"X-API-Key": KEY}
        ).status_code  # fmt: skip

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(use, range(16))) == {200}
    assert hashed == [KEY]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_workers_that_check_one_key_simultaneously_agree(
    api: Api, data: AstrBotData, request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    url = f"sqlite:///{tmp_path / 'two.db'}"
    if database == "postgres":
        url = request.getfixturevalue("postgres_url")
    data.add_key("k1")
    env = {"ASTRBOT_DATABASE_URL": url}
    words = ["import-astrbot", str(data.folder), "--data-dir", str(tmp_path / "d"), "--apply"]
    assert CliRunner().invoke(main, words, env=env).exit_code == 0
    workers = [open_store(Settings(database_url=url)) for _ in range(4)]

    def check(at: int) -> str | None:
        found = LegacyKeys(workers[at]).find(KEY)
        return found and found.key_id

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(check, range(4))) == {"k1"}
    late = LegacyKeys(workers[0]).find(KEY)
    assert late is not None, "its caller looked before the hash was replaced"
    # A second write of a slower worker changes nothing.
    workers[0].write(lambda db: replace_hash(db, "k1", KEY))
    with workers[0].read() as db:
        assert db.execute_sql("SELECT digest FROM api_key").fetchall() == [(hash_secret(KEY),)]
        assert db.execute_sql("SELECT COUNT(*) FROM legacy_key").fetchone()[0] == 0
    for one in workers:
        one.close()


def test_the_secret_of_another_key_does_not_open_an_imported_key(
    api: Api, data: AstrBotData, run: Callable[..., Result]
) -> None:
    data.add_key("k1")
    run()
    other = ApiKey.update(digest=hash_secret(KEY), revoked_at=1).where(ApiKey.key_id != "k1")
    assert api.state.db.write(lambda db: other.execute(db)) == 1
    assert _status(api, KEY) == 401


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


_RAW = bytes(range(16))


def _forms(secret: str) -> list[dict[str, object]]:
    """Return the hash of a secret in each supported format."""
    digest = hashlib.pbkdf2_hmac("sha256", secret.encode(), _RAW, 100_000)
    short = hashlib.pbkdf2_hmac("sha512", secret.encode(), b"pepper", 5000)
    plain = hash_key(secret)
    return [
        {"key_hash": plain, "salt": SALT},
        {"key_hash": digest.hex(), "salt": _RAW.hex()},
        {"key_hash": digest, "salt": _RAW},
        {"key_hash": _b64(digest), "salt": _b64(_RAW)},
        {"key_hash": f"{_RAW.hex()}${digest.hex()}", "salt": None},
        {"key_hash": f"{_b64(_RAW)}:{_b64(digest)}", "salt": None},
        {"key_hash": f"pbkdf2_sha256$100000${SALT}${_b64(bytes.fromhex(plain))}"},
        {"key_hash": f"pbkdf2:sha512:5000$pepper${short.hex()}"},
    ]


def test_every_common_form_of_a_hash_is_read(
    api: Api, data: AstrBotData, run: Callable[..., Result]
) -> None:
    secrets = [f"abk_{form:08d}-and-the-rest" for form in range(8)]
    for form, secret in enumerate(secrets):
        data.add_key(f"k{form}", secret, **_forms(secret)[form])
    run()
    for secret in secrets:
        assert _status(api, f"{secret}x") == 401
        assert _status(api, secret) == 200, secret


def test_a_hash_without_its_salt_is_skipped_until_the_salt_is_given(
    api: Api, data: AstrBotData, run: Callable[..., Result]
) -> None:
    data.add_key("k1", key_hash=hash_key(KEY, b"fixed"), salt=None)
    assert "its salt is not in the database; give --key-salt" in run().stdout
    assert _status(api, KEY) == 401
    run("--key-salt", f"hex:{b'fixed'.hex()}")
    assert _status(api, KEY) == 200
    assert run("--key-salt", "hex:no").exit_code == 2


def test_a_known_key_reveals_how_the_others_are_salted(
    api: Api, data: AstrBotData, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "abk_OtherKey_and_more"
    for key_id, secret in (("k1", KEY), ("k2", other)):
        data.add_key(key_id, secret, key_hash=hash_key(secret, key_id.encode()), salt="unused")
    monkeypatch.setenv("ASTRBOT_KNOWN_KEY", f"{KEY}-mistyped")
    refused = run()
    assert refused.exit_code == 2
    assert "matches no hash" in refused.stderr
    assert KEY not in refused.output
    monkeypatch.setenv("ASTRBOT_KNOWN_KEY", KEY)
    done = run()
    assert "the known key matches with the key's id as the salt" in done.stdout
    assert KEY not in done.output
    assert _status(api, other) == 200


def test_an_unreadable_key_is_skipped(
    api: Api, data: AstrBotData, run: Callable[..., Result]
) -> None:
    odd: list[tuple[dict[str, Any], str]] = [
        ({"key_hash": "x"}, "skipped 2: its hash has an unknown format"),
        ({"key_hash": None}, "skipped 2: its hash has an unknown format"),
        ({"key_hash": f"pbkdf2_sha256$999999999$a${'00' * 32}"}, "(sha256, 999999999 rounds)"),
        ({"key_hash": f"pbkdf2_sha257$1000$a${'00' * 32}"}, "(sha257, 1000 rounds)"),
        ({"scopes": "[]"}, "skipped 2: it has none of the scopes"),
        ({"scopes": None}, "skipped 2: it has none of the scopes"),
        ({"key_prefix": "abk_"}, "its prefix does not have 12 characters"),
        ({"expires_at": "soon"}, "its expiry time is not valid"),
    ]
    for at, (columns, _) in enumerate(odd):
        data.add_key(f"bad{at}", f"abk_{at:08d}", **columns)
    data.add_key("good", "abk_GoodKey_and_more")
    told = run().stdout
    assert f"1 imported, 0 already here, {len(odd)} skipped" in told
    for _, reason in odd:
        assert reason in told
    assert _status(api, "abk_GoodKey_and_more") == 200


def test_the_queue_of_checks_is_bounded(
    api: Api, data: AstrBotData, run: Callable[..., Result]
) -> None:
    data.add_key("k1")
    run()
    legacy = api.state.keys.legacy
    while legacy._places.acquire(blocking=False):
        pass
    with pytest.raises(ApiError, match="try again in two seconds"):
        legacy.find(KEY)

"""Keys: their place in requests, scopes, and the command line."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from astrbot_api.cli.main import main
from astrbot_api.db import key_secrets, key_usage, keys
from astrbot_api.db.audit import list_entries
from astrbot_api.errors import OutcomeUnknown, StorageError

from ..query_plans import explain
from .conftest import Api


@pytest.fixture
def run_keys(tmp_path: Path) -> Callable[..., Result]:
    """Run ``astrbot-api keys …`` with the test's data directory."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["keys", *arguments, "--data-dir", str(tmp_path)])

    return run


def _status(api: Api, headers: dict[str, str] | None = None, query: str = "") -> int:
    return api.client.get(f"/api/v1/im/bots{query}", headers=headers or {}).status_code


def test_every_carrier_of_a_key_is_accepted(api: Api) -> None:
    assert _status(api, query=f"?api_key={api.key}") == 200
    assert _status(api, query=f"?key={api.key}") == 200
    assert _status(api, {"X-API-Key": api.key}) == 200
    for scheme in ("Bearer", "bearer", "BEARER", "ApiKey", "apikey"):
        assert _status(api, {"Authorization": f"{scheme} {api.key}"}) == 200
    # Clients of Azure send it, also where a proxy asks for a password.
    assert _status(api, {"api-key": api.key, "Authorization": "Basic YTpi"}) == 200
    assert _status(api, {"api-key": "abk_wrong"}) == 401


def test_an_invalid_key_is_not_replaced_by_a_later_carrier(api: Api) -> None:
    assert _status(api, {"X-API-Key": api.key}, "?api_key=abk_wrong") == 401
    assert _status(api, {"X-API-Key": "abk_wrong", "Authorization": f"Bearer {api.key}"}) == 401
    assert _status(api, {"Authorization": "Bearer abk_wrong", "api-key": api.key}) == 401


def test_the_secret_is_stored_nowhere(api: Api) -> None:
    data = b"".join(
        path.read_bytes() for path in api.state.settings.data_dir.rglob("*") if path.is_file()
    )
    assert hashlib.sha256(api.key.encode()).hexdigest().encode() in data
    assert api.key.encode() not in data


def test_a_key_is_checked_by_one_indexed_read(api: Api) -> None:
    with api.state.db.read() as db:
        plan = explain(db, key_secrets.FIND_VALID)
    assert not [step for step in plan if "SCAN" in step]
    assert [step for step in plan if "USING INDEX" in step and "digest" in step]


@pytest.mark.parametrize(
    ("error", "counted"), [(StorageError("It is full."), 1), (OutcomeUnknown("Perhaps."), 0)]
)
def test_usage_is_counted_after_an_outage_but_never_twice(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: StorageError, counted: int
) -> None:
    def fail(job: Any) -> Any:
        raise error

    usage = api.state.keys.usage
    api.state.worker.chores.close()
    api.get("/api/v1/keys/self")
    with monkeypatch.context() as patched:
        patched.setattr(api.state.db, "write", fail)
        with pytest.raises(StorageError):
            usage.flush()
    usage.flush()
    with api.state.db.read() as db:
        days, entries = key_usage.list_days(db, 1), list_entries(db)
    assert sum(one["requests"] for one in days) == counted
    uses = [one for one in entries if one["action"] == "key_first_used"]
    assert [one["address"] for one in uses] == ["127.0.0.1"] * counted


def test_the_command_line_creates_lists_and_revokes_keys(run_keys: Callable[..., Result]) -> None:
    made = json.loads(run_keys("create", "bot", "--scope", "chat", "--json").stdout)
    assert made["api_key"].startswith("abk_")
    assert len(made["api_key"]) == 47
    assert made["key_prefix"] == made["api_key"][:12]
    assert made["scopes"] == ["chat"]
    listed = json.loads(run_keys("list", "--json").stdout)
    assert listed == [{key: value for key, value in made.items() if key != "api_key"}]
    assert made["api_key"] not in run_keys("list").stdout
    assert run_keys("revoke", made["key_id"]).exit_code == 0
    assert json.loads(run_keys("list", "--json").stdout)[0]["is_revoked"]
    assert run_keys("delete", made["key_id"]).exit_code == 0
    assert json.loads(run_keys("list", "--json").stdout) == []


def test_the_default_scopes_are_the_four_public_ones(run_keys: Callable[..., Result]) -> None:
    made = json.loads(run_keys("create", "bot", "--json").stdout)
    assert made["scopes"] == ["chat", "config", "file", "im"]


@pytest.mark.parametrize("verb", ["revoke", "delete", "rotate"])
def test_an_unknown_key_is_an_error_that_names_it(
    run_keys: Callable[..., Result], verb: str
) -> None:
    done = run_keys(verb, "no-such")
    assert done.exit_code == 1
    assert "no-such" in done.stderr


def test_a_session_key_of_an_old_secret_ends_with_it(api: Api) -> None:
    def mint(key: str) -> datetime:
        body = {"username": "alice", "expires_in_s": 86_400}
        answer = api.client.post("/api/v1/keys/session", headers={"X-API-Key": key}, json=body)
        return datetime.fromisoformat(answer.json["data"]["expires_at"])

    now = datetime.now(UTC)
    with api.state.db.read() as db:
        (only,) = keys.list_keys(db)
    rotated = api.state.db.write(lambda db: keys.rotate_key(db, only["key_id"], grace_s=3600))
    assert rotated
    assert timedelta(minutes=59) < mint(api.key) - now < timedelta(minutes=61)
    assert mint(rotated[1]) - now > timedelta(hours=23)


def test_an_old_secret_expires_at_once_or_after_its_grace_period(api: Api) -> None:
    def rotate(grace_s: int) -> tuple[dict[str, Any], str]:
        with api.state.db.read() as db:
            newest = next(one for one in keys.list_keys(db) if not one["is_revoked"])
        rotated = api.state.db.write(
            lambda db: keys.rotate_key(db, newest["key_id"], grace_s=grace_s)
        )
        assert rotated
        return rotated

    _, second = rotate(0)
    assert _status(api, {"X-API-Key": api.key}) == 401
    assert _status(api, {"X-API-Key": second}) == 200
    new, third = rotate(3600)
    assert _status(api, {"X-API-Key": second}) == 200
    assert _status(api, {"X-API-Key": third}) == 200
    assert new["scopes"] == list(keys.PUBLIC_SCOPES)


def test_an_invalid_setting_ends_the_command_with_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASTRBOT_HEARTBEAT_S", "never")
    done = CliRunner().invoke(main, ["keys", "list", "--data-dir", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr.strip().startswith("astrbot-api: ASTRBOT_HEARTBEAT_S must be")
    assert "\n" not in done.stderr.strip()


def test_a_command_in_another_folder_than_the_servers_says_that_its_database_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ASTRBOT_DATA_DIR", "ASTRBOT_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    new = f"New database: {tmp_path}/data/astrbot.db. For another server, use --data-dir.\n"
    for said in (new, ""):
        done = CliRunner().invoke(main, ["keys", "list"])
        assert (done.exit_code, done.stdout, done.stderr) == (0, "", said)


def test_a_file_that_cannot_be_opened_ends_the_command_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "astrbot.db.lock").mkdir()  # as after a restore, where it belongs to another user
    done = CliRunner().invoke(main, ["db", "upgrade", "--data-dir", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr == f"astrbot-api: {tmp_path / 'astrbot.db.lock'}: Is a directory\n"


@pytest.mark.parametrize("command", ["db upgrade", "keys list"])
def test_a_command_names_the_database_that_it_cannot_read(tmp_path: Path, command: str) -> None:
    path = tmp_path / "astrbot.db"
    path.write_bytes(b"no database" * 100)
    # In its own process: pytest's log handlers hide a second line of the log.
    arguments = ["-m", "astrbot_api", *command.split(), "--data-dir", str(tmp_path)]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"astrbot-api: database {path}: file is not a database\n"


def test_check_finds_an_invalid_file_and_creates_nothing(tmp_path: Path) -> None:
    command = ["check", "--data-dir", str(tmp_path / "data")]
    assert "there is no folder" in CliRunner().invoke(main, command).stderr
    assert not (tmp_path / "data").exists()
    (tmp_path / "data").mkdir()
    assert CliRunner().invoke(main, command).exit_code == 0
    for name in ("bots.toml", "webhooks.toml", "configs/other.toml"):
        (tmp_path / "data" / name).write_text("[", encoding="utf-8")
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 2
        assert done.stderr.startswith(f"astrbot-api: {name}: ")
        (tmp_path / "data" / name).unlink()

"""``astrbot-api doctor`` reports working parts, faults and remedies."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from astrbot_api.cli import main as cli
from astrbot_api.cli.main import main
from astrbot_api.config.files import ConfigFiles
from astrbot_api.db import deliveries, delivery_claims, keys
from astrbot_api.db.sqlite_store import SqliteStore
from astrbot_api.testing.fake_telegram import FakeTelegram

from ..mcp_servers.running import run_http_server
from ..postgres import Postgres
from ..redis_server import RedisServer
from ..servers import serve
from ..strict_endpoint import StrictEndpoint, say

_WEBHOOK = """
[[webhook]]
id = "crm"
url = "http://crm.test/hook"
secret = "a-secret-of-sixteen-or-more"
"""


def run_doctor(folder: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["doctor", "--data-dir", str(folder), *options])
    return done.exit_code, done.output


def find(folder: Path, *options: str) -> dict[str, dict[str, Any]]:
    _, output = run_doctor(folder, "--json", *options)
    return {one["what"]: one for one in json.loads(output)}


def prepare(folder: Path) -> SqliteStore:
    ConfigFiles(folder).create_default()
    store = SqliteStore(folder / "astrbot.db")
    store.upgrade()
    return store


def test_a_healthy_server_has_status_0(tmp_path: Path) -> None:
    store = prepare(tmp_path)
    store.write(lambda db: keys.create_key(db, "k", ["chat"], created_by="test"))
    store.close()
    status, output = run_doctor(tmp_path)
    assert status == 0
    assert "ok    database: sqlite, up to date" in output
    assert "ok    keys: 1 valid of 1" in output
    assert "ok    config default: provider auto (auto)" in output
    assert "off   config default, provider auto: not checked: `serve` finds an Ollama or" in output


def test_a_model_url_without_a_scheme_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path).close()
    monkeypatch.setenv("ASTRBOT_MODEL_URL", "127.0.0.1:11434")
    found = find(tmp_path)["config default, provider auto"]
    assert (found["state"], found["text"][:35]) == ("fail", "ASTRBOT_MODEL_URL must be http://HO")


def test_a_missing_key_hides_no_other_fault_of_its_config(tmp_path: Path) -> None:
    prepare(tmp_path).close()
    table = (
        '[provider]\ntype = "openai"\nbase_url = "http://127.0.0.1:1"\napi_key_env = "NOPE"\n'
        '[providers.b]\ntype = "mock"\n[mcp.wiki]\nurl = "http://127.0.0.1:1"\n'
    )
    (tmp_path / "configs" / "default.toml").write_text(table)
    found = find(tmp_path)
    assert found["config default, provider openai"] == {
        "what": "config default, provider openai",
        "state": "fail",
        "text": "no API key",
        "remedy": "set the variable NOPE",
    }
    assert found["config default, provider b"]["state"] == "ok"
    assert found["MCP server wiki"]["state"] == "fail"


def test_offline_asks_no_astrbot(tmp_path: Path) -> None:
    prepare(tmp_path).close()
    table = '[upstream]\nbase_url = "http://127.0.0.1:1"\napi_key = "abk_x"\n'
    (tmp_path / "configs" / "default.toml").write_text(table)
    assert find(tmp_path, "--offline")["config default"]["state"] == "off"
    assert find(tmp_path)["config default"]["state"] == "fail"


def test_a_database_of_a_newer_version_is_a_warning(tmp_path: Path) -> None:
    store = prepare(tmp_path)
    sql = "INSERT INTO schema_migration (name, applied) VALUES ('9999_later', '2026-01-01')"
    store.write(lambda db: db.execute_sql(sql))
    store.close()
    status, output = run_doctor(tmp_path, "--offline")
    assert status == 1
    text = "warn  database: a newer version has migrated the database: 9999_later\n      -> Install"
    assert text in output


def test_a_misspelt_variable_is_named_with_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path).close()
    for name in ("MODEL_URL", "GRACEFUL_TIMEOUT_S", "LOG_LEVEL", "KEY", "URL", "HEARTBEAT_S"):
        monkeypatch.setenv(f"ASTRBOT_{name}", "1")
    assert "environment" not in find(tmp_path, "--offline")
    monkeypatch.setenv("ASTRBOT_CORS_ORIGIN", "https://shop.example")
    status, output = run_doctor(tmp_path, "--offline")
    assert status == 1
    assert (
        "warn  environment: ASTRBOT_CORS_ORIGIN is no setting and has no effect\n"
        "      -> rename it to ASTRBOT_CORS_ORIGINS\n"
    ) in output
    monkeypatch.delenv("ASTRBOT_CORS_ORIGIN")
    for name, remedy in (
        ("GRACEFUL_TIMEOUT", "rename it to ASTRBOT_GRACEFUL_TIMEOUT_S"),
        ("ADMIN_PASS", "rename it to ASTRBOT_ADMIN_PASSWORD"),
        ("DATABASE", "rename it to ASTRBOT_DATABASE_URL"),
        ("PORT", "use serve's option --port, or gunicorn's -b"),
        ("WORKERS", "rename it to WEB_CONCURRENCY"),
    ):
        monkeypatch.setenv(f"ASTRBOT_{name}", "60")
        text = f"ASTRBOT_{name} is no setting and has no effect; {remedy}\n"
        assert text in CliRunner().invoke(main, ["check", "--data-dir", str(tmp_path)]).stderr


def test_check_names_an_invalid_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path).close()
    monkeypatch.setenv("WEB_CONCURRENCY", "two")
    checked = CliRunner().invoke(main, ["check", "--data-dir", str(tmp_path)])
    assert checked.exit_code == 2
    assert "WEB_CONCURRENCY must be a whole number from 1 to 64; got 'two'" in checked.stderr


def test_a_disk_too_full_for_new_data_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path).close()
    monkeypatch.setenv("ASTRBOT_MIN_FREE_BYTES", str(2**62))
    found = find(tmp_path, "--offline")["data directory"]
    assert found["state"] == "fail"
    assert found["text"].endswith("less than ASTRBOT_MIN_FREE_BYTES: new data is rejected")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    prepare(tmp_path).close()
    (tmp_path / "astrbot.db").write_bytes(b"no database" * 100)
    text = f"database {tmp_path / 'astrbot.db'}: file is not a database"
    assert find(tmp_path, "--offline")["database"]["text"] == text


@pytest.mark.parametrize(
    ("name", "lacks"),
    [("astrbot.db-wal", "writable"), ("secret.key", "readable"), ("bots.toml", "readable"),
     ("configs/default.toml", "readable"), ("plugins", "readable")],
)  # fmt: skip
def test_a_file_of_another_user_is_named(
    name: str, lacks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path).close()
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda one, mode: Path(one) != path and allowed(one, mode))
    found = find(tmp_path, "--offline")[f"file {name}"]
    assert (found["state"], found["text"], found["remedy"]) == (
        "fail", f"{path} is not {lacks}", "give it to the server's user (chown)",
    )  # fmt: skip


def test_a_folder_that_takes_no_files_is_reported_and_a_missing_one_not_made(
    tmp_path: Path,
) -> None:
    prepare(tmp_path).close()
    assert find(tmp_path, "--offline")["storage"]["state"] == "ok"
    assert not (tmp_path / "files").exists()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "tmp").write_bytes(b"")  # unusable for root, too
    found = find(tmp_path, "--offline")["storage"]
    assert found["state"] == "fail"
    assert found["text"].startswith(f"files cannot be stored in {tmp_path / 'files' / 'tmp'}: ")


@pytest.mark.parametrize(
    ("endpoint", "cause"),
    [("127.0.0.1:9", "Invalid endpoint: 127.0.0.1:9"), ("http://127.0.0.1:9", "Could not connect")],
)
def test_the_reason_of_an_object_store_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, cause: str
) -> None:
    pytest.importorskip("boto3")
    prepare(tmp_path).close()
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "DEFAULT_REGION"):
        monkeypatch.setenv(f"AWS_{name}", "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("ASTRBOT_STORAGE_URL", "s3://bucket")
    found = find(tmp_path, "--offline")["storage"]
    assert found["text"].startswith(f"object store: {cause}")
    assert "AWS variables" in found["text"]


def test_a_damaged_database_and_secret_are_reported(tmp_path: Path) -> None:
    prepare(tmp_path).close()
    (tmp_path / "secret.key").touch()
    with (tmp_path / "astrbot.db").open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 20 * 4096)
    found = find(tmp_path, "--offline")
    assert found["secret"]["text"].startswith("secret.key: too short; remove the file")
    assert found["database"]["state"] == "fail"
    assert "it is damaged (" in found["database"]["text"]


def test_findings_are_shown_before_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> Iterator[None]:
        yield from ()
        raise PermissionError(13, "Permission denied", str(folder))

    prepare(tmp_path).close()
    monkeypatch.setattr(cli, "iter_plugin_findings", fail)
    _, output = run_doctor(tmp_path, "--offline")
    assert "ok    storage: " in output


def test_a_missing_config_is_reported_and_not_made(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "astrbot.db")
    store.upgrade()
    store.close()
    assert find(tmp_path, "--offline")["configs"]["remedy"] == "start the server once"
    assert not (tmp_path / "configs").exists()


def test_a_missing_folder_is_reported_and_not_made(tmp_path: Path) -> None:
    status, output = run_doctor(tmp_path / "gone")
    assert status == 1
    assert "fail  data directory: " in output
    assert not (tmp_path / "gone").exists()


def test_a_database_that_is_not_there_is_reported_and_not_made(tmp_path: Path) -> None:
    ConfigFiles(tmp_path).create_default()
    status, output = run_doctor(tmp_path)
    assert status == 1
    assert "fail  database: it does not exist yet\n      -> start the server once" in output
    assert not (tmp_path / "astrbot.db").exists()


@pytest.mark.parametrize(
    ("commands", "undo", "state", "text", "remedy"),
    [
        ([], [], "ok", "it answers", ""),
        (
            ["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"],
            "fail", "it is a replica, which rejects writes",
            "set the address of the primary in ASTRBOT_REDIS_URL",
        ),
        (
            ["CONFIG SET maxmemory 100mb", "CONFIG SET maxmemory-policy allkeys-lru"],
            ["CONFIG SET maxmemory 0", "CONFIG SET maxmemory-policy noeviction"],
            "warn", "it may delete events of running turns (maxmemory-policy allkeys-lru)",
            "set maxmemory-policy noeviction",
        ),
        (
            ["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"],
            "warn", "its memory is ", "raise maxmemory, or lower ASTRBOT_RUN_LOG_KEEP_S",
        ),
        (
            ["CONFIG SET min-replicas-to-write 1"], ["CONFIG SET min-replicas-to-write 0"],
            "fail", "NOREPLICAS ", "correct Redis' configuration, or ASTRBOT_REDIS_URL",
        ),
    ],
)  # fmt: skip
def test_a_redis_that_cannot_keep_the_events_is_reported(
    tmp_path: Path,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    commands: list[str],
    undo: list[str],
    state: str,
    text: str,
    remedy: str,
) -> None:
    prepare(tmp_path).close()
    monkeypatch.setenv("ASTRBOT_REDIS_URL", redis_server.url)
    client = redis.Redis.from_url(redis_server.url)
    try:
        for command in commands:
            client.execute_command(*command.split())
        found = find(tmp_path)["redis"]
    finally:
        for command in undo:
            client.execute_command(*command.split())
        client.close()
    assert (found["state"], found["remedy"]) == (state, remedy)
    assert found["text"].startswith(text)


@pytest.mark.parametrize(
    ("rules", "state", "text", "remedy"),
    [
        ("~astrbot:* &astrbot:* +@all -@dangerous", "ok", "it answers; role and memory not ", ""),
        # The texts of Redis 7 and 8 differ in their first words.
        ("~other:* &* +@all", "fail", "o permissions", "allow the user ~astrbot:*"),
        ("~* resetchannels +@all", "fail", "o permissions", "allow the user ~astrbot:*"),
        ("~* &* +@all -@scripting", "fail", "o permissions", "allow the user ~astrbot:*"),
        ("~* &* +@all -@write", "fail", "o permissions", "allow the user ~astrbot:*"),
        ("resetpass >other", "fail", "invalid username", "correct the user and the password"),
    ],
)
def test_a_redis_user_needs_only_the_servers_prefix(
    tmp_path: Path,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    rules: str,
    state: str,
    text: str,
    remedy: str,
) -> None:
    prepare(tmp_path).close()
    with redis.Redis.from_url(redis_server.url) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", *rules.split())
        try:
            address = redis_server.url.replace("unix://", "unix://app:pw@")
            monkeypatch.setenv("ASTRBOT_REDIS_URL", address)
            found = find(tmp_path)["redis"]
        finally:
            client.execute_command("ACL", "DELUSER", "app")
    assert found["state"] == state
    assert text in found["text"]
    assert found["remedy"].startswith(remedy)


def test_workers_that_may_open_too_many_connections_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres
) -> None:
    url = postgres.create_database()
    name = url.partition("?")[0].rpartition("/")[2]
    monkeypatch.setenv("ASTRBOT_DATABASE_URL", url)
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    postgres.run_sql(f"ALTER DATABASE {name} CONNECTION LIMIT 58")
    assert "connections" not in find(tmp_path, "--offline")
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    found = find(tmp_path, "--offline")["connections"]
    assert (found["state"], found["text"]) == (
        "warn", "PostgreSQL allows 58, and 3 workers may open 87",
    )  # fmt: skip
    monkeypatch.setenv("ASTRBOT_REDIS_URL", "redis://127.0.0.1:1")
    assert find(tmp_path, "--offline")["connections"]["text"].endswith("open 66")


def test_what_is_to_do_stands_below_what_is_wrong(tmp_path: Path) -> None:
    prepare(tmp_path).close()
    (tmp_path / "configs" / "bad.toml").write_text("[agent]\nmax_steps = 'x'\n")
    (tmp_path / "bots.toml").write_text(
        "[[bot]]\nid = 'tg'\ntype = 'telegram'\ntoken_env = 'NOT_SET'\n"
        "[[bot]]\nid = 'off'\ntype = 'telegram'\nenabled = false\n"
    )
    (tmp_path / "webhooks.toml").write_text("[[webhook]]\nid = 'x'\n")
    status, output = run_doctor(tmp_path)
    assert status == 1
    assert "fail  config bad: configs/bad.toml: agent.max_steps: Not a valid integer." in output
    assert "fail  bot tg: bots.toml: bot tg: token_env: the variable NOT_SET is not set" in output
    assert "off   bot off: telegram, disabled" in output
    assert "fail  webhooks: webhooks.toml: webhook 1: url: Missing data" in output
    assert "      -> correct this line" in output


def test_the_last_delivery_of_a_bot_and_a_webhook_is_reported(tmp_path: Path) -> None:
    store = prepare(tmp_path)
    (tmp_path / "bots.toml").write_text(
        "[[bot]]\nid = 'tg'\ntype = 'telegram'\ntoken = '1:abc'\nupdates = 'off'\n"
    )
    (tmp_path / "webhooks.toml").write_text(_WEBHOOK)

    def fail(db: Any) -> None:
        deliveries.add_delivery(db, platform_id="tg", target="tg:FriendMessage:1", content=[])
        (row,) = delivery_claims.claim(db, "w", 1)
        delivery_claims.finish(
            db, row, "w", "failed", error="The platform said no", platform_ids=[]
        )

    store.write(fail)
    store.close()
    found = find(tmp_path, "--offline")
    assert found["bot tg"]["state"] == "warn"
    assert found["bot tg"]["text"].endswith(": The platform said no")
    assert found["webhook crm"]["state"] == "ok"
    assert "nothing was delivered yet" in found["webhook crm"]["text"]


# -- requests ------------------------------------------------------------------------------------


def write_provider(folder: Path, base_url: str, more: str = "") -> None:
    prepare(folder).close()
    (folder / "configs" / "default.toml").write_text(
        f'[provider]\ntype = "openai"\nbase_url = "{base_url}"\nmodel = "m"\n{more}'
    )


LISTED = {"data": [{"id": "m"}]}
NO_PATH = {"error": "Unexpected endpoint or method."}


@pytest.mark.parametrize(
    ("listed", "answer", "state", "remedy"),
    [
        ((200, LISTED), say("ok"), "ok", ""),
        ((200, {"data": [{"id": "models/m"}]}), say("ok"), "ok", ""),
        ((404, {}), say("ok"), "ok", ""),
        ((200, {"data": [{"id": "n"}]}), say("ok"), "ok", ""),
        ((200, {"data": [{"id": "n"}]}), (404, {"error": "no such model"}), "fail", "model"),
        ((404, NO_PATH), (404, NO_PATH), "fail", "base_url"),
        ((200, NO_PATH), (200, NO_PATH), "fail", "base_url"),
        ((401, {}), (401, {}), "fail", "api_key"),
        ((403, {}), (403, {"error": "Country not supported"}), "fail", "rights of its account"),
    ],
)
def test_a_provider_is_asked_and_the_remedy_fits(
    tmp_path: Path, listed: Any, answer: Any, state: str, remedy: str
) -> None:
    with StrictEndpoint(lambda number, body: answer if body else listed) as endpoint:
        write_provider(tmp_path, endpoint.base_url.replace("http://", "http://me:secret-word@"))
        found = find(tmp_path)["config default, provider openai"]
    assert found["state"] == state
    assert "secret-word" not in str(found)
    assert remedy in found["remedy"]
    gone = find(tmp_path)["config default, provider openai"]
    assert (gone["state"], gone["remedy"]) == ("fail", "")
    assert "check that it runs, and base_url and proxy in the config" in gone["text"]


def test_an_mcp_server_without_the_extra_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    write_provider(tmp_path, "http://127.0.0.1:9/v1", '[mcp.time]\ncommand = ["true"]\n')
    found = find(tmp_path)["MCP server time"]
    assert (found["state"], found["remedy"]) == ("fail", "pip install 'astrbot-api[mcp]'")


def test_offline_asks_nobody_and_says_so(tmp_path: Path) -> None:
    mcp = '[mcp.time]\nurl = "http://127.0.0.1:9/mcp"\n'
    with StrictEndpoint(lambda number, body: say("ok")) as endpoint:
        write_provider(tmp_path, endpoint.base_url, mcp)
        found = find(tmp_path, "--offline")
        assert endpoint.heads == []
    for what in ("config default, provider openai", "MCP server time"):
        assert found[what]["state"] == "off"
        assert "--offline" in found[what]["text"]


@pytest.mark.parametrize(
    ("transport", "flags", "state"),
    [("auto", ["--sse"], "ok"), ("sse", ["--sse"], "ok"), ("http", ["--sse"], "fail"),
     ("auto", [], "ok"), ("sse", [], "fail")],
)  # fmt: skip
def test_an_mcp_server_is_checked_over_its_transport(
    tmp_path: Path, transport: str, flags: list[str], state: str
) -> None:
    with run_http_server(*flags) as (_, url):
        table = f'[mcp.odd]\nurl = "{url}"\ntransport = "{transport}"\n'
        write_provider(tmp_path, "http://127.0.0.1:9/v1", table)
        found = find(tmp_path)["MCP server odd"]
    assert found["state"] == state, found


class ToolServer:
    """An MCP server over HTTP.

    :param answer: Response to ``tools/list``, or empty if no request is accepted.
    :param status: Status of the response to it.
    """

    def __init__(self, answer: dict[str, Any], status: str = "200 OK") -> None:
        self._answer, self._status = answer, status

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        asked = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        info = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}}
        answers = {"initialize": {"result": info}, "tools/list": self._answer}
        found = answers.get(asked["method"], {}) if self._answer else {}
        listing = asked["method"] == "tools/list" or not self._answer
        status = "200 OK" if found else "202 Accepted" if "id" not in asked else "404 Not Found"
        start_response(self._status if listing else status, [("Content-Type", "application/json")])
        return [json.dumps({"jsonrpc": "2.0", "id": asked.get("id"), **found}).encode()]


@pytest.mark.parametrize(
    ("server", "state", "text", "remedy"),
    [
        (ToolServer({"result": {"tools": []}}), "ok", "lists its tools", ""),
        (ToolServer({"error": {"code": -32603, "message": "no database"}}), "fail",
         "it cannot be used: MCPError: no database", "start it, or correct url"),
        (ToolServer({"result": {}}, "500 Oops"), "fail", "HTTP 500", "start it, or correct url"),
        (ToolServer({}, "403 Forbidden"), "fail", "HTTP 403", "correct headers or token_env"),
    ],
)  # fmt: skip
def test_an_mcp_server_must_list_its_tools(
    tmp_path: Path, server: ToolServer, state: str, text: str, remedy: str
) -> None:
    with serve(server) as url:
        write_provider(tmp_path, "http://127.0.0.1:9/v1", f'[mcp.odd]\nurl = "{url}/mcp"\n')
        found = find(tmp_path)["MCP server odd"]
    assert (found["state"], found["remedy"][: len(remedy) or 9]) == (state, remedy)
    assert text in found["text"]


@pytest.mark.parametrize(
    ("status", "state"), [("401 Unauthorized", "ok"), ("500 Internal Server Error", "fail")]
)
def test_the_oauth_of_an_mcp_server_is_not_used_up(tmp_path: Path, status: str, state: str) -> None:
    oauth = 'issuer = "https://auth.example.org"\nclient_id = "x"\nclient_secret_env = "X"\n'
    with serve(ToolServer({}, status)) as url:
        table = f'[mcp.odd]\nurl = "{url}/mcp"\n[mcp.odd.oauth]\n{oauth}'
        write_provider(tmp_path, "http://127.0.0.1:9/v1", table)
        assert find(tmp_path)["MCP server odd"]["state"] == state


def test_mcp_servers_plugins_and_bots_are_asked(tmp_path: Path) -> None:
    with StrictEndpoint(lambda number, body: (200, LISTED)) as endpoint, FakeTelegram() as telegram:
        mcp = (
            '[mcp.gone]\nurl = "http://127.0.0.1:9/mcp"\n'
            '[mcp.program]\ncommand = ["no-such-program-here"]\n'
        )
        write_provider(tmp_path, endpoint.base_url, mcp)
        (tmp_path / "bots.toml").write_text(
            f'[[bot]]\nid = "tg"\ntype = "telegram"\ntoken = "{telegram.token}"\n'
            f'base_url = "{telegram.url}"\n'
        )
        (tmp_path / "plugins" / "bad").mkdir(parents=True)
        (tmp_path / "plugins" / "bad" / "plugin.py").write_text("nonsense(")
        found = find(tmp_path)
    states = {what: one["state"] for what, one in found.items()}
    assert states["MCP server gone"] == "fail"
    assert states["MCP server program"] == "fail"
    assert states["plugin bad"] == "fail"
    assert states["bot tg"] == "ok", found["bot tg"]

"""``astrbot-api import-astrbot``: this server serves the data of an AstrBot."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from astrbot_api.cli.main import main
from astrbot_api.db import audit, keys
from astrbot_api.db.store import Store
from astrbot_api.errors import ApiError
from astrbot_api.importing import source as source_module

from ..astrbot_data import AstrBotData, Recorded, read_recorded
from .conftest import Api

RECORDED = read_recorded()

#: Sessions that can be used in a path. One recorded id contains a slash.
REACHABLE = [row for row in RECORDED.sessions.values() if "/" not in row[0]]

_TABLES = (
    "chat_session", "session_count", "message", "message_attachment", "attachment", "api_key",
    "api_key_scope", "legacy_key", "imported_item", "imported_message",
)  # fmt: skip


@pytest.fixture
def run(api: Api, data: AstrBotData) -> Callable[..., Result]:
    """Run the import into the application's data directory."""
    # Some of the recorded sessions belong to the administrator.
    api.key = api.create_key(*keys.ALL_SCOPES)

    def run(*arguments: str, code: int = 0) -> Result:
        folder = str(api.state.settings.data_dir)
        words = ["import-astrbot", str(data.folder), "--data-dir", folder, *arguments]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == code, done.output
        return done

    return run


def _report(done: Result) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _dump(api: Api) -> dict[str, list[Any]]:
    """Return every row that an import can change."""
    with api.state.db.read() as db:
        return {
            table: sorted(db.execute_sql(f"SELECT * FROM {table}").fetchall(), key=repr)
            for table in _TABLES
        }


def _messages(api: Api, session_id: str, username: str = "alice") -> list[dict[str, Any]]:
    path = f"/api/v1/chat/sessions/{session_id}/messages?username={username}&order=asc&limit=100"
    answer = api.get(path)
    assert answer.status_code == 200, answer.get_data()
    found: list[dict[str, Any]] = answer.json["data"]["messages"]  # type: ignore[index]
    return sorted(found, key=lambda one: one["id"])


def _content(row: list[Any]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(row[5])
    return content


def _turns(recorded: Recorded, session_id: str) -> list[dict[str, Any]]:
    """Return the recorded messages of a session, with the bot's messages of one turn merged."""
    turns: list[dict[str, Any]] = []
    last = None
    for row in sorted(recorded.history.values()):
        if row[2] == session_id:
            content = _content(row)
            if content["type"] == "bot" and last == ("bot", row[6]):
                turns[-1]["message"] += _join_results(turns[-1], content.pop("message"))
                turns[-1].update(content)
            else:
                turns.append(content)
            last = (content["type"], row[6]) if row[6] else None
    return turns


def _join_results(turn: dict[str, Any], parts: list[Any]) -> list[Any]:
    """Move the result of a call to the call, if a push separated them."""
    first = parts[0] if parts else {}
    if first.get("type") != "tool_call" or "name" in first["tool_calls"][0]:
        return parts
    turn["message"][-1]["tool_calls"][0].update(first["tool_calls"][0])
    return parts[1:]


def test_without_apply_nothing_changes_and_everything_is_reported(
    run: Callable[..., Result], data: AstrBotData, api: Api
) -> None:
    data.add_recorded(RECORDED)
    data.add_key("k1")
    data.add_config("cmd_config.json", {"provider": []})
    before = _dump(api)
    told = _report(run("--json"))
    assert _dump(api) == before
    assert not list(api.state.settings.files_dir.glob("*"))
    done = _report(run("--apply", "--json"))
    assert told["applied"] is False
    for kind in ("keys", "attachments", "sessions", "messages", "configs"):
        assert told[kind]["imported"] == done[kind]["imported"] > 0, kind


def test_every_recorded_session_is_imported_unchanged(
    run: Callable[..., Result], data: AstrBotData, api: Api
) -> None:
    data.add_recorded(RECORDED)
    run("--apply")
    owners: dict[str, list[str]] = {}
    for session_id, _, owner, _, _ in RECORDED.sessions.values():
        owners.setdefault(owner, []).append(session_id)
    for session_id, platform, owner, name, is_group in REACHABLE:
        shown = api.get(f"/api/v1/chat/sessions/{session_id}?username={owner}").json
        assert shown["data"], (session_id, owner, shown)
        shown = shown["data"]  # type: ignore[index]
        assert (shown["platform_id"], shown["creator"]) == (platform, owner)
        assert (shown["display_name"], shown["is_group"]) == (name, is_group)
        stored = _messages(api, session_id, owner)
        expected = _turns(RECORDED, session_id)
        assert [one["content"] for one in stored] == _without_numbers(expected, stored)
    for owner, named in owners.items():
        listed = api.get(f"/api/v1/chat/sessions?username={owner}&page_size=100").json["data"]  # type: ignore[index]
        assert listed["total"] == len(named)
        # The newest first, by the imported times.
        assert [one["session_id"] for one in listed["sessions"]] == named[::-1]


def _without_numbers(
    expected: list[dict[str, Any]], stored: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Remove the ids of quoted messages, which change, from stored messages."""
    for wanted, one in zip(expected, stored, strict=True):
        for part, kept in zip(wanted["message"], one["content"]["message"], strict=True):
            if part["type"] == "reply" and isinstance(part["message_id"], int):
                part["message_id"] = kept["message_id"]
    return expected


def test_times_and_checkpoints_are_kept(
    run: Callable[..., Result], data: AstrBotData, api: Api
) -> None:
    data.add_session("s", created_at="2025-01-02 03:04:05.678901")
    data.say(7, "s", "alice", {"type": "plain", "text": "hi"}, turn="turn-1")
    run("--apply")
    shown = api.get("/api/v1/chat/sessions/s?username=alice").json["data"]  # type: ignore[index]
    assert shown["created_at"] == "2025-01-02T03:04:05.678901+00:00"
    (message,) = _messages(api, "s")
    assert message["created_at"] == "2026-11-23T16:41:51.000007+00:00"
    assert message["llm_checkpoint_id"] == "turn-1"
    assert message["sender_id"] == "alice"


def test_a_second_run_changes_nothing(
    run: Callable[..., Result], data: AstrBotData, api: Api
) -> None:
    data.add_recorded(RECORDED)
    data.add_key("k1")
    data.add_config("cmd_config.json", {"provider": []})
    first = _report(run("--apply", "--json"))
    before = _dump(api)
    configs = {path: path.read_bytes() for path in api.state.settings.data_dir.glob("configs/*")}
    second = _report(run("--apply", "--json"))
    assert _dump(api) == before
    assert {path: path.read_bytes() for path in configs} == configs
    for kind in ("keys", "attachments", "sessions", "messages", "configs"):
        assert second[kind]["imported"] == 0
        assert second[kind]["present"] == first[kind]["imported"]


def test_the_audit_records_the_import_and_each_key(
    run: Callable[..., Result], data: AstrBotData, api: Api
) -> None:
    data.add_key("k1", name="my bot")
    data.add_session("s")
    for arguments in ((), ("--apply",), ("--apply",)):
        run(*arguments)
    with api.state.db.read() as db:
        entries = audit.list_entries(db)
    told = [(one["action"], one["actor"], one["subject"], one["detail"]) for one in entries]
    assert told == [
        ("data_imported", "cli", "AstrBot", "keys 1, sessions 1"),
        ("key_created", "cli", "k1", "my bot (abk_Imported…): imported from AstrBot"),
    ]


def test_later_messages_are_appended_by_a_second_import(
    run: Callable[..., Result], data: AstrBotData, api: Api
) -> None:
    data.add_session("s")
    data.say(1, "s", "alice", {"type": "plain", "text": "one"}, turn="t1")
    data.say(2, "s", "bot", {"type": "plain", "text": "two, "}, turn="t1")
    run("--apply")
    data.say(3, "s", "bot", {"type": "plain", "text": "and more"}, turn="t1")
    data.say(4, "s", "alice", {"type": "plain", "text": "three"})
    data.add_session("new")
    report = _report(run("--apply", "--json"))
    assert (report["messages"]["imported"], report["messages"]["present"]) == (2, 2)
    said = [[part["text"] for part in one["content"]["message"]] for one in _messages(api, "s")]
    assert said == [["one"], ["two, ", "and more"], ["three"]]
    assert report["sessions"]["imported"] == 1


def test_empty_messages_before_answers_are_skipped(
    run: Callable[..., Result], data: AstrBotData, api: Api
) -> None:
    data.add_session("s")
    data.say(1, "s", "alice", {"type": "plain", "text": "one"})
    data.say(2, "s", "bot")
    data.say(3, "s", "bot", {"type": "plain", "text": "two"})
    report = _report(run("--apply", "--json"))
    assert (report["messages"]["imported"], len(_messages(api, "s"))) == (2, 2)


@pytest.mark.parametrize("writes", [20, 90])
def test_an_interrupted_import_continues(
    run: Callable[..., Result], data: AstrBotData, api: Api,
    monkeypatch: pytest.MonkeyPatch, writes: int,
) -> None:  # fmt: skip
    data.add_recorded(RECORDED)
    data.add_key("k1")
    _break_after(monkeypatch, type(api.state.db), writes)
    run("--apply", code=1)
    monkeypatch.undo()
    run("--apply")
    assert api.count_rows("attachment") == len(RECORDED.attachments)
    assert api.count_rows("legacy_key") == 1
    for session_id, _, owner, _, _ in REACHABLE:
        stored = _messages(api, session_id, owner)
        assert len(stored) == len(_turns(RECORDED, session_id))
    assert _report(run("--apply", "--json"))["messages"]["imported"] == 0


def _break_after(monkeypatch: pytest.MonkeyPatch, store: type[Store], writes: int) -> None:
    real, left = store.write, [writes]

    def write(self: Store, job: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt("killed")
        return real(self, job)

    monkeypatch.setattr(store, "write", write)


def test_imported_attachments_are_served_under_their_ids(
    run: Callable[..., Result], data: AstrBotData, api: Api
) -> None:
    data.add_recorded(RECORDED)
    used = next(iter(RECORDED.attachments))
    data.add_session("with a file")
    part = {"type": "file", "attachment_id": used, "filename": "a.txt"}
    data.say(900_000, "with a file", "alice", part)
    run("--apply")
    for attachment_id, path, *_ in RECORDED.attachments.values():
        answer = api.get(f"/api/v1/file?attachment_id={attachment_id}")
        assert answer.get_data() == f"the bytes of {path}".encode()
    # The imported message uses it, so the sweep keeps it.
    answer = api.delete(f"/api/v1/files/{used}")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "attachment_in_use")


def test_missing_and_outside_files_are_reported(
    run: Callable[..., Result], data: AstrBotData, api: Api, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("not yours")
    inside = data.folder / "attachments"
    (inside / "link").symlink_to(secret)
    (inside / "way").symlink_to(tmp_path)
    os.mkfifo(inside / "pipe")
    (inside / "deep").mkdir()
    (inside / "deep" / "ok.txt").write_text("ok")
    for name, path in {
        "gone": "/AstrBot/data/attachments/gone.txt",
        "absolute": str(secret),
        "dots": "data/attachments/../../secret.txt",
        "link": "attachments/link",
        "way": "attachments/way/secret.txt",
        "pipe": "attachments/pipe",
        "folder": "attachments/deep",
        "windows": "C:\\AstrBot\\data\\attachments\\deep\\ok.txt",
    }.items():
        data.add_attachment(name, path, None)
    done = run("--apply")
    with api.state.db.read() as db:
        taken = db.execute_sql("SELECT attachment_id FROM attachment").fetchall()
    assert taken == [("windows",)]
    assert "skipped 2: its path is outside the directory" not in done.stdout
    assert "skipped 3: its path is outside the directory" in done.stdout
    assert "skipped 4: its file is missing or cannot be read (gone" in done.stdout


def test_a_file_above_the_limit_is_skipped(
    make_api: Callable[..., Api], data: AstrBotData, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api()
    monkeypatch.setenv("ASTRBOT_MAX_FILE_BYTES", "100")
    data.add_attachment("large", "attachments/large.bin", b"x" * 101)
    data.add_attachment("small", "attachments/small.bin", b"x" * 100)
    folder = str(api.state.settings.data_dir)
    done = CliRunner().invoke(
        main, ["import-astrbot", str(data.folder), "--data-dir", folder, "--apply"]
    )
    assert "its file is larger than ASTRBOT_MAX_FILE_BYTES (large 101 bytes)" in done.stdout
    assert api.state.files.get("small")
    with pytest.raises(ApiError, match="not found"):
        api.state.files.get("large")


def test_the_model_gets_the_imported_history(
    make_scripted: Callable[..., Any], data: AstrBotData
) -> None:
    api, model = make_scripted(lambda messages: iter(()))
    text = {"type": "plain", "text": "My name is Alice."}
    data.add_session("s")
    data.say(1, "s", "alice", text, turn="t1")
    # AstrBot stores two bot messages with enable_streaming=false.
    data.say(2, "s", "bot", {"type": "plain", "text": "Hello Alice."}, turn="t1")
    data.say(3, "s", "bot", agent_stats={"token_usage": {"output": 4}}, turn="t1")
    folder = str(api.state.settings.data_dir)
    CliRunner().invoke(main, ["import-astrbot", str(data.folder), "--data-dir", folder, "--apply"])
    api.chat("What is my name?", session_id="s")
    said = [(one["role"], one["content"]) for one in model.seen[-1] if one["role"] != "system"]
    assert said[:2] == [("user", "My name is Alice."), ("assistant", "Hello Alice.")]


def test_a_quotation_has_the_new_id_of_its_message(
    run: Callable[..., Result], data: AstrBotData, api: Api
) -> None:
    data.add_session("other")
    data.say(1, "other", "alice", {"type": "plain", "text": "x"})
    data.add_session("s")
    data.say(50, "s", "alice", {"type": "plain", "text": "first"})
    for number, quoted in ((51, 50), (52, "50"), (53, 1), (54, "x")):
        data.say(number, "s", "alice", {"type": "reply", "message_id": quoted})
    run("--apply")
    first, *later = _messages(api, "s")
    quoted = [one["content"]["message"][0]["message_id"] for one in later]
    # A quote of another session must not look like a message of this session.
    assert quoted == [first["id"], first["id"], "astrbot:1", "x"]


def test_invalid_rows_are_skipped_and_the_rest_is_imported(
    run: Callable[..., Result], data: AstrBotData, api: Api
) -> None:
    data.add_session("", creator="alice")
    data.add_session("nobody's", creator=None)
    data.add_session("x" * 300)
    data.add_session("s", name="a\x00b", created_at="yesterday")
    data.add_session(" blanks ")
    data.say(80, " blanks ", "alice", {"type": "plain", "text": "found by its id there"})
    deep = '{"type":"tool_call","tool_calls":[{"id":"1","name":"x","args":' + "[" * 300 + "]" * 300
    for number, content in enumerate(
        [
            "{", f'{{"type":"bot","message":[{deep}}}]}}]}}', "[]",
            '{"type":"system","message":[]}', '{"type":"user"}', "[" * 100_000,
            '{"type":"user","message":"old text"}',
            '{"message":[7,{"type":"plain"},{"type":"plain","text":"\\ud800"}],"type":"bot"}',
        ], 1
    ):  # fmt: skip
        data.add_message(number, "webchat", "s", "alice", "alice", content, None)
    data.say(90, "pushed", "bot", {"type": "plain", "text": "to nobody"})
    report = _report(run("--apply", "--json"))
    assert report["sessions"]["imported"] == 2
    assert sum(report["sessions"]["skipped"].values()) == 3
    assert report["messages"]["imported"] == 3
    assert len(_messages(api, "blanks")) == 1
    assert report["messages"]["skipped"]["its content is not JSON"] == 2
    assert report["messages"]["skipped"]["its content is nested too deep"] == 1
    assert report["messages"]["skipped"]["its session has no row, so its owner is unknown"] == 1
    old, bad = (one["content"]["message"] for one in _messages(api, "s"))
    assert old == [{"type": "plain", "text": "old text"}]
    assert [part["text"] for part in bad] == ["?"]


def test_deleted_data_is_not_imported_again(
    run: Callable[..., Result], data: AstrBotData, api: Api
) -> None:
    data.add_session("s")
    data.add_attachment("a", "attachments/a.txt", b"a")
    data.add_key("k1")
    run("--apply")
    assert api.delete("/api/v1/chat/sessions/s?username=alice").status_code < 300
    assert api.delete("/api/v1/files/a").status_code < 300
    folder = str(api.state.settings.data_dir)
    CliRunner().invoke(main, ["keys", "delete", "k1", "--data-dir", folder])
    report = _report(run("--apply", "--json"))
    for kind in ("keys", "attachments", "sessions"):
        assert report[kind]["imported"] == 0
        assert list(report[kind]["skipped"].values()) == [1], kind


def test_an_existing_session_is_not_merged_with_an_imported_one(
    run: Callable[..., Result], data: AstrBotData, api: Api
) -> None:
    api.chat(session_id="s")
    before = _messages(api, "s")
    data.add_session("s")
    data.say(1, "s", "alice", {"type": "plain", "text": "theirs"})
    told = run("--apply").stdout
    assert "skipped 1: a session with this id already exists here (s)" in told
    assert "skipped 1: its session was skipped (s)" in told
    assert _messages(api, "s") == before


def test_a_directory_in_use_is_only_read(
    run: Callable[..., Result], data: AstrBotData, api: Api
) -> None:
    data.db.execute("PRAGMA journal_mode = wal")
    data.db.execute("PRAGMA wal_autocheckpoint = 0")
    data.add_session("s")
    data.say(1, "s", "alice", {"type": "plain", "text": "only in the log so far"})
    data.db.execute("BEGIN")
    data.say(2, "s", "alice", {"type": "plain", "text": "not committed"})
    before = _snapshot(data.folder)
    run("--apply")
    assert _snapshot(data.folder) == before
    data.db.execute("ROLLBACK")
    (message,) = _messages(api, "s")
    assert message["content"]["message"][0]["text"] == "only in the log so far"


def _snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_constantly_changing_database_is_rejected(
    run: Callable[..., Result], data: AstrBotData, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = source_module.shutil.copyfile

    def copy_and_write(original: str, target: Path) -> None:
        real(original, target)
        data.add_session(f"s{os.urandom(4).hex()}")

    monkeypatch.setattr(source_module.shutil, "copyfile", copy_and_write)
    monkeypatch.setattr(source_module.time, "sleep", lambda seconds: None)
    assert "is constantly being written to" in run("--apply", code=2).stderr


def test_a_directory_without_astrbot_is_rejected(
    tmp_path: Path, run: Callable[..., Result], data: AstrBotData
) -> None:
    (data.folder / "data_v4.db").unlink()
    assert "is no AstrBot 4 data directory" in run(code=2).stderr
    (data.folder / "data_v4.db").write_bytes(b"no database at all" * 100)
    assert "data_v4.db cannot be read" in run(code=2).stderr


def test_without_a_temporary_folder_the_variable_is_named(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "No usable temporary directory found in ['/tmp']"

    def fail(*arguments: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, text)

    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    assert run(code=2).stderr == f"astrbot-api: TMPDIR: {text}\n"


def test_unknown_tables_are_reported(run: Callable[..., Result], data: AstrBotData) -> None:
    for table in ("platform_sessions", "platform_message_history", "attachments", "api_keys"):
        data.db.execute(f"DROP TABLE {table}")
    data.db.execute("INSERT INTO conversations VALUES (1, '{}')")
    done = run("--apply")
    for kind in ("keys", "attachments", "sessions", "messages"):
        assert f"{kind:12} 0 imported, 0 already here, 1 skipped" in done.stdout
    assert "conversations (1)" in done.stdout


def test_columns_missing_in_older_versions_are_optional(
    run: Callable[..., Result], data: AstrBotData, api: Api
) -> None:
    data.add_session("s")
    data.say(1, "s", "alice", {"type": "plain", "text": "hi"})
    for table, column in (
        ("platform_message_history", "llm_checkpoint_id"),
        ("platform_message_history", "sender_name"),
        ("platform_sessions", "display_name"),
    ):
        data.db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    data.db.execute("ALTER TABLE platform_message_history RENAME COLUMN user_id TO session_id")
    run("--apply")
    (message,) = _messages(api, "s")
    assert message["sender_name"] == "alice"
    assert message["llm_checkpoint_id"] is None


@pytest.mark.parametrize("kind", ["messages", "sessions"])
def test_two_matching_tables_are_rejected_as_ambiguous(
    run: Callable[..., Result], data: AstrBotData, kind: str
) -> None:
    table = {"messages": "platform_message_history", "sessions": "platform_sessions"}[kind]
    data.db.execute(f"CREATE TABLE other AS SELECT * FROM {table}")
    assert f"are too similar: other, {table}" in run("--apply", code=2).stderr


def test_the_import_works_on_postgresql(
    data: AstrBotData, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASTRBOT_DATABASE_URL", postgres_url)
    data.add_recorded(RECORDED)
    data.add_key("k1")
    words = ["import-astrbot", str(data.folder), "--data-dir", str(tmp_path / "pg"), "--json"]
    told, first, second = (
        _report(CliRunner().invoke(main, [*words, *more]))
        for more in ([], ["--apply"], ["--apply"])
    )
    for kind in ("keys", "attachments", "sessions", "messages"):
        assert told[kind]["imported"] == first[kind]["imported"] == second[kind]["present"] > 0
        assert second[kind]["imported"] == 0


def test_the_fixture_is_a_valid_database(data: AstrBotData) -> None:
    data.add_recorded(RECORDED)
    with closing(sqlite3.connect(data.folder / "data_v4.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT COUNT(*) FROM platform_message_history").fetchone()[0] > 50

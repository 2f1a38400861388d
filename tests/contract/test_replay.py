"""The recordings of a real server, sent again to this one.

Two gunicorn workers, and a model endpoint that answers as the one of the
recordings did.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.config.settings import load_settings
from astrbot_api.db import keys
from astrbot_api.db.models import ApiKey, ApiKeyScope
from astrbot_api.db.store import open_store
from astrbot_api.testing.fake_openai import FakeOpenAI

from ..nginx import choose_server
from ..servers import (
    Server,
    create_key,
    create_key_row,
    iter_events,
    parse_events,
    run_cli,
    write_config,
)
from ..waiting import wait_for
from . import wire
from .divergences import DIVERGENCES, ELSEWHERE, Change, Delivered, Downloaded, Refusal, Uploaded
from .wire import Answer, Recording

GROUPS = (
    "01-auth", "02-login", "03-apikey-admin", "10-bots-configs", "20-chat", "21-chat-stream",
    "30-sessions", "40-file", "50-im-message",
)  # fmt: skip

SECOND = "99662acd-9174-4f4b-851c-d8da2e0a5b08"
DUPLICATES = ("abf4012a-110c-4a8a-9057-0ecedd34d593", "3068deb3-fcaa-487f-b602-d61e6a45a635")
KNOWN_SESSION = "59519409-0e6b-490e-a97b-32ae72957e73"
# As long as the recorded one: the requests state their length.
PASSWORD = "correct-horse-471"
#: The key that the recordings delete.
DELETED_KEY_ID = "f2891021-5a38-470e-8b22-b064972e54d0"
LISTED_USER = "sess_user_4251"

#: Attachments that the recordings take for granted.
KNOWN_FILES = {
    "da7b5541-7005-4bf6-9bf9-0c389e3ff86c": ("hello.txt", b"hello world\n"),
    "1b68ef0b-4381-487a-ab68-305618e2ad34": ("dot.png", wire.PNG),
    "71d3d923-5332-4294-bde0-9577413b9aca": ("note.txt", b"a note\n"),
    "ed224eaa-4ec1-4d80-aa99-881d8be9c749": ("beep.wav", b"RIFF\x24\0\0\0WAVEfmt " + bytes(28)),
    "53eeab4c-60f8-49b2-bced-464baab52b03": ("im.png", wire.PNG),
    "f9d4ebaa-3008-4971-ba3f-4a9dab0acae7": ("im.txt", b"a note\n"),
    "96682dff-85e0-4a53-a675-49a2f1c09462": ("im.wav", b"RIFF\x24\0\0\0WAVEfmt " + bytes(28)),
    "2088896b-b938-4549-9e49-799029f58fb8": ("clip.mp4", b"\0\0\0\x18ftypisom" + bytes(12)),
}


@pytest.fixture(scope="module")
def server(module_dir: Path, fake_model: FakeOpenAI) -> Iterator[Server]:
    """The server as the recorded one was set up: configs, bots, two sessions' owners."""
    write_config(module_dir, fake_model.base_url)
    for stem, name in ((SECOND, "second"), *((one, "dup") for one in DUPLICATES)):
        path = write_config(module_dir, fake_model.base_url, name=stem)
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('name = "default"', f'name = "{name}"'), encoding="utf-8")
    (module_dir / "bots.toml").write_text(
        '[[bot]]\nid = "qqbot"\ntype = "onebot"\n'
        '[[bot]]\nid = "tg_off"\ntype = "telegram"\nenabled = false\n',
        encoding="utf-8",
    )
    app = "tests.contract.app:create_contract_app()"
    with choose_server()(module_dir, app=app, ASTRBOT_ADMIN_PASSWORD=PASSWORD) as started:
        yield started


@pytest.fixture(scope="module")
def placeholders(server: Server, module_dir: Path) -> dict[str, str]:
    """The keys of the recordings; the sessions that they take for granted."""
    made = {
        "KEY_ALL": create_key(module_dir, *keys.PUBLIC_SCOPES),
        "KEY_REVOKED": _create_and("revoke", module_dir),
        "KEY_DELETED": _create_and("delete", module_dir),
        "KEY_EXPIRED": _create_expired(module_dir),
        "JWT": _log_in(server),
        "PASSWORD": PASSWORD,
    }
    _create_as(DELETED_KEY_ID, module_dir)
    for scope in keys.PUBLIC_SCOPES:
        made[f"KEY_{scope.upper()}"] = create_key(module_dir, scope)
    server.chat(made["KEY_ALL"], session_id=KNOWN_SESSION, message="hi")
    for number in range(5):
        server.chat(
            made["KEY_ALL"],
            username=LISTED_USER,
            session_id=f"{LISTED_USER}-s{number}",
            message="hi",
        )
    server.chat(
        made["KEY_ALL"], username=LISTED_USER, session_id=f"{LISTED_USER}-s1", message="again"
    )
    for number in range(5):
        _wait_for_name(module_dir, f"{LISTED_USER}-s{number}")
    return made


@pytest.fixture(scope="module")
def attachment_ids(server: Server, placeholders: dict[str, str]) -> dict[str, str]:
    """The ids of the recordings -> ours, of the same files."""
    key = placeholders["KEY_ALL"]
    ids = {}
    for recorded, (name, data) in KNOWN_FILES.items():
        answer = server.request("POST", "/api/v1/file", key, fields={"file": (name, data)})
        ids[recorded] = answer.json()["data"]["attachment_id"]
    for recording in wire.load_recordings("40-file"):
        found = re.search(r'"attachment_id":"([0-9a-f-]{36})"', recording.answer)
        if found:
            body = json.loads(wire.send(server, recording, placeholders).body)
            ids[found[1]] = body["data"]["attachment_id"]
    return ids


def _with_ids(recording: Recording, ids: dict[str, str]) -> Recording:
    head, body = recording.head, recording.body
    for recorded, ours in ids.items():
        head, body = head.replace(recorded, ours), body.replace(recorded, ours)
    return replace(recording, head=head, body=body)


def _create_and(verb: str, data_dir: Path) -> str:
    row = create_key_row(data_dir, "chat", "config", "file", "im", name=verb)
    run_cli("keys", verb, row["key_id"], data_dir=data_dir)
    secret: str = row["api_key"]
    return secret


def _log_in(server: Server) -> str:
    body = {"username": "astrbot", "password": PASSWORD}
    token: str = server.request("POST", "/api/auth/login", json=body).json()["data"]["token"]
    return token


def _create_as(key_id: str, data_dir: Path) -> None:
    row = create_key_row(data_dir, "chat", name="with a known id")
    store = open_store(load_settings({"data_dir": data_dir}))

    def job(db: Any) -> None:
        for model in (ApiKey, ApiKeyScope):
            model.update(key_id=key_id).where(model.key_id == row["key_id"]).execute(db)

    store.write(job)
    store.close()


def _create_expired(data_dir: Path) -> str:
    store = open_store(load_settings({"data_dir": data_dir}))
    _, secret = store.write(
        lambda db: keys.create_key(
            db, "old", keys.PUBLIC_SCOPES, created_by="test", expires_in_days=0
        )
    )
    store.close()
    return secret


def _cases() -> list[Any]:
    cases = []
    for group in GROUPS:
        for recording in wire.load_recordings(group):
            if recording.case in ELSEWHERE:
                continue
            cases.append(pytest.param(recording, id=f"{group}:{recording.case}"))
    return cases


@pytest.mark.parametrize("recording", _cases())
def test_answers_as_recorded(
    recording: Recording,
    server: Server,
    placeholders: dict[str, str],
    attachment_ids: dict[str, str],
) -> None:
    answer = wire.send(server, _with_ids(recording, attachment_ids), placeholders)
    divergence = DIVERGENCES.get(recording.case)
    if isinstance(divergence, Refusal):
        _check_refusal(answer, divergence)
    elif isinstance(divergence, Uploaded):
        _check_uploaded(recording, answer, divergence)
    elif isinstance(divergence, Delivered):
        _check_delivered(recording, answer, server)
    elif isinstance(divergence, Downloaded) or recording.is_download:
        _check_download(recording, answer, divergence or Downloaded(""))
    elif recording.case in _SPECIAL:
        _SPECIAL[recording.case](recording, answer, server)
    elif recording.is_stream:
        _check_stream(recording, answer, server, divergence)
    else:
        _check_envelope(recording, answer)


def _check_refusal(answer: Answer, refusal: Refusal) -> None:
    body = json.loads(answer.body)
    assert (answer.status, body["code"]) == (refusal.status, refusal.code)
    assert answer.content_type == "application/json"
    assert (body["status"], body["data"]) == ("error", None)
    assert body["message"] == refusal.message or (not refusal.message and body["message"])


def _check_uploaded(recording: Recording, answer: Answer, uploaded: Uploaded) -> None:
    body = json.loads(answer.body)
    expected: dict[str, str] = {}
    if recording.status == 200:
        expected = json.loads(recording.answer)["data"] or {}
    assert (answer.status, body["status"], body["message"]) == (200, "ok", None)
    assert body["data"].pop("stored_filename")
    assert len(body["data"].pop("attachment_id")) == 36
    expected.pop("attachment_id", None)
    assert body["data"] == {**expected, **uploaded.data}


def _check_delivered(recording: Recording, answer: Answer, server: Server) -> None:
    body = json.loads(answer.body)
    assert (answer.status, body["status"], body["message"]) == (200, "ok", None)
    assert len(body["data"].pop("delivery_id")) == 36
    assert body["data"] == {"status": "sent"}
    session_id = json.loads(recording.body)["umo"].rpartition("!")[2].rpartition(":")[2]
    # 15: the session of a pushed message is a real row.
    assert wire.stored_session(server.data_dir, session_id) is not None
    if recording.stored:
        rows = wire.recorded_rows(recording)
        assert wire.stored_rows(server.data_dir, session_id) == rows


def _check_download(recording: Recording, answer: Answer, change: Downloaded) -> None:
    assert answer.status == change.status
    assert answer.content_type == (change.content_type or recording.content_type)
    if change.body:
        assert answer.body.decode() == change.body
    elif recording.answer.startswith("sha256:"):
        assert "sha256:" + hashlib.sha256(answer.body).hexdigest() == recording.answer
    else:
        assert answer.body.decode() == recording.answer
    # 9: what the recorded server did not send.
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"]


def _check_owner(recording: Recording, answer: Answer, server: Server) -> None:
    # 19: the owner's login opens the API, as in newer versions.
    assert answer.status == 200
    assert "bot_ids" in json.loads(answer.body)["data"]


def _check_envelope(recording: Recording, answer: Answer) -> None:
    expected, got = json.loads(recording.answer), json.loads(answer.body)
    assert answer.content_type == "application/json"
    if expected["status"] == "ok":
        assert answer.status == recording.status
        assert wire.comparable(got) == wire.comparable(expected)
        return
    # Divergence 1: the same envelope with a real status, code and request_id.
    assert got.pop("code")
    assert got.pop("request_id") == answer.headers["x-request-id"]
    assert got == expected
    real = _real_status(expected["message"]) if recording.status == 200 else recording.status
    assert answer.status == real


def _real_status(message: str) -> int:
    if "not found" in message:
        return 404
    return 409 if "belongs to another" in message else 400


def _check_stream(
    recording: Recording, answer: Answer, server: Server, change: Change | None
) -> None:
    # §3: with the charset, as in newer versions.
    assert (answer.status, answer.content_type) == (200, "text/event-stream; charset=utf-8")
    expected = wire.events_of(recording.answer)
    if change and change.events:
        expected = change.events(expected)
    got = wire.events_of(answer.body.decode())
    assert [one for one in got if one["type"] != "run_started"] == expected
    assert [one["type"] for one in got].count("run_started") == 1
    beats = recording.answer.count(": heartbeat")
    if change is None and beats:
        assert answer.body.count(b": heartbeat") >= beats
    if recording.stored:
        _check_stored(recording, answer, server, change)


def _check_stored(
    recording: Recording, answer: Answer, server: Server, change: Change | None
) -> None:
    session_id = str(json.loads(answer.body.split(b"\n")[0][6:])["session_id"])
    rows = wire.recorded_rows(recording)
    if change and change.rows:
        rows = change.rows(rows)
    assert wire.stored_rows(server.data_dir, session_id) == rows
    recorded = wire.recorded_session(recording)
    if recorded is None:
        return
    stored = wire.stored_session(server.data_dir, session_id)
    assert stored is not None
    assert (stored[1], stored[2], stored[4]) == (recorded[1], recorded[2], recorded[4])
    _check_name(recorded[3], server.data_dir, session_id)


def _check_name(recorded: str | None, data_dir: Path, session_id: str) -> None:
    """Compare the name that the model gave; §3 asks for one that is short, and always."""
    name = _wait_for_name(data_dir, session_id)
    assert 0 < len(name) <= 60
    if recorded == "Hello from mock." and "DROP" not in name:
        assert name == recorded


def _wait_for_name(data_dir: Path, session_id: str) -> str:
    def look() -> str:
        row = wire.stored_session(data_dir, session_id)
        return (row and row[3]) or ""

    return wait_for(look)


def _check_no_host(recording: Recording, answer: Answer, server: Server) -> None:
    """The HTTP server itself refuses it; its body is its own."""
    assert answer.status == recording.status


def _check_configs(recording: Recording, answer: Answer, server: Server) -> None:
    """15: paths are relative to the data directory. The order is not part of the contract."""
    expected = json.loads(recording.answer)["data"]["configs"]
    for config in expected:
        config["path"] = f"configs/{config['id']}.toml"
    got = json.loads(answer.body)["data"]["configs"]
    assert sorted(got, key=_config_id) == sorted(expected, key=_config_id)
    assert got[-1]["is_default"]


def _config_id(config: dict[str, Any]) -> str:
    return str(config["id"])


def _check_continue(recording: Recording, answer: Answer, server: Server) -> None:
    """The recorder took ``100 Continue`` for the answer; the rest of it is the body."""
    body = json.loads(recording.answer.partition("\r\n\r\n")[2])
    got = json.loads(answer.body)
    assert (answer.status, got["message"]) == (400, body["message"])


def _check_missing_config(recording: Recording, answer: Answer, server: Server) -> None:
    """16: a refused request stores nothing, not even a session."""
    _check_envelope(recording, answer)
    assert wire.stored_session(server.data_dir, "cfg-missing") is None


def _check_root(recording: Recording, answer: Answer, server: Server) -> None:
    """The root leads to the pages; their address is our own."""
    assert (answer.status, answer.headers["location"]) == (302, "admin/")


def _check_help(recording: Recording, answer: Answer, server: Server) -> None:
    """§7 names the commands; their texts are our own."""
    got = wire.events_of(answer.body.decode())
    expected = wire.events_of(recording.answer)
    assert [one["type"] for one in got if one["type"] != "run_started"] == [
        one["type"] for one in expected
    ]
    text = next(one["data"] for one in got if one["type"] == "plain")
    for name in ("help", "sid", "reset", "new", "stats"):
        assert f"/{name} - " in text


def _check_sid(recording: Recording, answer: Answer, server: Server) -> None:
    """§7: the UMO and the user id, in the recorded words."""
    got = wire.events_of(answer.body.decode())
    expected = wire.events_of(recording.answer)
    ours = next(one for one in got if one["type"] == "plain")
    theirs = next(one for one in expected if one["type"] == "plain")
    assert ours["data"].splitlines() == theirs["data"].splitlines()[:2]
    assert ours["streaming"] is False


def _check_pushed(recording: Recording, answer: Answer, server: Server) -> None:
    """7: what the tool sends is a message of its own, wherever the reply is just then."""
    lines = answer.body.decode().split("\n")
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    pushed = [one for one in events if str(one.get("message_id")).startswith("push-")]
    assert [one["type"] for one in pushed] == ["plain", "message_saved"]
    assert pushed[0]["data"] == "from-the-tool"
    own = wire.comparable([one for one in events if one not in pushed])
    theirs = wire.events_of(recording.answer)
    at = next(at for at, one in enumerate(theirs) if one["data"] == "from-the-tool")
    del theirs[at : at + 3]  # the pushed text, a complete and a message_saved
    assert [one["type"] for one in own if one["type"] != "run_started"] == [
        one["type"] for one in theirs
    ]
    assert own[-3]["data"] == theirs[-3]["data"]
    change = DIVERGENCES[recording.case]
    assert isinstance(change, Change)
    _check_stored(recording, answer, server, change)


_SPECIAL = {
    "jwt-as-bearer": _check_owner,
    "tool-sends-message": _check_pushed,
    "no-host-header": _check_no_host,
    "configs": _check_configs,
    "configs-with-body": _check_configs,
    "scope-config-on-GET-/api/v1/configs": _check_configs,
    "expect-100-continue": _check_continue,
    "config_id-missing": _check_missing_config,
    "dashboard-root": _check_root,
    "command-help": _check_help,
    "command-sid": _check_sid,
}


def test_every_divergence_belongs_to_a_recording() -> None:
    cases = {one.case for group in GROUPS for one in wire.load_recordings(group)}
    assert not (DIVERGENCES.keys() | _SPECIAL.keys() | ELSEWHERE) - cases


def test_a_stopped_stream_ends_as_recorded(server: Server, placeholders: dict[str, str]) -> None:
    # 15: the recording speaks as an administrator, whose name is reserved here.
    recordings = wire.load_recordings("21-chat-stream")
    recorded = next(one for one in recordings if one.case == "stopped-stream")
    key = placeholders["KEY_ALL"]
    body = {**json.loads(recorded.body), "username": "alice"}
    events: list[dict[str, Any]] = []
    for event in iter_events(server.open_chat(key, body)):
        events.append(event)
        if event["type"] == "plain" and event["data"] == " tok6":
            path = f"/api/v1/chat/sessions/{body['session_id']}/stop"
            stopped = server.request("POST", path, key, json={"username": "alice"})
            assert stopped.json()["data"] == {"stopped_count": 1}
    ours = [one["type"] for one in events if one["type"] not in ("run_started", "agent_stats")]
    theirs = [one["type"] for one in parse_events(recorded.answer.encode())]
    assert [one for one in ours if one != "plain"] == [one for one in theirs if one != "plain"]
    said = "".join(one["data"] for one in events if one["type"] == "plain")
    assert said.startswith("tok0 tok1 tok2 tok3 tok4 tok5 tok6")
    assert next(one for one in events if one["type"] == "complete")["data"] == said

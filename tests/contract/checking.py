"""Compares responses of the server with the recorded ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..servers import Server
from ..waiting import wait_for
from . import wire
from .divergences import DIVERGENCES, Change, Delivered, Downloaded, Refusal, Uploaded
from .wire import Answer, Recording

Divergence = Refusal | Change | Uploaded | Downloaded | Delivered


#: Comparison of a case with special rules.
Check = Callable[[Recording, Answer, Server], None]


def check_answer(
    recording: Recording,
    answer: Answer,
    server: Server,
    divergences: Mapping[str, Divergence],
    special: Mapping[str, Check],
) -> None:
    """Compare a response and its stored rows, except for divergences."""
    divergence = divergences.get(recording.case)
    if isinstance(divergence, Refusal):
        _check_refusal(answer, divergence)
    elif isinstance(divergence, Uploaded):
        _check_uploaded(recording, answer, divergence)
    elif isinstance(divergence, Delivered):
        _check_delivered(recording, answer, server)
    elif isinstance(divergence, Downloaded) or recording.is_download:
        _check_download(recording, answer, divergence or Downloaded(""))
    elif recording.case in special:
        special[recording.case](recording, answer, server)
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
    # 9: the recorded server did not send these headers.
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"]


def _check_owner(recording: Recording, answer: Answer, server: Server) -> None:
    # 19: the owner's login grants access to the API, as in newer versions.
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
    """Compare the name that the model generated. §3 always requires a short one."""
    name = wait_for_name(data_dir, session_id)
    assert 0 < len(name) <= 60
    asks_model = "[provider]" in (data_dir / "configs" / "default.toml").read_text("utf-8")
    if asks_model and recorded == "Hello from mock." and "DROP" not in name:
        assert name == recorded


def wait_for_name(data_dir: Path, session_id: str) -> str:
    """Wait until a session has a name, and return it."""

    def look() -> str:
        row = wire.stored_session(data_dir, session_id)
        return (row and row[3]) or ""

    return wait_for(look)


def _check_no_host(recording: Recording, answer: Answer, server: Server) -> None:
    """The HTTP server itself rejects the request, with its own body."""
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
    """The recorder stored ``100 Continue`` as the response, and the real response as its body."""
    body = json.loads(recording.answer.partition("\r\n\r\n")[2])
    got = json.loads(answer.body)
    assert (answer.status, got["message"]) == (400, body["message"])


def _check_missing_config(recording: Recording, answer: Answer, server: Server) -> None:
    """16: a rejected request stores nothing, not even a session."""
    _check_envelope(recording, answer)
    assert wire.stored_session(server.data_dir, "cfg-missing") is None


def _check_root(recording: Recording, answer: Answer, server: Server) -> None:
    """The root redirects to the pages, which have our own address."""
    assert (answer.status, answer.headers["location"]) == (302, "admin/")


def _check_help(recording: Recording, answer: Answer, server: Server) -> None:
    """§7 lists the commands. Their texts are our own."""
    got = wire.events_of(answer.body.decode())
    expected = wire.events_of(recording.answer)
    assert [one["type"] for one in got if one["type"] != "run_started"] == [
        one["type"] for one in expected
    ]
    text = next(one["data"] for one in got if one["type"] == "plain")
    for name in ("help", "sid", "reset", "new", "stats"):
        assert f"/{name} - " in text


def _check_sid(recording: Recording, answer: Answer, server: Server) -> None:
    """§7: the UMO and the user id, with the recorded text."""
    got = wire.events_of(answer.body.decode())
    expected = wire.events_of(recording.answer)
    ours = next(one for one in got if one["type"] == "plain")
    theirs = next(one for one in expected if one["type"] == "plain")
    assert ours["data"].splitlines() == theirs["data"].splitlines()[:2]
    assert ours["streaming"] is False


def _check_pushed(recording: Recording, answer: Answer, server: Server) -> None:
    """7: a message of the tool is a separate message, at any point of the reply."""
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


#: Cases with their own comparison.
SPECIAL: dict[str, Check] = {
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

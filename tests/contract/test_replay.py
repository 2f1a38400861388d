"""Recordings of a real server, replayed on this one.

The server has two gunicorn workers, and a model endpoint that answers like the recorded one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.config.loading import load_settings
from astrbot_api.db import keys
from astrbot_api.db.models.keys import ApiKey, ApiKeyScope
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
from . import wire
from .checking import SPECIAL, check_answer, wait_for_name
from .divergences import DIVERGENCES, ELSEWHERE
from .known import DUPLICATES, KNOWN_SESSION, SECOND, upload_known_files, with_ids
from .wire import Recording

GROUPS = (
    "01-auth", "02-login", "03-apikey-admin", "10-bots-configs", "20-chat", "21-chat-stream",
    "30-sessions", "40-file", "50-im-message",
)  # fmt: skip

# As long as the recorded one, because the requests contain their length.
PASSWORD = "correct-horse-471"
#: The key that the recordings delete.
DELETED_KEY_ID = "f2891021-5a38-470e-8b22-b064972e54d0"
LISTED_USER = "sess_user_4251"


@pytest.fixture(scope="module")
def server(module_dir: Path, fake_model: FakeOpenAI) -> Iterator[Server]:
    """The server with the setup of the recorded one: configs, bots, owners of two sessions."""
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
    """The keys of the recordings, and the sessions that they expect."""
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
        wait_for_name(module_dir, f"{LISTED_USER}-s{number}")
    return made


@pytest.fixture(scope="module")
def attachment_ids(server: Server, placeholders: dict[str, str]) -> dict[str, str]:
    """Recorded ids -> ours, of the same files."""
    return upload_known_files(server, placeholders)


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
    answer = wire.send(server, with_ids(recording, attachment_ids), placeholders)
    check_answer(recording, answer, server, DIVERGENCES, SPECIAL)


def test_every_divergence_belongs_to_a_recording() -> None:
    cases = {one.case for group in GROUPS for one in wire.load_recordings(group)}
    assert not (DIVERGENCES.keys() | SPECIAL.keys() | ELSEWHERE) - cases


def test_a_stopped_stream_ends_as_recorded(server: Server, placeholders: dict[str, str]) -> None:
    # 15: the recording uses an administrator's name, which is reserved here.
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

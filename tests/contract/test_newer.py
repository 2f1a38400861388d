"""Routes of AstrBot 4.29.3, replayed in order: our responses have all of its fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.db.keys import ALL_SCOPES
from astrbot_api.testing.fake_openai import FakeOpenAI

from ..servers import Server, create_key, write_config
from . import wire
from .divergences import NEWER_DIVERGENCES
from .wire import Recording

#: The password of the recorded requests.
PASSWORD = "Peer-Passw0rd-123"

#: Values of a response that later requests use.
_IDS = ("key_id", "upload_id", "attachment_id", "stored_filename")

RECORDINGS = wire.load_recordings("80-newer")


@pytest.fixture(scope="module")
def server(module_dir: Path, fake_model: FakeOpenAI) -> Iterator[Server]:
    write_config(module_dir, fake_model.base_url)
    with Server(module_dir, ASTRBOT_ADMIN_PASSWORD=PASSWORD) as started:
        yield started


@pytest.fixture(scope="module")
def answers(server: Server, module_dir: Path) -> dict[str, wire.Answer]:
    """The response to every recorded request, sent in the recorded order."""
    body = {"username": "astrbot", "password": PASSWORD}
    token = server.request("POST", "/api/auth/login", json=body).json()["data"]["token"]
    scopes = [one for one in ALL_SCOPES if one != "chat:admin"]
    placeholders = {
        "OWNER_TOKEN": token,
        "KEY_ALL": create_key(module_dir, *scopes),
        "KEY_CHAT": create_key(module_dir, "chat"),
    }
    ids: dict[str, str] = {}
    found: dict[str, wire.Answer] = {}
    for recording in RECORDINGS:
        answer = found[recording.case] = wire.send(server, _rename(recording, ids), placeholders)
        recorded = _data_of(recording.answer)
        ours = _data_of(answer.body.decode("utf-8", "replace"))
        for name in _IDS:
            if isinstance(recorded.get(name), str) and isinstance(ours.get(name), str):
                ids[recorded[name]] = ours[name]
    return found


def _rename(recording: Recording, ids: dict[str, str]) -> Recording:
    head, body = recording.head, recording.body
    for recorded, ours in ids.items():
        head, body = head.replace(recorded, ours), body.replace(recorded, ours)
    # The recorder omitted the length. It wrote U+FFFD for each byte that is not UTF-8.
    size = len(body.replace("\ufffd", "x").encode())
    head = head.rstrip() + (f"\r\nContent-Length: {size}" if body else "")
    return replace(recording, head=head, body=body)


def _data_of(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)["data"]
    except (ValueError, KeyError, TypeError):
        return {}
    return data if isinstance(data, dict) else {}


@pytest.mark.parametrize("recording", [pytest.param(one, id=one.case) for one in RECORDINGS])
def test_every_recorded_key_is_in_the_response(
    recording: Recording, answers: dict[str, wire.Answer]
) -> None:
    answer = answers[recording.case]
    divergence = NEWER_DIVERGENCES.get(recording.case)
    assert answer.status == (divergence.status if divergence else recording.status), answer.body
    if divergence:
        if divergence.code:  # otherwise it is a success with a different shape
            assert json.loads(answer.body)["code"] == divergence.code
        return
    if recording.is_stream:
        expected = wire.events_of(recording.answer)
        got = wire.events_of(answer.body.decode())
        kinds = [one["type"] for one in expected if one["type"] != "plain"]
        shown = [one["type"] for one in got if one["type"] != "plain"]
        assert [one for one in shown if one != "error"] == kinds
        _check_shape(expected[-3:], got[-3:], recording.case)
    elif recording.answer.startswith("{"):
        _check_shape(json.loads(recording.answer), json.loads(answer.body), recording.case)


def _check_shape(expected: Any, got: Any, where: str) -> None:
    if isinstance(expected, dict):
        assert isinstance(got, dict), where
        # Translations of a plugin are the plugin's own.
        missing = expected.keys() - got.keys() - {"en-US", "zh-CN", "ja-JP"}
        assert not missing, f"{where} lacks {missing}"
        for name in expected.keys() & got.keys():
            _check_shape(expected[name], got[name], f"{where}.{name}")
    elif isinstance(expected, list):
        assert isinstance(got, list), where
        for inner, ours in zip(expected[:1], got[:1], strict=False):
            _check_shape(inner, ours, f"{where}[]")


def test_every_divergence_belongs_to_a_case() -> None:
    assert NEWER_DIVERGENCES.keys() <= {one.case for one in RECORDINGS}

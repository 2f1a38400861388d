"""Recordings of a real server, replayed on a gateway.

:class:`~astrbot_api.testing.FakeAstrBot` answers with the recorded bytes. The gateway's responses
    must be as recorded, except for ``GATEWAY_DIVERGENCES``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.db import keys
from astrbot_api.testing import FakeAstrBot

from ..servers import Server, create_key
from . import wire
from .checking import check_answer
from .divergences import DIVERGENCES, ELSEWHERE
from .gateway_divergences import GATEWAY_DIVERGENCES, GATEWAY_SPECIAL
from .known import DUPLICATES, KNOWN_SESSION, SECOND, upload_known_files, with_ids
from .wire import Recording

GROUPS = ("20-chat", "21-chat-stream", "40-file", "50-im-message")


@pytest.fixture(scope="module")
def astrbot() -> Iterator[FakeAstrBot]:
    """The AstrBot of the recordings."""
    with FakeAstrBot("4.25") as fake:
        yield fake


@pytest.fixture(scope="module")
def server(module_dir: Path, astrbot: FakeAstrBot) -> Iterator[Server]:
    """The gateway, with the recorded configs and bots."""
    table = f'base_url = "{astrbot.url}"\napi_key = "{astrbot.key}"\n'
    (module_dir / "configs").mkdir()
    names = {"default": "default", SECOND: "second", **dict.fromkeys(DUPLICATES, "dup")}
    for stem, name in names.items():
        (module_dir / "configs" / f"{stem}.toml").write_text(
            f'name = "{name}"\n[upstream]\n{table}', encoding="utf-8"
        )
    (module_dir / "bots.toml").write_text(
        f'[[bot]]\nid = "qqbot"\ntype = "astrbot"\n{table}'
        '[[bot]]\nid = "tg_off"\ntype = "telegram"\nenabled = false\n',
        encoding="utf-8",
    )
    with Server(module_dir) as started:
        yield started


@pytest.fixture(scope="module")
def placeholders(server: Server, module_dir: Path) -> dict[str, str]:
    """The key of the recordings, and a session that they expect."""
    key = create_key(module_dir, *keys.PUBLIC_SCOPES)
    server.chat(key, session_id=KNOWN_SESSION, message="hi")
    return {"KEY_ALL": key}


@pytest.fixture(scope="module")
def attachment_ids(server: Server, placeholders: dict[str, str]) -> dict[str, str]:
    """Recorded ids -> ours, of the same files."""
    return upload_known_files(server, placeholders)


def _cases() -> list[Any]:
    return [
        pytest.param(one, id=f"{group}:{one.case}")
        for group in GROUPS
        for one in wire.load_recordings(group)
        if one.case not in ELSEWHERE
    ]


@pytest.mark.parametrize("recording", _cases())
def test_the_gateway_answers_as_recorded(
    recording: Recording,
    server: Server,
    astrbot: FakeAstrBot,
    placeholders: dict[str, str],
    attachment_ids: dict[str, str],
) -> None:
    path = "/api/v1/im/message" if recording.group == "50-im-message" else "/api/v1/chat"
    # The gateway always requests a stream from AstrBot.
    whole = '"enable_streaming": false' in recording.body
    astrbot.replay(path, "" if whole else recording.answer)
    answer = wire.send(server, with_ids(recording, attachment_ids), placeholders)
    check_answer(recording, answer, server, GATEWAY_DIVERGENCES, GATEWAY_SPECIAL)


def test_every_divergence_belongs_to_a_recording() -> None:
    cases = {one.case for group in GROUPS for one in wire.load_recordings(group)}
    own = GATEWAY_DIVERGENCES.keys() - DIVERGENCES.keys()
    assert not (own | GATEWAY_SPECIAL.keys()) - cases

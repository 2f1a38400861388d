"""Pushed messages appear in open streams of two workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from astrbot_api.testing.fake_openai import FakeOpenAI

from ..servers import Server, create_key, write_config
from .pushing import push_into_streams

pytestmark = pytest.mark.e2e


def test_a_thousand_pushes_reach_fifty_streams_once_and_in_order(
    tmp_path: Path, fake_model: FakeOpenAI
) -> None:
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    with Server(tmp_path, ASTRBOT_MAX_STREAMS_PER_KEY="0", ASTRBOT_MAX_RUNS_PER_KEY="0") as server:
        key = create_key(tmp_path, "chat", "im")
        streams, _ = push_into_streams(server, key, streams=50, messages=1000)
    for one in streams:
        assert one.ended
        assert one.seen == [f"{one.session_id} message {number}" for number in range(20)]

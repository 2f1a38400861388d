"""``serve --upstream``: the first start with an AstrBot, and later ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from astrbot_api.errors import SettingsError
from astrbot_api.server.upstream import begin_with_upstream
from astrbot_api.testing import FakeAstrBot


def test_a_later_start_with_the_same_astrbot_changes_nothing(tmp_path: Path) -> None:
    with FakeAstrBot() as astrbot:
        begin_with_upstream(tmp_path, astrbot.url, astrbot.key)
    path = tmp_path / "configs" / "default.toml"
    path.write_text(path.read_text() + "max_waiting = 7\n")
    written = path.read_text()
    assert begin_with_upstream(tmp_path, f"{astrbot.url}/api/v1", astrbot.key) == []
    (check,) = begin_with_upstream(tmp_path, astrbot.url, "abk_other")
    assert check.text == f"--upstream-key is ignored, because {path} has another key"
    assert path.read_text() == written


@pytest.mark.parametrize(
    "text",
    ["[upstream]\nbase_url = 'http://x'\napi_key = 'y'\n", "[provider]\ntype = 'mock'\n"],
)
def test_a_later_start_with_another_default_config_is_rejected(tmp_path: Path, text: str) -> None:
    path = tmp_path / "configs" / "default.toml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(SettingsError, match="--upstream is for the first start"):
        begin_with_upstream(tmp_path, "http://127.0.0.1:1", "abk_x")


def test_an_unreachable_astrbot_is_named_in_one_sentence(tmp_path: Path) -> None:
    with FakeAstrBot() as astrbot:
        pass
    with pytest.raises(SettingsError) as caught:
        begin_with_upstream(tmp_path, astrbot.url, astrbot.key)
    assert str(caught.value) == (
        f"--upstream: {astrbot.url}: The AstrBot that answers this config cannot be reached; "
        "start that AstrBot, or correct base_url"
    )

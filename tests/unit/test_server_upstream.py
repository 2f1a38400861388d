"""``serve --upstream``: the first start with an AstrBot, and later ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from astrbot_api.config.upstream import UpstreamConfig
from astrbot_api.errors import SettingsError
from astrbot_api.server.doctor.upstream import ask_upstream
from astrbot_api.server.upstream import begin_with_upstream
from astrbot_api.testing import FakeAstrBot


def test_a_later_start_with_the_same_astrbot_changes_nothing(tmp_path: Path) -> None:
    with FakeAstrBot() as astrbot:
        begin_with_upstream(tmp_path, astrbot.url, astrbot.key, ["astrbot"])
    path = tmp_path / "configs" / "default.toml"
    path.write_text(path.read_text() + "max_waiting = 7\n")
    written = path.read_text()
    assert begin_with_upstream(tmp_path, f"{astrbot.url}/api/v1", astrbot.key, ["astrbot"]) == []
    (check,) = begin_with_upstream(tmp_path, astrbot.url, "abk_other", ["astrbot"])
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
        begin_with_upstream(tmp_path, "http://127.0.0.1:1", "abk_x", ["astrbot"])


def test_an_unreachable_astrbot_is_named_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        begin_with_upstream(tmp_path, "http://127.0.0.1:9", "abk_x", ["astrbot"])
    assert str(caught.value) == (
        "--upstream: http://127.0.0.1:9: The AstrBot that answers this config cannot be reached; "
        "start that AstrBot, or correct base_url"
    )


def test_administrators_whose_names_any_key_may_use_are_named(tmp_path: Path) -> None:
    with FakeAstrBot() as astrbot:
        astrbot.admins += ["10001", "web-10002"]
        for username, expected in [
            ("{username}", ["10001", "web-10002"]), ("web-{username}", ["10002"]), ("all", []),
        ]:  # fmt: skip
            upstream = UpstreamConfig(astrbot.url, api_key=astrbot.key, username=username)
            texts = [one.text for one in ask_upstream("x", upstream, ["AstrBot"])]
            named = [text.rpartition("administrators ")[2] for text in texts if "act as" in text]
            assert named == ([", ".join(expected)] if expected else [])

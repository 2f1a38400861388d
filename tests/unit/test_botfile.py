"""``bots.toml``: valid tables, and the handling of invalid ones."""

from __future__ import annotations

import os
from pathlib import Path

import marshmallow as ma
import pytest

from astrbot_api.config import watched as watchedfile
from astrbot_api.config.secrets import Secret
from astrbot_api.im.botfile import BotFile
from astrbot_api.im.registry import AdapterTypes


class FakeMessengerSettings(ma.Schema):
    """A token and a number."""

    token = Secret(required=True)
    retries = ma.fields.Integer(load_default=1)


class FakeMessengerModule:
    """The parts of an adapter's module that the file needs."""

    SettingsSchema = FakeMessengerSettings


def make_file(folder: Path, text: str) -> BotFile:
    write(folder, text)
    file = BotFile(folder, AdapterTypes({"fake": FakeMessengerModule}))  # type: ignore[dict-item]
    file.load()
    return file


def write(folder: Path, text: str) -> None:
    path = folder / "bots.toml"
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(before + 10**9, before + 10**9))


@pytest.fixture(autouse=True)
def look_at_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchedfile, "_RECHECK_S", 0.0)
    monkeypatch.setattr(watchedfile, "_SETTLED_S", 0.0)


def test_a_secret_comes_from_the_file_or_from_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOT_TOKEN", "from-env")
    bots = make_file(
        tmp_path,
        "[[bot]]\nid='a'\ntype='fake'\ntoken='from-file'\nconfig='night'\n"
        "[[bot]]\nid='b'\ntype='fake'\ntoken_env='BOT_TOKEN'\nretries=3\n",
    )
    first, second = bots.get().values()
    assert (first.settings["token"], first.config, first.fault) == ("from-file", "night", "")
    assert second.settings == {"token": "from-env", "retries": 3}
    assert "from" not in repr(first)


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("type='fake'", "bots.toml: bot a: token: Missing data for required field."),
        ("type='fake'\ntoken='t'\nretries='x'", "bots.toml: bot a: retries: Not a valid"),
        ("type='fake'\ntoken='t'\ncolour=2", "bots.toml: bot a: colour: Unknown key. Known keys:"),
        ("type='fake'\ntoken_env='NOT_SET'", "bots.toml: bot a: token_env: the variable NOT_SET"),
        (
            "type='fake'\ntoken='t'\ntoken_env='X'",
            "bots.toml: bot a: token_env: token is also set",
        ),
        ("type='unknown'", "bots.toml: bot a: type: unknown type 'unknown'; use one of apprise,"),
        (
            "type='fake'\ntoken='t'\nenabled='yes'",
            "bots.toml: bot a: enabled: must be true or false",
        ),
    ],
)
def test_a_bot_that_is_wrong_is_listed_with_its_fault(
    tmp_path: Path, lines: str, fault: str
) -> None:
    bots = make_file(
        tmp_path, f"[[bot]]\nid='a'\n{lines}\n[[bot]]\nid='b'\ntype='fake'\ntoken='t'\n"
    )
    broken, good = bots.get().values()
    assert broken.fault.startswith(fault)
    assert good.fault == ""


def test_a_bot_that_is_off_needs_no_settings(tmp_path: Path) -> None:
    bots = make_file(tmp_path, "[[bot]]\nid='a'\ntype='fake'\nenabled=false\n")
    assert [(bot.enabled, bot.fault) for bot in bots.get().values()] == [(False, "")]


def test_a_file_that_an_editor_has_emptied_or_renamed_removes_no_bot_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bots = make_file(tmp_path, "[[bot]]\nid='a'\ntype='fake'\ntoken='t'\n")
    monkeypatch.setattr(watchedfile, "_SETTLED_S", 3600)
    path = tmp_path / "bots.toml"
    path.write_text("", encoding="utf-8")
    assert bots.get().get("a") is not None
    path.unlink()
    assert bots.get().get("a") is not None
    os.utime(tmp_path, (0, 0))
    assert bots.get().get("a") is None


def test_a_change_that_is_wrong_leaves_the_bot_as_it_was(tmp_path: Path) -> None:
    bots = make_file(tmp_path, "[[bot]]\nid='a'\ntype='fake'\ntoken='t'\nretries=2\n")
    write(tmp_path, "[[bot]]\nid='a'\ntype='fake'\ntoken='t'\nretries='many'\n")
    assert [(bot.settings["retries"], bot.fault) for bot in bots.get().values()] == [(2, "")]
    write(tmp_path, "[[bot")
    assert [bot.id for bot in bots.get().values()] == ["a"]
    write(tmp_path, "[[bot]]\nid='a'\ntype='fake'\ntoken='t'\nretries=5\n")
    assert bots.get().get("a").settings["retries"] == 5  # type: ignore[union-attr]

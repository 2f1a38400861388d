"""Configs of an AstrBot are converted to this server's."""

from __future__ import annotations

import errno
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from astrbot_api.cli.main import main

from ..astrbot_data import AstrBotData
from .conftest import Api

_ID = "99662acd-9174-4f4b-851c-d8da2e0a5b08"

_PROVIDERS = [
    {"id": "off", "type": "openai_chat_completion", "enable": False, "key": ["no"]},
    {"id": "claude", "type": "anthropic_chat_completion", "key": ["sk-a"]},
    {"id": "voice", "type": "openai_tts_api", "key": ["sk-v"], "api_base": "http://v"},
    {
        "id": "deepseek", "type": "openai_chat_completion", "enable": True,
        "key": ["sk-first", "sk-second"], "api_base": "https://api.deepseek.com/v1/",
        "model_config": {"model": "deepseek-chat", "temperature": 0.4, "max_tokens": 0},
    },
    {"id": "second", "provider_source_id": "src", "model": "qwen3:8b", "api_base": "",
     "modalities": ["text", "image", "tool_use"],
     "custom_extra_body": {"enable_thinking": False, "stop": None}},
]  # fmt: skip

_SOURCES = [
    {"id": "src", "type": "openai_chat_completion", "key": ["$QWEN_KEY", "${OTHER}"],
     "api_base": "http://127.0.0.1:11434/v1", "proxy": "http://127.0.0.1:7890",
     "custom_headers": {"User-Agent": "me/1.0", "X-Empty": ""}},
]  # fmt: skip

_CONFIG = {
    "provider": _PROVIDERS,
    "provider_sources": _SOURCES,
    "provider_settings": {"default_provider_id": "second", "default_personality": "cat"},
    "dashboard": {"password": "not to be taken"},
}


@pytest.fixture
def data(data: AstrBotData) -> AstrBotData:
    """An AstrBot's data directory with two configs."""
    data.add_config("cmd_config.json", _CONFIG)
    data.add_config(f"config/abconf_{_ID}.json", {"provider_settings": {}})
    data.db.execute("INSERT INTO personas VALUES (1, 'cat', 'You are a cat.\n\"Meow\"')")
    value = f'{{"val": {{"{_ID}": {{"name": "second 配置", "path": "abconf_{_ID}.json"}}}}}}'
    data.db.execute("INSERT INTO preferences VALUES (1, 'global', 'x', ?)", (value,))
    return data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data directory of this server without a first start."""
    return tmp_path / "ours"


@pytest.fixture
def run(folder: Path, data: AstrBotData) -> Callable[..., Result]:
    """Import the configs."""

    def run(*arguments: str) -> Result:
        words = ["import-astrbot", str(data.folder), "--data-dir", str(folder), "--only", "configs"]
        return CliRunner().invoke(main, [*words, *arguments])

    return run


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def test_providers_models_keys_and_the_prompt_are_imported(
    run: Callable[..., Result], folder: Path
) -> None:
    done = run("--apply")
    path = folder / "configs" / "default.toml"
    config = _read(path)
    assert config["provider"] == {
        "id": "second", "type": "openai", "base_url": "http://127.0.0.1:11434/v1",
        "model": "qwen3:8b", "api_key_env": "QWEN_KEY", "modalities": ["text", "image"],
        "proxy": "http://127.0.0.1:7890", "headers": {"User-Agent": "me/1.0"},
        "extra": {"enable_thinking": False},
    }  # fmt: skip
    assert config["providers"] == {
        "deepseek": {
            "id": "deepseek", "type": "openai", "base_url": "https://api.deepseek.com/v1/",
            "model": "deepseek-chat", "api_key": "sk-first", "api_keys": ["sk-second"],
            "extra": {"temperature": 0.4},
        }
    }  # fmt: skip
    assert config["agent"] == {"system_prompt": 'You are a cat.\n"Meow"'}
    assert path.stat().st_mode & 0o777 == 0o600
    assert "not to be taken" not in path.read_text()
    for told in ("can be a variable", "is disabled", "anthropic_chat_completion", "openai_tts_api"):
        assert told in done.stdout
    assert "sk-" not in done.output


def test_another_config_keeps_its_id_and_name_and_has_the_default_providers(
    run: Callable[..., Result], folder: Path, make_api: Callable[..., Api]
) -> None:
    run("--apply")
    config = _read(folder / "configs" / f"{_ID}.toml")
    assert config["name"] == "second 配置"
    assert config["provider"]["id"] == "deepseek"
    api = make_api()
    words = ["--data-dir", str(api.state.settings.data_dir), "--apply"]
    source = str(folder.parent / "astrbot")
    assert CliRunner().invoke(main, ["import-astrbot", source, *words]).exit_code == 0
    api.state.agents.configs._refresh(max_age_s=0.0)
    listed = api.get("/api/v1/configs").json["data"]["configs"]  # type: ignore[index]
    assert {one["id"]: one["name"] for one in listed}[_ID] == "second 配置"


def test_no_config_is_ever_overwritten(run: Callable[..., Result], folder: Path) -> None:
    configs = folder / "configs"
    configs.mkdir(parents=True)
    for name in ("default", _ID):
        (configs / f"{name}.toml").write_text("name = 'mine'\n")
    done = run("--apply")
    assert f"configs/{_ID}.toml already exists and is kept" in done.stdout
    assert "the import writes configs/astrbot.toml" in done.stdout
    for name in ("default", _ID):
        assert (configs / f"{name}.toml").read_text() == "name = 'mine'\n"
    assert _read(configs / "astrbot.toml")["provider"]["id"] == "second"
    assert "1 already here" in run("--apply").stdout


def test_a_full_disk_stops_the_import_and_names_the_config(
    run: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("astrbot_api.importing.configs.os.link", refuse)
        ended = run("--apply")
    assert ended.exit_code == 2
    assert "configs/default.toml: cannot be written: " in ended.output
    assert list((folder / "configs").iterdir()) == []
    assert run("--apply").exit_code == 0


def test_without_apply_no_file_is_written(run: Callable[..., Result], folder: Path) -> None:
    assert "2 to import" in run().stdout
    assert not (folder / "configs").exists()


@pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff\xff", b"[" * 100_000, None])
def test_an_unreadable_config_is_reported(
    run: Callable[..., Result], data: AstrBotData, folder: Path, text: bytes | None
) -> None:
    path = data.folder / "cmd_config.json"
    path.unlink()
    if text is not None:
        path.write_bytes(text)
    done = run("--apply")
    assert done.exit_code == 0, done.output
    assert "skipped 1" in done.stdout
    assert not (folder / "configs" / "default.toml").exists()


def test_an_invalid_provider_creates_no_config(
    run: Callable[..., Result], data: AstrBotData, folder: Path
) -> None:
    broken = [{"id": "x", "type": "openai_chat_completion", "api_base": "no url"}]
    data.add_config("cmd_config.json", {"provider": broken})
    assert "this server would reject it" in run("--apply").stdout
    assert not list((folder / "configs").glob(".*"))


def test_unexpected_shapes_do_not_crash_the_import(
    run: Callable[..., Result], data: AstrBotData
) -> None:
    data.add_config(
        "cmd_config.json",
        {
            "provider": [1, {"id": 5}, {"type": "openai_chat_completion", "key": 7}],
            "provider_settings": [],
            "persona": {"a": 1},
        },
    )
    assert run("--apply").exit_code == 0
    data.add_config(
        "cmd_config.json", {"provider": {}, "provider_settings": {"default_personality": 1}}
    )
    assert run("--apply").exit_code == 0

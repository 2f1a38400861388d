"""The admin page of configs: their models, and files with errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.config import files, watched
from astrbot_api.owner import passwords
from astrbot_api.testing import make_app

from ..servers import add_config

PASSWORD = "a long enough password"

CONFIG = """
name = "Support"
[provider]
id = "gpt"
type = "openai"
base_url = "http://127.0.0.1:9/v1"
model = "gpt-oss"
api_key = "sk-secret"
[providers.other]
type = "openai"
base_url = "http://127.0.0.1:9/v1"
api_key_env = "A_VARIABLE_THAT_IS_NOT_SET"
[agent]
system_prompt = "Be brief."
[mcp.search]
command = ["nothing"]
[widget]
origins = ["https://shop.example"]
"""

Show = Callable[[], dict[str, Any]]


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Show]:
    """Return the page's data, as the owner's browser gets it."""
    cheap = passwords.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(passwords, "_HASHER", cheap)
    for module in (files, watched):
        monkeypatch.setattr(module, "_RECHECK_S", 0.0)
    monkeypatch.setattr(watched, "_SETTLED_S", 0.0)
    add_config(tmp_path, CONFIG, "support")
    with make_app(data_dir=tmp_path, admin_password=PASSWORD) as made:
        client = made.app.test_client(use_cookies=False)
        body = {"username": "astrbot", "password": PASSWORD}
        token = client.post("/api/auth/login", json=body).get_json()["data"]["token"]
        headers = {"Authorization": f"Bearer {token}"}
        yield lambda: client.get("/admin/data/config-files", headers=headers).get_json()["data"]


def test_each_config_is_shown_with_its_models_and_without_their_keys(show: Show) -> None:
    support, default = show()["configs"]
    assert (support["name"], support["path"]) == ("Support", "configs/support.toml")
    assert (support["is_default"], default["is_default"]) == (False, True)
    first, other = support["models"]
    assert first == {
        "id": "gpt", "type": "openai", "model": "gpt-oss", "host": "127.0.0.1:9", "error": "",
    }  # fmt: skip
    assert "A_VARIABLE_THAT_IS_NOT_SET" in other["error"]
    assert support["system_prompt"] == "Be brief."
    assert support["mcp"] == [{"name": "search", "status": "", "tools": 0}]
    assert (support["origins"], default["origins"]) == (["https://shop.example"], [])
    assert "sk-secret" not in str(show())


@pytest.mark.parametrize("name", ["configs/support.toml", "bots.toml", "webhooks.toml"])
def test_an_invalid_file_is_shown_until_it_is_corrected(
    show: Show, tmp_path: Path, name: str
) -> None:
    assert show()["invalid"] == []
    (tmp_path / name).write_text("[broken\n", encoding="utf-8")
    (invalid,) = show()["invalid"]
    assert (invalid["name"], invalid["kept"]) == (name, True)
    assert name in invalid["error"]
    assert "line 1" in invalid["error"]
    assert [one["id"] for one in show()["configs"]] == ["support", "default"]
    (tmp_path / name).write_text(CONFIG if "configs/" in name else "", encoding="utf-8")
    assert show()["invalid"] == []


def test_a_new_invalid_config_is_shown_as_not_used(show: Show, tmp_path: Path) -> None:
    path = tmp_path / "configs" / "new.toml"
    path.write_text('[provider]\ntyp = "openai"\n', encoding="utf-8")
    (invalid,) = show()["invalid"]
    assert (invalid["name"], invalid["kept"]) == ("configs/new.toml", False)
    assert "typ" in invalid["error"]
    path.unlink()
    assert show()["invalid"] == []

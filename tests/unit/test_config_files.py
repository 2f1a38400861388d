"""Config files are validated, and reloaded after changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from astrbot_api import ApiError, SettingsError
from astrbot_api.config.files import ConfigFiles
from astrbot_api.im.botfile import BotFile


def write(data_dir: Path, name: str, text: str) -> Path:
    folder = data_dir / "configs"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ConfigFiles:
    """Configs whose files are read again each time."""
    monkeypatch.setattr("astrbot_api.config.files._RECHECK_S", 0)
    monkeypatch.setattr("astrbot_api.config.files._RECHECK_UNKNOWN_S", 0)
    monkeypatch.setattr("astrbot_api.config.watched._SETTLED_S", 0)
    found = ConfigFiles(tmp_path)
    found.load_all()
    return found


def test_a_config_that_is_not_known_yet_is_looked_for_at_once(tmp_path: Path) -> None:
    configs = ConfigFiles(tmp_path)
    configs.load_all()
    for number in range(3):
        assert configs.find_config(f"new{number}") is None
        write(tmp_path, f"new{number}", "[provider]\ntype = 'mock'\n")
        assert configs.find_config(f"new{number}") is not None
    assert configs.find_config("../configs/new0") is None
    assert configs.find_config("a\0b") is None


def test_the_first_start_writes_a_default_config(configs: ConfigFiles, tmp_path: Path) -> None:
    assert (tmp_path / "configs" / "default.toml").exists()
    assert [one.id for one in configs.list_configs()] == ["default"]
    assert configs.get_default().provider.type == "auto"


def test_a_folder_that_cannot_be_listed_removes_no_config(
    configs: ConfigFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "other", "[provider]\ntype = 'mock'\n")
    assert configs.find_config("other") is not None
    folder = tmp_path / "configs"
    folder.rename(tmp_path / "unmounted")
    for _ in range(2):
        assert [one.id for one in configs.list_configs()] == ["other", "default"]
    assert caplog.text.count(f"{folder} cannot be listed: No such file or directory") == 1
    (tmp_path / "unmounted").rename(folder)
    (folder / "other.toml").unlink()
    assert [one.id for one in configs.list_configs()] == ["default"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name = bad",
            'configs/bad.toml: Invalid value (at line 1, column 8); write texts in "straight',
        ),
        (
            "[provider]\ntype = 'auto'\ntype = 'mock'\n",
            "configs/bad.toml: Cannot overwrite a value (at line 3, column 14); the table has this",
        ),
        (
            '[agent]\nsystem_prompt = "You are\na pirate."',
            "configs/bad.toml: Illegal character '\\n' (at line 2, column 25); close the quotes,",
        ),
        (
            "name = 'bad\n[provider]\ntype = 'mock'",
            "configs/bad.toml: Found invalid character '\\n' (at line 1, column 12); close the",
        ),
        ("[provider]\ntype = 'gpt'", "configs/bad.toml: provider.type: Must be one of"),
        ("[provider]\ntype = 'openai'", "configs/bad.toml: provider.base_url: required"),
        (
            "[provider]\nbase_url = 'file:///etc/passwd'",
            "configs/bad.toml: provider.base_url: Not a valid URL.",
        ),
        ("[agent]\nmax_steps = 0", "configs/bad.toml: agent.max_steps: Must be greater"),
        (
            "[agent]\nmax_step = 1",
            "configs/bad.toml: agent.max_step: Unknown key. Did you mean max_steps?",
        ),
        ("[agents]\nmax_steps = 1", "configs/bad.toml: agents: Unknown key. Did you mean agent?"),
        (
            "[agent]\ntemprature = 1",
            "configs/bad.toml: agent.temprature: Unknown key. Known keys: file_tok",
        ),
        (
            "[providers.x]\ntype = 'openai'",
            "configs/bad.toml: providers.x.base_url: required for type openai",
        ),
        (
            "[provider]\ntype = 'mock'\n[providers.mock]\ntype = 'local'",
            "configs/bad.toml: providers.mock: the id mock is used twice; set another id",
        ),
        ("provider = 'openai'", "configs/bad.toml: provider: Must be a table, as in [table]."),
        (
            "[provider]\napi_key_env = 'sk-proj-1'",
            "configs/bad.toml: provider.api_key_env: Must be the name of an environment variable.",
        ),
        ("[tools]\nallow = 'all'", "configs/bad.toml: tools.allow: Must be a list"),
        ("[provider]\nproxy = '127.0.0.1:3128'", "configs/bad.toml: provider.proxy: Must begin"),
        (
            "[upstream]\nbase_url = 'http://h'\napi_key = 'k'\nproxy = '[::1]:3128'",
            "configs/bad.toml: upstream.proxy: Must begin",
        ),
        (
            "[transcription]\nbase_url = 'http://h'\nmodel = 'm'\nproxy = 'h:1'",
            "configs/bad.toml: transcription.proxy: Must begin",
        ),
        (
            "[transcription]\nbase_url = 'http://h'",
            "configs/bad.toml: transcription.model: Missing data for required field.",
        ),
        ("[widget]\norigins = ['https://[shop']", "configs/bad.toml: widget.origins.0: Must be an"),
        ("[widget]\norigins = []", "configs/bad.toml: widget.origins: Length must be between"),
    ],
)
def test_a_bad_file_is_one_line_file_key_fault(
    tmp_path: Path, configs: ConfigFiles, text: str, message: str
) -> None:
    write(tmp_path, "bad", text)
    with pytest.raises(SettingsError) as caught:
        configs.load_all()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://my_model:8080/v1", "http://[::1]:1/v1", "HTTPS://u:p@h.example/v1", " http://h/v1 "],
)
def test_a_model_may_be_at_any_host_such_as_one_of_compose(
    tmp_path: Path, configs: ConfigFiles, url: str
) -> None:
    write(tmp_path, "one", f"[provider]\ntype = 'openai'\nbase_url = '{url}'")
    assert configs.find_config("one").provider.base_url == url.strip()  # type: ignore[union-attr]


@pytest.mark.parametrize("url", ["h:1", "http://", "http://a b/", "http://h:99999/", "ftp://h/"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, configs: ConfigFiles, url: str) -> None:
    write(tmp_path, "one", f"[provider]\ntype = 'openai'\nbase_url = '{url}'")
    with pytest.raises(SettingsError, match=r"provider\.base_url: Not a valid URL\. Write http"):
        configs.load_all()


@pytest.mark.parametrize("coding", ["utf-16", "latin-1", "gbk"])
def test_a_file_in_another_encoding_is_named_with_the_line(
    tmp_path: Path, configs: ConfigFiles, coding: str
) -> None:
    text = "name = 'a'\n# ä\n" if coding == "latin-1" else "name = 'a'\n# 你好\n"
    (tmp_path / "configs" / "bad.toml").write_bytes(text.encode(coding))
    line = 1 if coding == "utf-16" else 2
    with pytest.raises(SettingsError) as caught:
        configs.load_all()
    assert str(caught.value) == (
        f"configs/bad.toml: not UTF-8 (line {line}); save the file as UTF-8"
    )


def test_a_file_of_an_editor_on_windows_is_read(tmp_path: Path, configs: ConfigFiles) -> None:
    write(tmp_path, "windows", "\ufeff[agent]\r\ntitles = false\r\n")
    configs.load_all()
    assert not configs.find_config("windows").agent.titles  # type: ignore[union-attr]


def test_a_change_is_picked_up_and_a_bad_one_keeps_the_last_good(
    tmp_path: Path, configs: ConfigFiles, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "second", "name = 'one'")
    assert configs.find_config("second").name == "one"  # type: ignore[union-attr]
    path.write_text("name = 'other'", encoding="utf-8")
    assert configs.find_config("second").name == "other"  # type: ignore[union-attr]
    path.write_text("name = 5", encoding="utf-8")
    assert configs.find_config("second").name == "other"  # type: ignore[union-attr]
    assert (
        "configs/second.toml: name: Not a valid string. (its last valid version stays)"
        in caplog.text
    )
    os.unlink(path)
    assert configs.find_config("second") is None
    assert "configs/second.toml was removed; turns cannot use it" in caplog.text


def test_a_file_that_an_editor_is_writing_changes_nothing_yet(
    tmp_path: Path, configs: ConfigFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "default", "name = 'one'\n[tools]\ndeny = ['*']\n")
    assert configs.get_default().name == "one"
    monkeypatch.setattr("astrbot_api.config.watched._SETTLED_S", 3600)
    for step in ("", "name = 'two'\n"):  # both are valid, and both allow all tools
        path.write_text(step, encoding="utf-8")
        assert configs.get_default().name == "one"
    path.rename(path.with_name("default.toml~"))
    assert configs.get_default().name == "one"
    write(tmp_path, "default", "name = 'two'\n[tools]\ndeny = ['*']\n")
    os.utime(path, (0, 0))
    assert configs.get_default().name == "two"
    path.unlink()
    os.utime(path.parent, (0, 0))
    assert configs.find_config("default") is None


def test_a_file_that_is_new_or_was_invalid_is_used_at_once(
    tmp_path: Path, configs: ConfigFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrbot_api.config.watched._SETTLED_S", 3600)
    write(tmp_path, "new", "name = ")
    assert configs.find_config("new") is None
    write(tmp_path, "new", "name = 'new'")
    assert configs.find_config("new") is not None


def test_a_path_that_cannot_be_read_fails_no_request(
    configs: ConfigFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "replaced", "[provider]\ntype = 'mock'\n")
    assert configs.find_config("replaced") is not None
    path.unlink()
    path.symlink_to(path.name)
    os.mkfifo(path.with_name("pipe.toml"))
    path.with_name("dangling.toml").symlink_to("nothing")
    assert [one.id for one in configs.list_configs()] == ["replaced", "default"]
    assert "configs/replaced.toml: " in caplog.text


def test_files_of_editors_and_pipes_are_no_configs_at_the_start_either(tmp_path: Path) -> None:
    path = write(tmp_path, "default", "[provider]\ntype = 'mock'\n")
    path.with_name(".#default.toml").symlink_to("user@host.1:2")  # Emacs
    path.with_name("._default.toml").write_bytes(b"\0\5\x16\7")  # macOS
    os.mkfifo(path.with_name("pipe.toml"))
    configs = ConfigFiles(tmp_path)
    configs.load_all()
    assert [one.id for one in configs.list_configs()] == ["default"]
    path.with_name("broken.toml").symlink_to("nothing")
    with pytest.raises(SettingsError, match=r"configs/broken\.toml: "):
        configs.load_all()


def test_the_id_wins_over_the_name_and_a_doubtful_name_is_refused(
    tmp_path: Path, configs: ConfigFiles
) -> None:
    for stem in ("one", "two"):
        write(tmp_path, stem, "name = 'same'")
    assert configs.choose_config("one", "nothing").id == "one"  # type: ignore[union-attr]
    assert configs.choose_config("", "") is None
    with pytest.raises(ApiError, match="config_name is ambiguous, please use config_id: same"):
        configs.choose_config("", "same")


def test_a_key_of_openai_is_sent_to_openai_alone(
    tmp_path: Path, configs: ConfigFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("OTHER_KEY", "other")
    for stem, lines in (
        ("openai", "base_url = 'https://api.openai.com/v1'"),
        ("else", "base_url = 'http://127.0.0.1/v1'"),
        ("named", "base_url = 'http://127.0.0.1/v1'\napi_key_env = 'OTHER_KEY'"),
    ):
        write(tmp_path, stem, f"[provider]\ntype = 'openai'\n{lines}")
    keys = {
        stem: configs.find_config(stem).provider.resolve_api_key()  # type: ignore[union-attr]
        for stem in ("openai", "else", "named")
    }
    assert keys == {"openai": "sk-openai", "else": "", "named": "other"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[bot]]\ntype = 'x'", "bots.toml: bot 1: id: required, a string"),
        ("[[bot]]\nid = 'a'", "bots.toml: bot 1: type: required, a string"),
        ("[[bot]]\nid = 'a:b'\ntype = 'x'", "bots.toml: bot 1: id: must not contain a colon"),
        (
            "[[bot]]\nid = 'a'\ntype = 'x'\n[[bot]]\nid = 'a'\ntype = 'x'",
            "bots.toml: bot 2: id: a is used twice",
        ),
        ("bot = 1", "bots.toml: write [[bot]], one table per bot"),
        ("[[bot", "bots.toml: "),
    ],
)
def test_a_bad_bot_file_is_refused_at_the_start(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bots.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        BotFile(tmp_path).load()
    assert str(caught.value).startswith(message)

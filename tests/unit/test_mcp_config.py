"""``[mcp.NAME]`` tables: valid and invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from astrbot_api.config.agents import AgentConfig, read_config
from astrbot_api.config.mcp import hash_definition
from astrbot_api.errors import SettingsError


def read(folder: Path, text: str) -> AgentConfig:
    path = folder / "default.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path, "configs/default.toml")


def test_a_command_and_a_url_are_read(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        "[mcp.time]\n"
        'command = ["uvx", "mcp-server-time"]\n'
        'env = { TZ = "UTC" }\n'
        'inherit_env = ["TOKEN", "NOT_SET"]\n'
        'cwd = "/tmp"\n'
        "timeout_s = 5\n"
        "[mcp.web]\n"
        'url = "http://127.0.0.1:9/mcp"\n'
        'headers = { X-Team = "a" }\n'
        'token_env = "WEB_KEY"\n',
    )
    environ = {"TOKEN": "t", "WEB_KEY": "k", "OTHER": "o"}
    assert config.mcp["time"].timeout_s == 5
    assert config.mcp["time"].to_definition(environ) == {
        "name": "time",
        "command": ["uvx", "mcp-server-time"],
        "env": {"TZ": "UTC", "TOKEN": "t"},
        "cwd": "/tmp",
    }
    assert config.mcp["web"].to_definition(environ) == {
        "name": "web",
        "url": "http://127.0.0.1:9/mcp",
        "headers": {"X-Team": "a", "Authorization": "Bearer k"},
    }


def test_a_server_that_is_not_enabled_is_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, '[mcp.time]\ncommand = ["x"]\nenabled = false\n').mcp == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[mcp.a]\ncommand = ["x"]\nurl = "http://h/"', "mcp.a.command: Requires either"),
        ("[mcp.a]\n", "mcp.a.command: Requires either"),
        ("[mcp.a]\ncommand = []", "mcp.a.command: Shorter than"),
        ('[mcp.a]\ncommand = "x"', "mcp.a.command: Must be a list, as in"),
        ('[mcp.a]\ncommand = "x"\nargs = ["y"]', 'mcp.a.args: Write command = ["PROGRAM", "ARG'),
        ('[mcp.a]\nurl = "ftp://h/"', "mcp.a.url: Not a valid URL."),
        ('[mcp.a]\nurl = "http://h/"\nenv = { A = "b" }', "mcp.a.env: Cannot be used with url."),
        (
            '[mcp.a]\nurl = "http://x/"\n[mcp.a.oauth]\nclient_id = "c"\ntoken_file = "/t"',
            "mcp.a.oauth.issuer: ",
        ),
        (
            '[mcp.a]\nurl = "http://x/"\n[mcp.a.oauth]\nissuer = "http://y"\nclient_id = "c"',
            "mcp.a.oauth.client_id: Requires client_secret_env",
        ),
        (
            '[mcp.a]\nurl = "http://x/"\n[mcp.a.oauth]\nissuer = "http://y"\nclient_id = "c"\n'
            'token_file = "t.json"',
            "mcp.a.oauth.token_file: Must be an absolute path",
        ),
        (
            '[mcp.a]\nurl = "http://x/"\ntoken_env = "T"\n[mcp.a.oauth]\nissuer = "http://y"\n'
            'client_id = "c"\ntoken_file = "/t"',
            "mcp.a.token_env: Cannot be used with oauth",
        ),
        ('[mcp.a]\ncommand = ["x"]\ntoken_env = "K"', "mcp.a.token_env: Cannot be used"),
        ('[mcp.a]\ncommand = ["x"]\nenv = { A = 1 }', "mcp.a.env.A: Not a valid string."),
        ('[mcp.a]\ncommand = ["x"]\nfoo = 1', "mcp.a.foo: Unknown key. Known keys: command, cwd"),
        ('[mcp.a]\ncommand = ["x"]\ntimeout_s = 0', "mcp.a.timeout_s: Must be"),
        ('[mcp."a.b"]\ncommand = ["x"]', "mcp.a.b.key: The name may only have letters"),
        (f'[mcp.{"a" * 33}]\ncommand = ["x"]', "The name may have at most 32 characters."),
    ],
)
def test_a_wrong_table_gives_one_line(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith("configs/default.toml: ")
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        '[mcp.a]\ncommand = ["x"]\nenv = { T = "swordfish" }\n'
        '[mcp.b]\nurl = "http://h/?k=swordfish"\nheaders = { T = "swordfish" }\n',
    )
    assert "swordfish" not in repr(config)


def test_the_same_definition_has_the_same_hash() -> None:
    one, other = {"name": "a", "env": {"A": "1", "B": "2"}}, {"env": {"B": "2", "A": "1"}}
    assert hash_definition(one) == hash_definition({**other, "name": "a"})
    assert hash_definition(one) != hash_definition({**one, "name": "b"})


def test_the_secret_of_a_client_is_a_variable(tmp_path: Path) -> None:
    text = (
        '[mcp.a]\nurl = "http://x/"\n[mcp.a.oauth]\nissuer = "http://y"\nclient_id = "c"\n'
        'client_secret_env = "SECRET"\nscope = "read"\n'
    )
    path = tmp_path / "a.toml"
    path.write_text(text)
    server = read_config(path, "a.toml").mcp["a"]
    found = server.to_definition({"SECRET": "swordfish"})
    assert found["oauth"]["client_secret"] == "swordfish"
    assert "swordfish" not in repr(server)

"""First start with an AstrBot as the upstream: ``serve --upstream``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..config.agents import read_config
from ..config.files import DEFAULT_CONFIG_ID
from ..config.tables import remove_tails
from ..config.upstream import API_PATHS, UpstreamConfig
from ..errors import SettingsError
from ..runtime.private_files import write_new_private_file
from .doctor import Finding
from .doctor.upstream import ask_upstream

_TOML = """\
# An AstrBot answers. Changes apply to the next turn, without a restart.
name = "default"

[upstream]
type = "astrbot"
base_url = {base_url}
api_key = {api_key}
# The username at AstrBot. {{username}} is the caller's name.
username = "{{username}}"
# Interrupted answers are looked up with the key, if it has the scope data, or with this login.
# owner_username = "astrbot"
# owner_password_env = "NAME_OF_A_VARIABLE"
max_concurrent = 4
"""


def begin_with_upstream(
    folder: Path, base_url: str, api_key: str, admin_names: Sequence[str]
) -> list[Finding]:
    """Write ``configs/default.toml`` for an AstrBot, after testing its key.

    A later start with the same AstrBot changes nothing, so that a container may keep the option.

    :param admin_names: Usernames that only keys with ``chat:admin`` may use here.
    :returns: The tests with a warning, or one about another key at a later start.
    :raises SettingsError: if a default config without this AstrBot exists, or chat is not
        possible. Nothing is written then.
    """
    path = folder / "configs" / f"{DEFAULT_CONFIG_ID}.toml"
    upstream = UpstreamConfig(base_url=remove_tails(base_url, API_PATHS), api_key=api_key)
    if path.exists():
        ours = read_config(path, f"configs/{path.name}").upstream
        if ours is not None and ours.base_url == upstream.base_url:
            if ours.resolve_api_key() == upstream.resolve_api_key():
                return []
            text = f"--upstream-key is ignored, because {path} has another key"
            remedy = "correct api_key there if AstrBot's key changed"
            return [Finding("--upstream", "warn", text, remedy)]
        raise SettingsError(
            f"--upstream is for the first start, but {path} exists; edit its [upstream] table"
        )
    checks = list(ask_upstream("--upstream", upstream, admin_names))
    for check in checks:
        if check.state == "fail":
            raise SettingsError(f"--upstream: {check.text}; {check.remedy}")
    text = _TOML.format(base_url=json.dumps(upstream.base_url), api_key=json.dumps(api_key))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_new_private_file(path, text)
    return [check for check in checks if check.state == "warn"]

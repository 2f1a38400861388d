"""The first start in front of an AstrBot: ``serve --upstream``."""

from __future__ import annotations

import json
from pathlib import Path

from ..config.files import DEFAULT_CONFIG_ID
from ..config.upstream import UpstreamConfig, normalize_base_url
from ..errors import SettingsError
from ..runtime.private_files import open_private
from ..upstream.checking import UpstreamCheck, check_upstream

_TOML = """\
# An AstrBot answers. A change is picked up by the next turn; no restart.
name = "default"

[upstream]
type = "astrbot"
base_url = {base_url}
api_key = {api_key}
# Who speaks there: the caller's name. AstrBot shows the history, and the runs, of
# "api_key:<key_id>" alone to its key; with the owner's login, of everybody.
username = "{{username}}"
# owner_username = "astrbot"
# owner_password_env = "NAME_OF_A_VARIABLE"
max_concurrent = 4
"""


def begin_with_upstream(folder: Path, base_url: str, api_key: str) -> list[UpstreamCheck]:
    """Write ``configs/default.toml`` for an AstrBot, after asking what its key opens.

    :returns: What will not work.
    :raises SettingsError: when there is a default config, or no chat is possible; nothing
        is written.
    """
    path = folder / "configs" / f"{DEFAULT_CONFIG_ID}.toml"
    if path.exists():
        raise SettingsError(
            f"--upstream is for the first start: {path} exists; write its [upstream] table there"
        )
    upstream = UpstreamConfig(base_url=normalize_base_url(base_url), api_key=api_key)
    checks = list(check_upstream(upstream))
    for check in checks:
        if check.state == "fail":
            raise SettingsError(f"--upstream: {check.text}; {check.remedy}")
    text = _TOML.format(base_url=json.dumps(upstream.base_url), api_key=json.dumps(api_key))
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "x", encoding="utf-8", opener=open_private) as file:
        file.write(text)
    return [check for check in checks if check.state == "warn"]

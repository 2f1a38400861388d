"""Adapters load at their first use, and report missing packages in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from astrbot_api.errors import SettingsError
from astrbot_api.im.registry import AdapterTypes

#: Additional packages of each type.
NEEDED = {
    "telegram": "markdown_it",
    "onebot": "markdown_it",
    "slack": "markdown_it",
    "apprise": "apprise",
}


@pytest.mark.parametrize(("type", "package"), NEEDED.items())
def test_a_missing_extra_is_named_with_the_command(
    type: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith(("astrbot_api.im.markdown", f"astrbot_api.im.{type}")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingsError) as caught:
        AdapterTypes().load(type)
    assert str(caught.value) == (
        f"type {type} needs a package that is not installed ({package}): "
        "pip install 'astrbot-api[im]'"
    )


def test_nothing_is_loaded_before_it_is_used() -> None:
    program = (
        "import sys, astrbot_api.im.registry, astrbot_api.im.bots\n"
        "print([x for x in ('markdown_it', 'apprise', 'astrbot_api.im.telegram', "
        "'astrbot_api.im.webhook') if x in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"

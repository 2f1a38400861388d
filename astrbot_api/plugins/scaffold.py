"""``astrbot-api plugins new``: a running plugin to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from .context import PluginError
from .finding import find_name_fault

_FILES = ("plugin.py", "test_plugin.py", "README.rst")


def create_plugin(data_dir: Path, name: str) -> Path:
    """Write a plugin with its README and its test; return its folder.

    :raises PluginError: for a name that cannot be one, or is taken.
    """
    fault = find_name_fault(name)
    if fault:
        raise PluginError(f"{name}: {fault}")
    folder = data_dir / "plugins" / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise PluginError(f"{folder} is there already") from None
    values = {
        "NAME": name,
        "IDENTIFIER": name.replace("-", "_"),
        "UNDERLINE": "=" * len(name),
        "FOLDER": str(folder),
    }
    for file in _FILES:
        text = (files(__package__) / "template" / f"{file}.txt").read_text(encoding="utf-8")
        (folder / file).write_text(_fill(text, values), encoding="utf-8")
    return folder


def _fill(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"${name}", value)
    return text

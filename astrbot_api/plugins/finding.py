"""Find plugins, without importing them."""

from __future__ import annotations

import importlib.util
import re
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from ..config.agents import RESERVED_PLUGIN_NAMES
from .context import PluginError

ENTRY_POINT_GROUP = "astrbot_api.plugins"

BUILT_IN = "built-in"
APPLICATION = "application"
FOLDER = "folder"
ENTRY_POINT = "entry point"

#: Name of the plugin's class in a folder.
_CLASS_NAME = "Plugin"

#: Prefix of a folder's modules. A unique name follows, so that they shadow no other module and two
#: applications do not share them.
_MODULE_PREFIX = "_astrbot_plugin_"

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class FoundPlugin:
    """A plugin that can be loaded.

    :param source: One of the four constants of this module.
    :param where: Its folder, distribution or class, for messages.
    :param load: Imports it and returns its factory, usually a class.
    """

    name: str
    source: str
    where: str
    load: Callable[[], Callable[[], Any]]


def find_plugins(data_dir: Path) -> list[FoundPlugin]:
    """Return the plugins of a data directory and of the installed packages."""
    return [*_iter_folders(data_dir), *_iter_entry_points()]


def from_classes(classes: Sequence[Callable[[], Any]], source: str) -> list[FoundPlugin]:
    """Return plugins for classes. ``name`` of a class is the plugin's name.

    :raises TypeError: for an object that cannot be called.
    """
    for one in classes:
        if not callable(one):
            raise TypeError(f"plugins= must contain classes; {one!r} is none")
    return [
        FoundPlugin(
            getattr(one, "name", getattr(one, "__name__", "plugin").lower()),
            source,
            f"{one.__module__}.{getattr(one, '__qualname__', one)}",
            partial(lambda found: found, one),
        )
        for one in classes
    ]


def find_name_fault(name: str) -> str:
    """Return the fault of a plugin's name, or an empty string."""
    if not _NAME.fullmatch(name):
        return "a name has small letters, digits, '_' and '-', and begins with a letter"
    if name in RESERVED_PLUGIN_NAMES:
        return f"{name} is a setting of [plugins]; give the plugin another name"
    return ""


def forget_modules(plugin: object) -> None:
    """Remove the modules of a folder's plugin from ``sys.modules``."""
    root = type(plugin).__module__.partition(".")[0]
    if root.startswith(_MODULE_PREFIX):
        for name in [one for one in sys.modules if one.partition(".")[0] == root]:
            del sys.modules[name]


def _iter_folders(data_dir: Path) -> Iterator[FoundPlugin]:
    folder = data_dir / "plugins"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        # A single file is a plugin, too, whose error names its right place.
        if path.name.startswith((".", "__")) or not (path.is_dir() or path.suffix == ".py"):
            continue
        shown = f"plugins/{path.name}"
        name = path.name.removesuffix(".py")
        yield FoundPlugin(name, FOLDER, shown, partial(load_folder, path, shown))


def load_folder(folder: Path, shown: str) -> Callable[[], Any]:
    """Import ``plugin.py`` or ``__init__.py`` as a package of its own."""
    if folder.is_file():
        raise PluginError(f"{shown} is no folder; move it to plugins/{folder.stem}/plugin.py")
    files = [folder / "plugin.py", folder / "__init__.py"]
    path = next((one for one in files if one.is_file()), None)
    if path is None:
        raise PluginError(f"{shown} has neither plugin.py nor __init__.py")
    name = f"{_MODULE_PREFIX}{folder.name.replace('-', '_')}_{uuid.uuid4().hex}"
    module = _import_file(name, path, folder)
    found: Callable[[], Any] | None = getattr(module, _CLASS_NAME, None)
    if not callable(found):
        raise PluginError(f"{shown}/{path.name} has no class named {_CLASS_NAME}")
    return found


def _import_file(name: str, path: Path, folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    # Relative imports and dataclasses look up their module here.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=1)
def _read_entry_points(import_path: tuple[str, ...]) -> EntryPoints:
    """Read the entry points of the installed packages: 5 ms, so once for all applications."""
    return entry_points(group=ENTRY_POINT_GROUP)


def _iter_entry_points() -> Iterator[FoundPlugin]:
    found = _read_entry_points(tuple(sys.path))
    for one in sorted(found, key=lambda point: (point.name, point.value)):
        where = f"{one.dist.name} {one.dist.version}" if one.dist else one.value
        yield FoundPlugin(one.name, ENTRY_POINT, where, one.load)

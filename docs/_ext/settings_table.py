"""Sphinx directive ``settings-table``: settings of the server, from the code.

Its content is a list of fields of :class:`astrbot_api.config.settings.Settings`. Name, default,
bounds and meaning come from the code. A setting must be in exactly one table, otherwise Sphinx
reports a warning.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_type_hints

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from astrbot_api.config.settings import PREFIX, Settings

_FIELDS = {item.name: item for item in fields(Settings)}
_HINTS = get_type_hints(Settings)
_LOG = logging.getLogger(__name__)

#: Unit of a number, by the suffix of its name.
_UNITS = {"_s": "seconds", "_h": "hours", "_days": "days", "_bytes": "bytes", "_px": "pixels"}


class SettingsTable(SphinxDirective):
    """Shows the settings of its content, in that order."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        names = " ".join(self.content).split()
        shown = _shown(self.env).setdefault(self.env.docname, [])
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 34 16 50", ""]
        lines += ["   * - Setting", "     - Default", "     - Meaning"]
        for name in names:
            if name not in _FIELDS:
                _LOG.warning("there is no setting %s", name, location=self.get_location())
                continue
            shown.append(name)
            item = _FIELDS[name]
            lines += [
                f"   * - .. _setting-{name}:",
                "",
                f"       ``{PREFIX}{name.upper()}``",
                f"     - {_format_default(item)}",
                f"     - {_format_meaning(item)}",
            ]
        return self.parse_text_to_nodes("\n".join(lines))


def _format_default(item: Field[Any]) -> str:
    if item.default_factory is not MISSING:
        value: Any = item.default_factory()
    else:
        value = item.default
    if isinstance(value, bool):
        return f"``{str(value).lower()}``"
    if isinstance(value, list):
        value = ",".join(value)
    if isinstance(value, Path):
        value = f"./{value}"
    if isinstance(value, float):
        value = f"{value:g}"
    return f"``{value}``" if value != "" else "(empty)"


def _format_meaning(item: Field[Any]) -> str:
    """Return the meaning, unit and bounds of a setting."""
    meaning = item.metadata["help"]
    kind = _HINTS[item.name]
    notes = [unit for suffix, unit in _UNITS.items() if item.name.endswith(suffix)]
    if kind == list[str]:
        notes.append("comma separated")
    low, high = item.metadata["minimum"], item.metadata["maximum"]
    if low is not None and high is not None:
        notes.append(f"{low} to {high}")
    elif low is not None:
        notes.append(f"at least {low}")
    elif high is not None:
        notes.append(f"at most {high}")
    return f"{meaning} ({'; '.join(notes)})" if notes else meaning


def _shown(env: BuildEnvironment) -> dict[str, list[str]]:
    """Return page -> settings in its tables. Sphinx keeps it between builds."""
    if not hasattr(env, "shown_settings"):
        env.shown_settings = {}
    shown: dict[str, list[str]] = env.shown_settings
    return shown


def _forget_page(app: Sphinx, env: BuildEnvironment, page: str) -> None:
    _shown(env).pop(page, None)


def _check_whole(app: Sphinx, env: BuildEnvironment) -> None:
    shown = [name for names in _shown(env).values() for name in names]
    for name in _FIELDS:
        if shown.count(name) != 1:
            _LOG.warning("setting %s is in %d tables, not one", name, shown.count(name))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("settings-table", SettingsTable)
    app.connect("env-purge-doc", _forget_page)
    app.connect("env-check-consistency", _check_whole)
    return {"parallel_read_safe": False}

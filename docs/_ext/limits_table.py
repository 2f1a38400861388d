"""Sphinx directive ``limits-table``: the limits of a key and what counts against them."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from astrbot_api.config.settings import PREFIX
from astrbot_api.error_codes import ERROR_CODES
from astrbot_api.keys.limits import LIMITS


class LimitsTable(SphinxDirective):
    """Shows every limit of a key."""

    def run(self) -> list[nodes.Node]:
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 26 38 16 20", ""]
        lines += ["   * - Rule", "     - Setting", "     - Session keys", "     - Beyond it"]
        for one in LIMITS:
            setting = f"``{PREFIX}{one.setting.upper()}``" if one.setting else ""
            lines += [
                f"   * - ``{one.rule}``" if one.rule else "   * -",
                f"     - {setting}",
                "     - theirs, and their maker's" if one.own else "     - their maker's",
                f"     - {ERROR_CODES[one.code].status} ``{one.code}``",
            ]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("limits-table", LimitsTable)
    return {"parallel_read_safe": True}

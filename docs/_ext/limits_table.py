"""Sphinx directive ``limits-table``: the limits of a key and what counts against them."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from astrbot_api.config.settings import PREFIX
from astrbot_api.error_codes import ERROR_CODES

#: Rule of the key, setting for keys without the rule, whether a session key also has a count of
#: its own, and error code. A limit counts the key together with its session keys and old secrets.
LIMITS = (
    ("requests_per_minute", "", True, "rate_limited"),
    ("streams", "", True, "rate_limited"),
    ("turns_per_day", "", True, "budget_exhausted"),
    ("tokens_per_day", "", True, "budget_exhausted"),
    ("max_turns", "", True, "budget_exhausted"),
    ("max_tokens", "", True, "budget_exhausted"),
    ("", "max_runs_per_key", False, "too_many_turns"),
    ("", "max_streams_per_key", False, "too_many_streams"),
    ("upload_bytes", "max_bytes_per_key", False, "quota_exceeded"),
    ("stored_bytes", "max_stored_bytes_per_key", False, "quota_exceeded"),
    ("sessions", "max_sessions_per_key", False, "quota_exceeded"),
    ("growth_bytes", "max_growth_bytes_per_key", False, "rate_limited"),
)


class LimitsTable(SphinxDirective):
    """Shows every limit of a key."""

    def run(self) -> list[nodes.Node]:
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 26 38 16 20", ""]
        lines += ["   * - Rule", "     - Setting", "     - Session keys", "     - Beyond it"]
        for rule, setting, own, code in LIMITS:
            lines += [
                f"   * - ``{rule}``" if rule else "   * -",
                f"     - ``{PREFIX}{setting.upper()}``" if setting else "     -",
                "     - theirs, and their maker's" if own else "     - their maker's",
                f"     - {ERROR_CODES[code].status} ``{code}``",
            ]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("limits-table", LimitsTable)
    return {"parallel_read_safe": True}

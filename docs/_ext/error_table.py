"""Sphinx directives that list the API's error codes.

They read :data:`astrbot_api.error_codes.ERROR_CODES`.
"""

from __future__ import annotations

from http import HTTPStatus
from itertools import groupby
from typing import Any

from docutils import nodes
from markdown_text import to_rst
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from astrbot_api.config.settings import Settings
from astrbot_api.error_codes import ERROR_CODES, ErrorCode


class ErrorTable(SphinxDirective):
    """``error-table``: all codes, in one table per status."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        codes = sorted(ERROR_CODES.values(), key=lambda one: (one.status, one.code))
        for status, group in groupby(codes, lambda one: one.status):
            heading = f"{status} {HTTPStatus(status).phrase}"
            lines += [heading, "-" * len(heading), "", ".. list-table::"]
            lines += ["   :header-rows: 1", "   :widths: 24 38 38", ""]
            lines += ["   * - Code", "     - Meaning, and an example of ``message``"]
            lines += ["     - What to do"]
            for one in group:
                lines += _tell(one)
            lines.append("")
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


class EventCodeTable(SphinxDirective):
    """``event-code-table``: the codes of ``error`` events."""

    def run(self) -> list[nodes.Node]:
        lines = [".. list-table::", ""]
        for one in ERROR_CODES.values():
            if one.event:
                lines += [f"   * - ``{one.code}``", f"     - {one.event}"]
        return self.parse_text_to_nodes("\n".join(lines))


def _tell(code: ErrorCode) -> list[str]:
    example = code.example.format_map(vars(Settings()))
    return [
        f"   * - .. _error-{code.code}:",
        "",
        f"       ``{code.code}``",
        f"     - {to_rst(code.meaning)}",
        "",
        f"       *{_escape(example)}*",
        f"     - {to_rst(code.remedy)}",
    ]


def _escape(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "\\`*_|" else sign for sign in text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("error-table", ErrorTable)
    app.add_directive("event-code-table", EventCodeTable)
    return {"parallel_read_safe": True}

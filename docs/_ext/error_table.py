"""The directive ``error-table``: every code of the API, from the code.

Statuses come from :data:`astrbot_api.errors.STATUS_OF_CODE`, meaning, example
and remedy from what the OpenAPI document shows.
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
from astrbot_api.errors import EVENT_CODES, STATUS_OF_CODE
from astrbot_api.http.openapi.error_examples import build_example


class ErrorTable(SphinxDirective):
    """Shows all codes, a table for each status."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        codes = sorted(STATUS_OF_CODE, key=lambda code: STATUS_OF_CODE[code])
        for status, group in groupby(codes, lambda code: STATUS_OF_CODE[code]):
            heading = f"{status} {HTTPStatus(status).phrase}"
            lines += [heading, "-" * len(heading), "", ".. list-table::"]
            lines += ["   :header-rows: 1", "   :widths: 24 38 38", ""]
            lines += ["   * - Code", "     - Meaning, and an example of ``message``"]
            lines += ["     - What to do"]
            for code in sorted(group):
                lines += _tell(code)
            lines.append("")
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


class EventCodeTable(SphinxDirective):
    """Shows the codes of ``error`` events."""

    def run(self) -> list[nodes.Node]:
        lines = [".. list-table::", ""]
        for code, meaning in EVENT_CODES.items():
            lines += [f"   * - ``{code}``", f"     - {meaning}"]
        return self.parse_text_to_nodes("\n".join(lines))


def _tell(code: str) -> list[str]:
    example = build_example(code, Settings())
    return [
        f"   * - .. _error-{code}:",
        "",
        f"       ``{code}``",
        f"     - {to_rst(example['summary'])}",
        "",
        f"       *{_escape(example['value']['message'])}*",
        f"     - {to_rst(example['description'])}",
    ]


def _escape(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "\\`*_|" else sign for sign in text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("error-table", ErrorTable)
    app.add_directive("event-code-table", EventCodeTable)
    return {"parallel_read_safe": True}

"""Conversion of Jupyter notebooks to Markdown, for jobs.

Source: https://nbformat.readthedocs.io/en/latest/format_description.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

#: Colours in the output of terminals and in logs.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_MAX_OUTPUT_CHARS = 20_000


def read_notebook(text: str) -> str:
    """Return the cells of a notebook with the text of their outputs, without pictures.

    :returns: The text itself if it is not a notebook.
    """
    try:
        notebook = json.loads(text)
        return "\n\n".join(filter(None, _iter_cells(notebook)))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return text


def _iter_cells(notebook: Any) -> Iterator[str]:
    language = notebook.get("metadata", {}).get("kernelspec", {}).get("language", "")
    for cell in notebook["cells"]:
        source = _join(cell["source"])
        if cell["cell_type"] != "code":
            yield source
            continue
        yield f"```{language}\n{source}\n```"
        for output in cell.get("outputs", ()):
            shown = COLOUR.sub("", _read_output(output)).strip()
            if shown:
                yield f"Output:\n```\n{shown[:_MAX_OUTPUT_CHARS]}\n```"


def _read_output(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return _join(output["text"])
    if output["output_type"] == "error":
        return _join("\n".join(output["traceback"]))
    return _join(output.get("data", {}).get("text/plain", ""))


def _join(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)

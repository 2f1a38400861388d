"""Conversion of Jupyter notebooks to Markdown, for jobs.

Source: https://nbformat.readthedocs.io/en/latest/format_description.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from .pages import strip_tags
from .texts import CONTROLS, leave_out_middle

#: The part of a line that another one replaces, such as an earlier state of a progress bar.
_REPLACED = re.compile(r"^.*\r(?=[^\r\n])", re.MULTILINE)

#: Representation of an object that a notebook shows in another form.
_OBJECT = re.compile(r"<[\w.]+( object)?( at 0x\w+)?>")

#: Maximum length of the beginning of an output, and of its end.
_OUTPUT_CHARS = (15_000, 5_000)


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
            shown = _REPLACED.sub("", CONTROLS.sub("", _read_output(output)))
            shown = shown.strip("\n").rstrip()  # spaces before a first line keep its columns
            if shown:
                yield f"Output:\n```\n{leave_out_middle(shown, *_OUTPUT_CHARS)}\n```"


def _read_output(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return _join(output["text"])
    if output["output_type"] == "error":
        return _join("\n".join(output["traceback"]))
    data = output.get("data", {})
    shown = _join(data.get("text/plain", ""))
    if shown and not _OBJECT.fullmatch(shown):
        return shown
    for kind in ("markdown", "latex", "html"):
        if f"text/{kind}" in data:
            text = _join(data[f"text/{kind}"])
            return strip_tags(text) if kind == "html" else text
    return shown


def _join(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)

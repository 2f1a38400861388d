"""Build the script ``widget.js`` from its parts on first use, without a build step."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import orjson

from ...translations import WIDGET, load_catalogue

STATIC = Path(__file__).parent / "static"

#: Modules that the owner's pages use too. The first one imports the second.
SHARED = ("markdown.js", "marked.esm.js", "client.js")

#: Our own parts in dependency order. ``client.js`` is a copy of clients/js/client.js.
_PARTS = ("client.js", "markdown.js", "element.js")

#: The exports of a module: ``export{a as first,b as second};`` at its end.
_EXPORTS = re.compile(r"export\s*\{([^}]*)\};?\s*(//# sourceMappingURL=.*)?\s*\Z")

_LINE_COMMENT = re.compile(r"^\s*//.*\n|(?<=[;{}]) // .*$", re.MULTILINE)
_BLOCK_COMMENT = re.compile(r"^\s*/\*\*.*?\*/\s*\n", re.MULTILINE | re.DOTALL)


@cache
def make_script() -> bytes:
    """Return the script.

    It is a classic script with its own scope. It works with and without
    ``type="module"`` and defines only the custom element.
    """
    style = re.sub(r"(/\*.*?\*/|\s)+", " ", _read("style.css"))
    own = "\n".join(_strip(_read(name)) for name in _PARTS)
    return "\n".join(
        (
            "/* The chat widget of astrbot-api, MIT. With marked, MIT:",
            _read("marked.license.txt").split("\n## ")[0].strip().replace("*/", "* /"),
            "*/",
            '(() => {\n"use strict";',
            f"const marked = (() => {{{_to_function(_read('marked.esm.js'))}}})();",
            f"const STYLE = {_to_literal(style)};",
            f"const CHINESE = {_to_literal(load_catalogue('zh', WIDGET))};",
            own,
            "})();\n",
        )
    ).encode()


def _read(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _strip(source: str) -> str:
    """Remove imports, exports, comments and indentation from a part.

    A text must not have ``//`` after ``; `` or a brace, or several lines in backticks.
    """
    source = re.sub(r"^(import .*\n|export )", "", source, flags=re.MULTILINE)
    source = _BLOCK_COMMENT.sub("", _LINE_COMMENT.sub("", source))
    return re.sub(r"^ +", "", source, flags=re.MULTILINE)


def _to_function(module: str) -> str:
    """Convert a module to the body of a function that returns its exports."""
    found = _EXPORTS.search(module)
    assert found, "marked.esm.js ends with its exports"
    pairs = (one.strip().partition(" as ") for one in found[1].split(","))
    names = ",".join(f"{public or own}:{own}" for own, _, public in pairs)
    return f"{module[: found.start()]}return {{{names}}};"


def _to_literal(value: object) -> str:
    # JSON is JavaScript since ES2019.
    return orjson.dumps(value).decode()

"""The script ``widget.js``, made of its parts when it is first asked for; no build step."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

import orjson

from ...translations import WIDGET, load_catalogue

STATIC = Path(__file__).parent / "static"

#: Our own parts, in the order in which they need each other. ``client.js`` is clients/js/client.js.
_PARTS = ("client.js", "markdown.js", "element.js")

#: The exports of a module: ``export{a as first,b as second};`` at its end.
_EXPORTS = re.compile(r"export\s*\{([^}]*)\};?\s*(//# sourceMappingURL=.*)?\s*\Z")

_LINE_COMMENT = re.compile(r"^\s*//.*\n", re.MULTILINE)
_BLOCK_COMMENT = re.compile(r"^\s*/\*\*.*?\*/\s*\n", re.MULTILINE | re.DOTALL)


@cache
def make_script() -> tuple[bytes, str]:
    """Return the script and its ETag.

    It is a classic script in a scope of its own, so it works with and without ``type="module"``
    and leaves no name behind but the element's.
    """
    own = "\n".join(_strip(_read(name)) for name in _PARTS)
    script = "\n".join(
        (
            "/* The chat widget of astrbot-api, MIT. With marked, MIT:",
            _read("marked.license.txt").split("\n## ")[0].strip().replace("*/", "* /"),
            "*/",
            '(() => {\n"use strict";',
            f"const marked = (() => {{{_to_function(_read('marked.esm.js'))}}})();",
            f"const STYLE = {_to_literal(_shorten(_read('style.css')))};",
            f"const CHINESE = {_to_literal(load_catalogue('zh', WIDGET))};",
            own,
            "})();\n",
        )
    ).encode()
    return script, hashlib.sha256(script).hexdigest()[:32]


def _read(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _strip(source: str) -> str:
    """Take the exports and the comments out of a part; comments stand on lines of their own."""
    source = re.sub(r"^export ", "", source, flags=re.MULTILINE)
    return _BLOCK_COMMENT.sub("", _LINE_COMMENT.sub("", source))


def _to_function(module: str) -> str:
    """Turn a module into the body of a function that returns its exports."""
    found = _EXPORTS.search(module)
    assert found, "marked.esm.js ends with its exports"
    pairs = (one.strip().partition(" as ") for one in found[1].split(","))
    names = ",".join(f"{public or own}:{own}" for own, _, public in pairs)
    return f"{module[: found.start()]}return {{{names}}};"


def _shorten(style: str) -> str:
    return re.sub(r"\s+", " ", style)


def _to_literal(value: object) -> str:
    # JSON is JavaScript since ES2019.
    return orjson.dumps(value).decode()

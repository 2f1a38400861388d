"""Prose is plain technical English without the words of a list."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

#: For "told": report, notify, log, return. For "anew": again. For "goes on": continue, resume. For
#: "what is stored", and other clauses used as nouns: name the thing.
BANNED = re.compile(
    r"\b(told|tells?|telling|anew|heed(s|ed|ing)?|mend(s|ed|ing)?|in the place of|gone on with"
    r"|for ever|whoever|that is none|whose it is|amiss|likeliest|so many|goes on|given up|put down"
    r"|h[oe]lds? (it|them|others|nobody) up|the like|are to be|that there (is|are)"
    r"|what (came|comes|became|becomes)"
    r"|what is (asked|given|left|meant|new|said|sent|shown|stored))\b",
    re.IGNORECASE,
)

FOLDERS = ("astrbot_api", "clients", "tests", "bench", "docs", "examples", "deploy")
PAGES = ("README*.rst", "CHANGES.rst", "CONTRIBUTING.rst", *(f"{one}/**/*.rst" for one in FOLDERS))


def list_files(*patterns: str) -> list[str]:
    """Return the paths of files in the repository."""
    found = {path for pattern in patterns for path in ROOT.glob(pattern)}
    return sorted(str(path.relative_to(ROOT)) for path in found)


def iter_prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield the docstrings and comments of a module with their first lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.lineno, str(first.value.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def list_banned(start: int, text: str) -> list[tuple[int, str]]:
    """Return the banned words of a text, each with its line."""
    return [
        (start + text.count("\n", 0, found.start()), found[0]) for found in BANNED.finditer(text)
    ]


@pytest.mark.parametrize("page", list_files(*PAGES))
def test_a_page_has_no_banned_word(page: str) -> None:
    assert list_banned(1, (ROOT / page).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_and_comments_have_no_banned_word(folder: str) -> None:
    found = [
        f"{path}:{line}: {word}"
        for path in list_files(f"{folder}/**/*.py")
        if path != "tests/unit/test_language.py"
        for source in [(ROOT / path).read_text(encoding="utf-8")]
        if BANNED.search(source)  # parsing takes most of the time
        for start, text in iter_prose(source)
        for line, word in list_banned(start, text)
    ]
    assert found == []


def test_banned_words_are_found_with_their_lines() -> None:
    source = '"""Fine.\n\nIt is told anew."""\nx = 1  # for ever\ny = "tell"\n'
    found = [one for start, text in iter_prose(source) for one in list_banned(start, text)]
    assert found == [(3, "told"), (3, "anew"), (4, "for ever")]

"""No text of a model or a user freezes the owner's pages or the widget, or stops their script."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from astrbot_api.http.widget.bundle import STATIC

_DRIVER = Path(__file__).parent / "drivers" / "markdown.mjs"


def render(*texts: str, mode: str = "") -> list[str]:
    """Return the displayed form of each text."""
    node = shlex.split(os.environ.get("ASTRBOT_TEST_NODE", "node"))
    if shutil.which(node[0]) is None:
        pytest.skip(f"{node[0]} is not installed")
    done = subprocess.run(
        [*node, str(_DRIVER), str(STATIC), mode],
        input=json.dumps(texts), capture_output=True, text=True, check=True, timeout=50,
    )  # fmt: skip
    shown: list[str] = json.loads(done.stdout)
    return shown


@pytest.mark.timeout(60)
def test_no_long_text_freezes_a_page() -> None:
    long = 2_000_000
    units = ["[", "![", "_a_", "[a](http://", "|", "> ", "**a", "\\["]
    texts = [unit * (long // len(unit)) for unit in units]
    assert render(*texts) == texts


@pytest.mark.timeout(30)
def test_no_short_text_freezes_a_page() -> None:
    texts = ["# a" + " " * 90_000 + "b", "!" * 99_000, "__a" * 33_000]
    assert render(*texts) == texts


def test_a_text_that_is_nested_too_deeply_is_shown_as_it_is() -> None:
    texts = ["> " * 10_000, "1. " * 10_000]
    assert render(*texts) == texts


def test_ordinary_texts_are_formatted() -> None:
    table = "| a | b |\n| :-- | --- |\n| 1 | 2 |"
    text = f"# Prices\n\n- **tea**: [shop](https://example.com/?q[]=1)\n\n{table}"
    assert render(text) == ["Pricestea: shopab12"]


def test_no_argument_hides_or_reorders_its_characters_before_an_approval() -> None:
    hidden = '"a\u202ecba\u200b\U000e0041"'
    shown = render('{"\u6f22": "\u5b57"}', hidden, mode="hidden")
    assert shown == ['{"漢": "字"}', r'"a\u202ecba\u200b\udb40\udc41"']

"""The pages of docs/ are complete. ``make docs`` checks that they build."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
import tomllib
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

import astrbot_api
from astrbot_api import events, testing
from astrbot_api.config.settings import Settings
from astrbot_api.im.telegram import adapter as telegram

DOCS = Path(__file__).parent.parent.parent / "docs"


def _read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def _directive(page: str, name: str) -> list[str]:
    """Return the words of all directives of this name in a page."""
    found = re.findall(rf"^\.\. {name}::\n\n((?:   .*\n?)+)", _read(page), re.MULTILINE)
    return " ".join(found).split()


def test_every_setting_is_in_one_table_and_says_what_it_is() -> None:
    shown = _directive("configuration.rst", "settings-table")
    assert sorted(shown) == sorted(item.name for item in fields(Settings))
    assert all(item.metadata["help"] for item in fields(Settings))


def test_every_event_is_shown_with_an_example() -> None:
    of_streams = [
        name
        for name, function in vars(events).items()
        if inspect.isfunction(function)
        and function.__annotations__["return"] == "Event"
        and not name.startswith("_")
    ]
    assert sorted(_directive("events.rst", "event-list")) == sorted(of_streams)
    tree = ast.parse(_read("_ext/event_list.py"))
    [examples] = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "EXAMPLES"
    ]
    assert isinstance(examples, ast.Dict)
    keys = [key.value for key in examples.keys if isinstance(key, ast.Constant)]
    assert sorted(keys) == sorted(of_streams)


@pytest.mark.parametrize("page", [path.name for path in sorted(DOCS.glob("*.rst"))])
def test_every_code_block_can_be_parsed(page: str) -> None:
    parsers: dict[str, Callable[[str], object]] = {
        "json": json.loads,
        "toml": tomllib.loads,
        "python": lambda text: compile(text, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT),
    }
    block = re.compile(
        r"^( *)\.\. code-block:: (\w+)\n(?:\1   :.*\n)*\n((?:\1 +.*\n|\n)+)", re.MULTILINE
    )
    for _, language, text in block.findall(_read(page)):
        if language in parsers:
            parsers[language](textwrap.dedent(text))


def test_telegrams_webhook_gets_the_same_updates_as_polling() -> None:
    [updates] = re.findall(r"allowed_updates=(\[.*\])", _read("im.rst"))
    assert json.loads(updates) == telegram._UPDATES


def test_every_public_name_is_in_the_reference() -> None:
    page = _read("python.rst")
    for name in astrbot_api.__all__:
        assert re.search(rf"^\.\. (py:)?[a-z]+:: {name}\b", page, re.MULTILINE), name
    for name in testing.__all__:
        assert f":: astrbot_api.testing.{name}\n" in page, name


def test_every_page_is_in_the_contents() -> None:
    index = _read("index.rst")
    for page in DOCS.glob("*.rst"):
        assert page.stem == "index" or f"\n   {page.stem}\n" in index, page.name


def test_one_turn_names_what_is_there() -> None:
    text = (DOCS.parent / "CONTRIBUTING.rst").read_text(encoding="utf-8")
    section = text.partition("One turn\n")[2].partition("House rules\n")[0]
    steps = re.split(r"^\d\. ", section, flags=re.MULTILINE)
    assert len(steps) - 1 <= 9
    for step in steps[1:]:
        path, *names = re.findall(r"``([^`]+)``", step)
        module = import_module("astrbot_api." + path.removesuffix(".py").replace("/", "."))
        for name in names:
            assert attrgetter(name)(module), (path, name)

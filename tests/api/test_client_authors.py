"""The programs in ``docs/client-authors.rst`` work."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import serve

from .conftest import Api

PAGE = Path(__file__).parent.parent.parent / "docs" / "client-authors.rst"


def list_programs() -> dict[str, str]:
    """Return the Python programs of the page, by their library."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"(\w+)\n-+\n\n.. code-block:: python\n\n((?:    .*\n|\n)+)", text)
    return {name: textwrap.dedent(program) for name, program in found}


@pytest.fixture
def url(api: Api) -> Iterator[str]:
    with serve(api.app) as url:
        yield url


@pytest.mark.parametrize("library", ["requests", "httpx", "aiohttp"])
def test_a_program_of_the_page_prints_the_answer(
    library: str, api: Api, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(library)
    program = list_programs()[library]
    exec(compile(program, f"{PAGE}: {library}", "exec"), {"URL": url, "KEY": api.key})
    assert capsys.readouterr().out == "Hello from mock."

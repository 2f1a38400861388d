"""The programs in ``docs/client-authors.rst`` work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import serve

from .conftest import Api

PAGE = Path(__file__).parent.parent.parent / "docs" / "client-authors.rst"


def list_programs(language: str = "python") -> dict[str, str]:
    """Return the programs of the page in a language, by their heading."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(rf"(\w+)\n-+\n\n.. code-block:: {language}\n\n((?:    .*\n|\n)+)", text)
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


def test_the_program_in_go_prints_the_answer(api: Api, url: str, tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    program = list_programs("go")["Go"].replace('"Hello"', f'"SAY={"x" * 100_000}"')
    (tmp_path / "main.go").write_text(program, encoding="utf-8")
    environ = {**os.environ, "URL": url, "KEY": api.key, "GOCACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [go, "run", "main.go"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environ, timeout=300,
    )  # fmt: skip
    assert (done.stderr, done.stdout) == ("", "x" * 100_000)

"""``clients/README.rst`` lists all behaviours, and the generated client is up to date."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path

from . import test_behaviours
from .driving import CLIENTS, PYTHON, ROOT, make_sync

README = ROOT / "clients" / "README.rst"


def make_table() -> str:
    """Return the table: one row per test, one column per client."""
    tests = [
        function
        for name, function in vars(test_behaviours).items()
        if name.startswith("test_") and inspect.isfunction(function)
    ]
    rows = []
    for test in tests:
        assert {"client", "name"} & set(inspect.signature(test).parameters)  # runs with each client
        rows.append((str(test.__doc__).split("\n")[0], *["yes"] * len(CLIENTS)))
    heading = ("behaviour", *CLIENTS.values())
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 60 12 14 14", ""]
    for row in (heading, *rows):
        for at, cell in enumerate(row):
            lines.append(f"   {'* -' if at == 0 else '  -'} {cell}")
    return "\n".join(lines) + "\n"


def test_the_readme_has_the_list_of_behaviours() -> None:
    page = README.read_text(encoding="utf-8")
    start, end = page.index(".. list-table::"), page.index(".. end of the table")
    if os.environ.get("ASTRBOT_WRITE_README"):
        README.write_text(page[:start] + make_table() + "\n" + page[end:], encoding="utf-8")
        return
    assert page[start:end].strip() == make_table().strip()


def test_the_sync_client_is_generated_from_the_async_client() -> None:
    folder = PYTHON / "astrbot_client"
    source = (folder / "_async_client.py").read_text(encoding="utf-8")
    made = (folder / "_sync_client.py").read_text(encoding="utf-8")
    assert made == make_sync(source), "run python clients/python/generate.py"
    assert not re.search(r"\basync\b|\bawait\b", made.split('"""', 2)[2])


def test_the_widget_has_the_javascript_client() -> None:
    client = (ROOT / "clients" / "js" / "client.js").read_text(encoding="utf-8")
    part = ROOT / "astrbot_api" / "http" / "widget" / "static" / "client.js"
    assert part.read_text(encoding="utf-8") == client, "copy clients/js/client.js there"


def test_both_packages_have_one_version() -> None:
    def find(path: Path, pattern: str) -> str:
        found = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
        assert found, path
        return found[1]

    versions = {
        find(PYTHON / "pyproject.toml", r'^version = "(.+)"'),
        find(PYTHON / "astrbot_client" / "__init__.py", r'__version__ = "(.+)"'),
        find(PYTHON / "astrbot_client" / "_async_client.py", r"astrbot-api-client/([\d.]+)"),
        find(ROOT / "clients" / "js" / "package.json", r'"version": "(.+)"'),
    }
    assert len(versions) == 1

"""Data files of a built wheel."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path, PurePath

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "astrbot_api"


def read_patterns() -> list[str]:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup["options.package_data"]["astrbot_api"].split()


def test_every_pattern_of_the_package_data_finds_a_file() -> None:
    assert [one for one in read_patterns() if not list(PACKAGE.glob(one))] == []


def test_every_file_that_is_no_module_is_in_the_package_data() -> None:
    patterns = read_patterns()
    files = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert PurePath("py.typed") in files
    assert [one for one in files if not any(one.match(pattern) for pattern in patterns)] == []

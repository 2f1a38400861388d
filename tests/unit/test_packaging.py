"""Data files of a built wheel, and its requirements."""

from __future__ import annotations

import re
import sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path, PurePath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "astrbot_api"


#: Extras for developers only.
_DEVELOPERS = {"test", "bench", "dev", "docs"}


def read_setup() -> ConfigParser:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup


def read_patterns() -> list[str]:
    return read_setup()["options.package_data"]["*"].split(", ")


def read_requirements() -> set[str]:
    """Return the normalised names of all packages that an installation may have."""
    setup = read_setup()
    extras = setup["options.extras_require"]
    texts = [setup["options"]["install_requires"]]
    texts += [text for extra, text in extras.items() if extra not in _DEVELOPERS]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    names = [one.name for one in wanted]
    names += [f"{one.name}-{extra}" for one in wanted for extra in one.extras]
    return {canonicalize_name(name) for name in names}


def find_imports() -> set[str]:
    """Return the imported modules' top-level names, also of imports within functions."""
    pattern = re.compile(r"^\s*(?:from (\w+)[\w.]* import |import (\w+))", re.MULTILINE)
    found = {
        first or second
        for path in PACKAGE.rglob("*.py")
        for first, second in pattern.findall(path.read_text(encoding="utf-8"))
    }
    return found - sys.stdlib_module_names - {"astrbot_api"}


def test_every_pattern_of_the_package_data_finds_a_file() -> None:
    assert [one for one in read_patterns() if not list(PACKAGE.rglob(one))] == []


def test_every_file_that_is_no_module_is_in_the_package_data() -> None:
    patterns = read_patterns()
    files = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert PurePath("py.typed") in files
    assert [one for one in files if not any(one.match(pattern) for pattern in patterns)] == []


def test_every_imported_package_is_a_requirement_of_its_own() -> None:
    known, required = packages_distributions(), read_requirements()
    # pytest runs the tests in testing/, so users who import them have it.
    wanted = {name: known[name] for name in find_imports() - {"pytest"} if name in known}
    assert {"flask", "mcp_types", "psycopg_pool"} <= wanted.keys()
    assert {
        name: distributions
        for name, distributions in wanted.items()
        if required.isdisjoint(map(canonicalize_name, distributions))
    } == {}

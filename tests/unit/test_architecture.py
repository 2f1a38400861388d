"""The layers: imports point down only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "astrbot_api"

#: Highest first. A module may import from its own layer and from lower ones.
LAYERS = [
    {"__init__", "cli", "testing", "server"},
    {"app", "extension"},
    {"admin", "http"},
    {"chat", "im", "importing"},
    {"plugins"},
    {
        "agent",
        "attachments",
        "db",
        "legacykeys",
        "mcp",
        "storage",
        "stream",
        "providers",
        "sidecar",
        "ratelimits",
    },
    {
        "configfiles",
        "watchedfile",
        "keyrules",
        "agentconfig",
        "mcpservers",
        "client",
        "filelock",
        "threads",
        "metrics",
        "logcontext",
        "tracing",
    },
    {"messages", "events", "config", "clock", "privatefiles"},
    {"errors"},
]

#: Who may be imported out of order, and why.
EXCEPTIONS = {
    ("http", "extension"),  # for its type alone
    ("configfiles", "config"),
}


def _layer(name: str) -> int:
    return next(at for at, names in enumerate(LAYERS) if name in names)


def _imports(path: Path) -> set[str]:
    """Return the top names below ``astrbot_api`` that a module imports."""
    module = path.relative_to(PACKAGE).with_suffix("").parts
    package = module[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = package[: len(package) - node.level + 1]
            target = (*base, *(node.module or "").split("."))
        elif (node.module or "").startswith("astrbot_api."):
            target = tuple((node.module or "").split(".")[1:])
        else:
            continue
        names = [part for part in target if part]
        found.update(names[:1] if names else (alias.name for alias in node.names))
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    for name in _imports(path) - {own}:
        if (own, name) not in EXCEPTIONS:
            assert _layer(own) <= _layer(name), f"{path} imports {name} from above"


def test_only_http_and_the_app_know_flask() -> None:
    knowing = {
        path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for path in PACKAGE.rglob("*.py")
        if "from flask" in path.read_text(encoding="utf-8")
    }
    assert knowing <= {"admin", "http", "app", "extension", "__init__", "testing"}


def test_the_agent_runs_without_flask_and_without_a_database() -> None:
    program = (
        "import sys\n"
        "sys.modules['flask'] = sys.modules['peewee'] = None\n"
        "import types\n"
        f"package = types.ModuleType('astrbot_api'); package.__path__ = [{str(PACKAGE)!r}]\n"
        "sys.modules['astrbot_api'] = package\n"
        "import astrbot_api.agent.loop\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

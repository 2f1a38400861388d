"""Programs of ``npm/``. ``make test`` installs their packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..servers import Server

NPM = Path(__file__).parent / "npm"

#: Runs a job by its name and returns its result.
Do = Callable[..., Any]


def find_node(package: str) -> str:
    """Return the program ``node``. Skip the test if it, or a package, is missing."""
    node = shutil.which("node")
    if node is None or not (NPM / "node_modules" / package).is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"make test installs {package} with npm")
        pytest.skip(f"npm's {package} is not installed: make test installs it")
    return node


def make_do(program: str, package: str, server: Server, key: str) -> Do:
    """Return a function that runs jobs of a program of ``npm/`` with a server and a key."""
    node = find_node(package)

    def run(name: str, **job: Any) -> Any:
        sent = json.dumps({"do": name, "url": server.url, "key": key, **job})
        done = subprocess.run(
            [node, str(NPM / program), sent],
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run

"""Runs each client in a program that reads jobs as JSON lines."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
DRIVERS = Path(__file__).parent / "drivers"
PYTHON = ROOT / "clients" / "python"

#: Heading of each client in the table of ``clients/README.rst``.
CLIENTS = {"sync": "Python", "async": "Python, async", "js": "JavaScript"}


def make_sync(source: str) -> str:
    """Return the sync form of a file, like ``clients/python/generate.py``."""
    convert: Callable[[str], str] = runpy.run_path(str(PYTHON / "generate.py"))["make_sync"]
    text = convert(source)
    # Removes the event loop, which a sync program does not need.
    return re.sub(r"asyncio\.run\((.*)\)\n", r"\1\n", text)


class Driver:
    """The program of one client.

    :param environ: Additional environment variables, such as ``SSL_CERT_FILE``.
    """

    def __init__(self, client: str, folder: Path, **environ: str) -> None:
        command = [sys.executable, str(DRIVERS / "driver_async.py")]
        if client == "sync":
            path = folder / "driver_sync.py"
            source = (DRIVERS / "driver_async.py").read_text(encoding="utf-8")
            path.write_text(make_sync(source), encoding="utf-8")
            command = [sys.executable, str(path)]
        elif client == "js":
            # Another runtime is possible: "deno run --allow-all", "bun".
            node, *options = shlex.split(os.environ.get("ASTRBOT_TEST_NODE", "node"))
            if shutil.which(node) is None:
                pytest.skip(f"{node} is not installed")
            command = [node, *options, str(DRIVERS / "driver.js")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env={**os.environ, "PYTHONPATH": str(PYTHON), **environ},
        )  # fmt: skip

    def send(self, do: str, url: str, key: str, **job: Any) -> None:
        """Start a job."""
        assert self._process.stdin is not None
        line = json.dumps({"do": do, "url": url, "key": key, **job})
        self._process.stdin.write(line + "\n")

    def read(self) -> Any:
        """Return the program's next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the program ended"
        return json.loads(line)

    def run(self, do: str, url: str, key: str, **job: Any) -> Any:
        """Run a job and return its result.

        :raises AssertionError: if the client raised an error.
        """
        self.send(do, url, key, **job)
        answer = self.read()
        assert "ok" in answer, answer
        return answer["ok"]

    def fail(self, do: str, url: str, key: str, **job: Any) -> dict[str, Any]:
        """Run a job and return the error of the client."""
        self.send(do, url, key, **job)
        answer = self.read()
        assert "error" in answer, answer
        found: dict[str, Any] = answer["error"]
        return found

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

"""The MCP sidecar and MCP servers as processes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from astrbot_api.mcp.sidecar import main as mcp_main

#: Two test servers: one uses the SDK, the other one starts fast.
ODD = str(Path(__file__).with_name("odd.py"))
RAW = str(Path(__file__).with_name("raw.py"))


class Sidecar:
    """A sidecar on its own socket. It ends with the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log_path = path.with_suffix(".log")
        self.process: subprocess.Popen[str] = self.start()

    def start(self) -> subprocess.Popen[str]:
        """Start the sidecar, also after it was killed, and wait until it listens."""
        with self.log_path.open("a") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", mcp_main.__file__),
                    *("--socket", str(self.path), "--until-eof"),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.read_log()
        return self.process

    def kill(self) -> None:
        """Kill the sidecar."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> int:
        """Stop the sidecar like its supervisor and return its exit status."""
        if self.process.stdin is None:  # a test has started it differently
            self.process.terminate()
        self.process.communicate()
        return self.process.returncode

    def read_log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")


@contextlib.contextmanager
def run_sidecar() -> Iterator[Sidecar]:
    """Run a sidecar until the block ends.

    Its folder has a short path, because a socket's path has at most 107 bytes.
    """
    with tempfile.TemporaryDirectory(prefix="astrbot-") as folder:
        sidecar = Sidecar(Path(folder) / "mcp.sock")
        try:
            yield sidecar
        finally:
            sidecar.stop()


@contextlib.contextmanager
def run_http_server(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the test server over HTTP and yield its process and its URL."""
    process = subprocess.Popen(
        [sys.executable, ODD, "--http", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.communicate()


def server_table(name: str = "odd", *arguments: str, **more: Any) -> str:
    """Return the ``[mcp.NAME]`` table of the test server over stdio, without the SDK."""
    words = ", ".join(f"'{one}'" for one in (sys.executable, "-S", RAW, *arguments))
    lines = [f"[mcp.{name}]", f"command = [{words}]"]
    lines += [f"{key} = {value}" for key, value in more.items()]
    return "\n".join(lines) + "\n"

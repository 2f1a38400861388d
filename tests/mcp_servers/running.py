"""The MCP sidecar and MCP servers, as processes of a test."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from astrbot_api.mcp.sidecar import main as mcp_main

#: The servers of our own: one made with the SDK, and one that starts in no time.
ODD = str(Path(__file__).with_name("odd.py"))
RAW = str(Path(__file__).with_name("raw.py"))


class Sidecar:
    """One sidecar on a socket of its own; it ends with the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log_path = path.with_suffix(".log")
        self.process: subprocess.Popen[str] = self.start()

    def start(self) -> subprocess.Popen[str]:
        """Start it, again if it was killed, and wait until it listens."""
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
        """End it as a fault would."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> int:
        """End it as its supervisor does; return its exit status."""
        if self.process.stdin is None:  # a test has started it otherwise
            self.process.terminate()
        self.process.communicate()
        return self.process.returncode

    def read_log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")


@contextlib.contextmanager
def run_sidecar() -> Iterator[Sidecar]:
    """Run a sidecar for the length of the block.

    Its folder has a short path: a socket's may have 107 bytes.
    """
    with tempfile.TemporaryDirectory(prefix="astrbot-") as folder:
        sidecar = Sidecar(Path(folder) / "mcp.sock")
        try:
            yield sidecar
        finally:
            sidecar.stop()


@contextlib.contextmanager
def run_http_server(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run our server over HTTP; the block is given its process and its URL."""
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
    """Return the ``[mcp.NAME]`` table of our server over stdio: the one without the SDK."""
    words = ", ".join(f"'{one}'" for one in (sys.executable, "-S", RAW, *arguments))
    lines = [f"[mcp.{name}]", f"command = [{words}]"]
    lines += [f"{key} = {value}" for key, value in more.items()]
    return "\n".join(lines) + "\n"

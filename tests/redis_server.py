"""A Redis server for the tests, on a socket in a temporary folder."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from .postgres import require_tool
from .waiting import wait_for


class RedisServer:
    """A server on a Unix socket."""

    def __init__(self, program: str) -> None:
        self._program = program
        self.folder = Path(tempfile.mkdtemp(prefix="astrbot-redis-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Return the server's URL."""
        return f"unix://{self.folder}/redis.sock"

    def start(self, *, persistent: bool = True) -> None:
        """Start the server and wait until it responds. Data of an earlier start is kept."""
        self._process = subprocess.Popen(
            [self._program, "--port", "0", "--unixsocket", "redis.sock", "--save", "",
             "--appendonly", "yes" if persistent else "no", "--appendfsync", "no"],
            cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(self._answers)

    def kill(self) -> None:
        """Kill the server at any point."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        import redis

        client = redis.Redis.from_url(self.url)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


def start_redis() -> RedisServer:
    """Start a server. Without Redis, skip the test, or fail in CI."""
    pytest.importorskip("redis")
    return RedisServer(require_tool(shutil.which("redis-server"), "redis-server"))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis server for the tests of this process."""
    server = start_redis()
    yield server
    server.close()


@pytest.fixture
def redis_prefix() -> str:
    """A unique prefix."""
    return f"test-{uuid.uuid4().hex[:12]}"

"""Shared fixtures and hooks. No test connects beyond loopback."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from astrbot_api.testing.fake_openai import FakeOpenAI

from .postgres import postgres, postgres_url
from .redis_server import redis_prefix, redis_server
from .s3 import s3_environ

# Always write bytecode. Otherwise each process compiles all modules again (0.8 s to 15 s of CPU).
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A busy machine may run an example slowly.
settings.register_profile("no deadline", settings.default, deadline=None)
settings.load_profile("no deadline")

__all__ = ["postgres", "postgres_url", "redis_prefix", "redis_server", "s3_environ"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the slowest files. At the end, one of them alone would use only one core."""
    items.sort(key=lambda item: {"e2e", "clients"}.isdisjoint(item.path.parts))


def pytest_collection_finish() -> None:
    """Collect garbage as rarely as a worker does, which saves a fifth of the CPU time."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test on a connection to another address."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            assert host.startswith("127.") or host in ("::1", "localhost"), address
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def without_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], AbstractContextManager[threading.Event]]:
    """``with without_threads("inbox") as refused:`` no thread with this name can start."""
    start = threading.Thread.start

    @contextmanager
    def refuse(name: str) -> Iterator[threading.Event]:
        refused = threading.Event()

        def start_others(thread: threading.Thread) -> None:
            if thread.name == name:
                refused.set()
                raise RuntimeError("can't start new thread")
            start(thread)

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start_others)
            yield refused

    return refuse


@pytest.fixture(scope="session")
def fake_model() -> Iterator[FakeOpenAI]:
    """A fake OpenAI-compatible endpoint with known answers."""
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture(scope="module")
def module_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory shared by the tests of a module."""
    return tmp_path_factory.mktemp("data")

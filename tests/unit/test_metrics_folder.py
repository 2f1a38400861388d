"""The folder of the workers' metrics is removed, also after a kill."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from astrbot_api.server.metrics_folder import make_metrics_folder, remove_metrics_folder

_MASTER = """
import sys
from astrbot_api.server.metrics_folder import make_metrics_folder
make_metrics_folder(sys.argv[1])
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    yield
    remove_metrics_folder()


def start_master(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process with a folder, and make the folder look old."""
    before = set(parent.iterdir())
    master = subprocess.Popen(
        [sys.executable, "-c", _MASTER, str(parent)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert master.stdout is not None
    master.stdout.readline()
    (folder,) = set(parent.iterdir()) - before
    os.utime(folder, (0, 0))
    return master, folder


def test_folders_of_killed_masters_are_removed_at_the_next_start(tmp_path: Path) -> None:
    running, in_use = start_master(tmp_path)
    killed, _ = start_master(tmp_path)
    killed.kill()
    killed.communicate()
    begun, pipe = tmp_path / "astrbot-metrics-begun", tmp_path / "astrbot-metrics-pipe"
    begun.mkdir()
    os.mkfifo(pipe)
    os.utime(pipe, (0, 0))
    make_metrics_folder(str(tmp_path))
    own = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    assert set(tmp_path.iterdir()) == {in_use, begun, pipe, own}
    running.kill()
    running.communicate()
    remove_metrics_folder()
    assert not own.exists()


def test_a_memory_that_is_almost_full_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, disk = tmp_path / "shm", tmp_path / "tmp"
    for folder in (memory, disk):
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 1024))
    make_metrics_folder(str(memory))
    assert Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).parent == disk
    assert list(memory.iterdir()) == []


def test_a_named_folder_is_emptied_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "named"
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(named))
    make_metrics_folder(None)
    (named / "counter_1.db").write_bytes(b"old")
    make_metrics_folder(None)
    remove_metrics_folder()
    assert list(named.iterdir()) == []

"""A reload (HUP) of gunicorn that cannot be checked leaves the server as it is."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from astrbot_api.server.reloading import guard_reload


def test_a_check_that_cannot_be_started_ends_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASTRBOT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "removed" / "python"))
    reloads, errors = list[str](), list[str]()
    log = SimpleNamespace(error=lambda text, *values: errors.append(text % values))
    server = SimpleNamespace(reload=lambda: reloads.append("done"), log=log)
    guard_reload(server)
    server.reload()
    assert not reloads
    (line,) = errors
    assert line.startswith("not reloaded; the current workers continue with the last valid files: ")
    assert f"cannot be started: [Errno 2] No such file or directory: '{sys.executable}'" in line


@pytest.mark.parametrize("in_home", [False, True])
def test_the_check_needs_no_other_folder_than_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_home: bool
) -> None:
    def fail() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ASTRBOT_DATA_DIR", "~" if in_home else str(tmp_path))
    monkeypatch.setattr(tempfile, "gettempdir", fail)
    reloads = list[str]()
    log = SimpleNamespace(error=lambda text, *values: pytest.fail(text % values))
    server = SimpleNamespace(reload=lambda: reloads.append("done"), log=log)
    guard_reload(server)
    server.reload()
    assert reloads == ["done"]

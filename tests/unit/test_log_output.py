"""The log of a worker."""

from __future__ import annotations

import errno
import json
import logging
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TextIO, cast

import pytest

from astrbot_api.server.json_log import JsonLines
from astrbot_api.server.log_output import LineBuffer, set_up_logging

#: A worker of another application: only the log is set up.
WORKER = SimpleNamespace(app=SimpleNamespace(callable=None))

OWN = logging.getLogger("astrbot_api")


@pytest.fixture(autouse=True)
def same_loggers_afterwards() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.level, root.handlers[:], OWN.level)
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    OWN.setLevel(before[2])


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("", "INFO"),
        (" debug ", "DEBUG"),
        ("WARNING", "WARNING"),
        ("verbose", "INFO"),
        ("10", "INFO"),
    ],
)
def test_a_log_level_never_prevents_the_start(
    text: str, level: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASTRBOT_LOG_LEVEL", text)
    set_up_logging(WORKER)
    assert logging.getLevelName(OWN.level) == level
    warned = "ASTRBOT_LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR" in capfd.readouterr().err
    assert warned == (text in ("verbose", "10"))


def test_attempts_to_reach_postgresql_are_not_all_logged(
    capfd: pytest.CaptureFixture[str],
) -> None:
    set_up_logging(WORKER)
    logging.getLogger("psycopg.pool").warning("error connecting in 'pool-1'")
    assert capfd.readouterr().err == ""


def test_a_traceback_of_gunicorn_is_a_field_of_its_line() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    line = json.loads(JsonLines().format(record))
    assert (line["level"], line["message"]) == ("ERROR", "failed")
    assert line["exception"].endswith("ValueError: why")


class _FullDisk:
    """Standard error in a file whose disk has no room for the first lines."""

    def __init__(self) -> None:
        self.written = list[str]()
        self.is_full = True
        self.tried, self.done = threading.Event(), threading.Event()

    def write(self, text: str) -> None:
        if self.is_full:
            self.tried.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        self.written.append(text)
        self.done.set()

    def flush(self) -> None:
        pass


def test_the_access_log_continues_when_its_disk_has_room_again() -> None:
    disk = _FullDisk()
    buffer = LineBuffer(cast(TextIO, disk), stamped=False)
    buffer.write("first")
    assert disk.tried.wait(30)
    disk.is_full = False
    buffer.write("second")
    assert disk.done.wait(30)
    assert disk.written == ["second\n"]

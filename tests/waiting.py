"""Conditions of other processes and background threads, and waiting for them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Far above any real wait. Only a fault reaches it.
LIMIT_S = 120.0


def wait_for(look: Callable[[], T], limit_s: float = LIMIT_S) -> T:
    """Return the first true value of ``look``.

    For conditions without an event in this process, such as a row that another process writes.

    :raises AssertionError: if no value is true in time.
    """
    deadline = time.monotonic() + limit_s
    while True:
        value = look()
        if value:
            return value
        assert time.monotonic() < deadline, f"still {value!r} after {limit_s} s"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Return whether a process exists, even if nobody has read its exit code."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

"""Waiting for what happens elsewhere: another process, a background thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Far beyond what anything here takes; reached only by a fault.
LIMIT_S = 120.0


def wait_for(look: Callable[[], T], limit_s: float = LIMIT_S) -> T:
    """Return the first true value of ``look``.

    For what sets no event in this process, such as a row that another
    process writes.

    :raises AssertionError: when it does not come.
    """
    deadline = time.monotonic() + limit_s
    while True:
        value = look()
        if value:
            return value
        assert time.monotonic() < deadline, f"still {value!r} after {limit_s} s"
        time.sleep(0.01)

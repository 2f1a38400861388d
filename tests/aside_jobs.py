"""Jobs for ``unit/test_aside.py``, which run in a separate process."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any, BinaryIO

from astrbot_api.errors import Unreadable


def reverse(source: BinaryIO, **arguments: Any) -> tuple[Any, bytes]:
    return {"pid": os.getpid(), "parent": os.getppid(), **arguments}, source.read()[::-1]


def spin(source: BinaryIO) -> tuple[Any, bytes]:
    while True:
        pass


def grow(source: BinaryIO) -> tuple[Any, bytes]:
    held = []
    while True:
        held.append(bytearray(2**20))


def fill(source: BinaryIO) -> tuple[Any, bytes]:
    """Leave no memory for an error message."""
    held: tuple[Any, ...] = ()
    while True:
        held = (held,)


def crash(source: BinaryIO) -> tuple[Any, bytes]:
    ctypes.string_at(0)
    raise AssertionError


def abort(source: BinaryIO) -> tuple[Any, bytes]:
    os.abort()


def leave(source: BinaryIO) -> tuple[Any, bytes]:
    os._exit(0)


def flood(source: BinaryIO) -> tuple[Any, bytes]:
    return None, bytes(2**20)


def write(source: BinaryIO) -> tuple[Any, bytes]:
    with open("/tmp/aside-was-here", "w") as file:
        file.write("x")
    raise AssertionError


def refuse(source: BinaryIO) -> tuple[Any, bytes]:
    raise Unreadable("it is blank")


def damaged(source: BinaryIO) -> tuple[Any, bytes]:
    raise KeyError(source.read().decode())


def hang(source: BinaryIO) -> tuple[Any, bytes]:
    """Write the process id to the pipe's descriptor, and never return."""
    os.write(source.fileno(), b"%d\n" % os.getpid())
    time.sleep(1000)
    raise AssertionError


def environ(source: BinaryIO) -> tuple[Any, bytes]:
    return dict(os.environ), b""

"""Native threads beside gevent's hub."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
from gevent import monkey
monkey.patch_all()
from gevent import Timeout
from astrbot_api.runtime.threads import NativeThread, run_native

def fail():
    raise OSError("No space left on device")

thread = NativeThread()
for run in (thread.call, run_native):
    for _ in range(2):
        with Timeout(20):
            try:
                run(fail)
            except OSError as error:
                print(error)
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_job_that_fails_is_reported_where_nothing_can_be_logged() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, stderr=full, timeout=100
        )
    assert done.stdout.decode().splitlines() == ["No space left on device"] * 4

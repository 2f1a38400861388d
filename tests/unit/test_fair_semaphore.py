"""A semaphore that serves its callers in their order."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from astrbot_api.runtime.fair_semaphore import FairSemaphore

from ..waiting import wait_for

#: Two busy callers share the only place with a patient one, which a fair semaphore serves third.
_SHARE = """
import sys
if sys.argv[1] == "gevent":
    from gevent import monkey; monkey.patch_all()
import threading, time
from astrbot_api.runtime.fair_semaphore import FairSemaphore

semaphore, served, stop = FairSemaphore(1), [], threading.Event()

def work(name):
    while not stop.is_set():
        assert semaphore.acquire(60)
        served.append(name)
        time.sleep(0.001)  # waits like a query
        semaphore.release()

threads = [threading.Thread(target=work, args=[name]) for name in "abc"]
for thread in threads:
    thread.start()
while len(served) < 300:
    time.sleep(0.001)
stop.set()
for thread in threads:
    thread.join()
print(min(served[:300].count(name) for name in "abc") > 50)
"""


@pytest.mark.parametrize("workers", ["threads", "gevent"])
def test_busy_callers_leave_no_other_caller_without_a_place(workers: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SHARE, workers], capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_caller_that_stops_waiting_takes_no_place() -> None:
    semaphore = FairSemaphore(1)
    assert semaphore.acquire(0)
    assert not semaphore.acquire(0)
    assert not semaphore.acquire(0.001)
    semaphore.release()
    assert semaphore.acquire(0)


def test_waiting_callers_are_served_in_their_order() -> None:
    semaphore, served = FairSemaphore(1), list[int]()
    assert semaphore.acquire(0)

    def take(number: int) -> None:
        assert semaphore.acquire(60)
        served.append(number)
        semaphore.release()

    threads = [threading.Thread(target=take, args=[number]) for number in range(5)]
    for count, thread in enumerate(threads, 1):
        thread.start()
        wait_for(lambda count=count: len(semaphore._waiting) == count)  # type: ignore[misc]
    semaphore.release()
    for thread in threads:
        thread.join(60)
    assert served == [0, 1, 2, 3, 4]

"""Native threads beside gevent's hub."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from astrbot_api import run_async

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


#: Each kind of job runs while all threads of another kind are blocked.
_KINDS = """
from gevent import monkey
import os, socket, threading
start, lock = monkey.get_original("_thread", ["start_new_thread", "allocate_lock"])
monkey.patch_all()
import gevent
from astrbot_api.runtime import threads

kinds = {"work": threads.run_native, "hash": threads.run_hash, "disk": threads.run_disk}
for kind, run in kinds.items():
    full = lock()
    full.acquire()
    def stand():
        with full:
            pass
    standing = [gevent.spawn(run, stand) for _ in range(20)]
    gevent.sleep(0)
    with gevent.Timeout(20):
        others = [other(os.getpid) == os.getpid() for name, other in kinds.items() if name != kind]
        print(kind, all(others), socket.gethostbyname("localhost"), flush=True)
    full.release()
    gevent.joinall(standing)
pid = os.fork()
if not pid:
    with gevent.Timeout(20):
        print("child", threads.run_native(os.getpid) == os.getpid(), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""


#: Coroutines that end only once all have begun, with a name to resolve and a peer in the hub.
_COROUTINES = """
from gevent import monkey
monkey.patch_all()
import asyncio, gevent
from gevent.server import StreamServer
from astrbot_api import run_async

begun = []

async def meet(port):
    begun.append(port)
    while len(begun) < 12:
        await asyncio.sleep(0.001)
    reader, writer = await asyncio.open_connection("localhost", port)
    writer.write(b"hello")
    writer.write_eof()
    said = await reader.read()
    writer.close()
    return said

async def fail():
    raise LookupError("no such city")

peer = StreamServer(("127.0.0.1", 0), lambda client, _: client.sendall(client.recv(99).upper()))
peer.start()
with gevent.Timeout(20):
    jobs = [gevent.spawn(run_async, meet(peer.server_port)) for _ in range(12)]
    print({one.value for one in gevent.joinall(jobs)})
    try:
        run_async(fail())
    except LookupError as error:
        print(error)
"""


#: A time limit of the caller expires while its job runs.
_LATE = """
from gevent import monkey
import time
sleep = time.sleep
monkey.patch_all()
from gevent import Timeout
from astrbot_api.runtime.threads import NativeThread

done = []
try:
    with Timeout(0.01):
        NativeThread().call(lambda: [sleep(0.1), done.append("whole")])
except Timeout:
    print(*done, "late")
"""

#: Work that lets others run twenty times, beside a client and a timer.
_LONG_WORK = """
from gevent import monkey
monkey.patch_all()
import gevent, socket, time
from astrbot_api.runtime.threads import let_others_run

near, far = socket.socketpair()
seen = []

def tick():
    while True:
        gevent.sleep(0.001)
        seen.append("tick")

def answer():
    while far.recv(1):
        seen.append("byte")

gevent.spawn(tick), gevent.spawn(answer)
gevent.sleep(0.01)
seen.clear()
for _ in range(20):
    near.sendall(b"x")
    end = time.perf_counter() + 0.01
    while time.perf_counter() < end:
        pass
    let_others_run()
print(seen.count("tick") >= 10, seen.count("byte") >= 10)
"""


#: Waits until other greenlets have run, then beside one that never lets the loop be idle.
_IDLE = """
from gevent import monkey
monkey.patch_all()
import gevent, socket, time
from astrbot_api.runtime.threads import wait_until_idle

near, far = socket.socketpair()
seen = []

def answer():
    while far.recv(1):
        gevent.sleep(0)
        seen.append("byte")

gevent.spawn(answer)
gevent.sleep(0.01)
near.sendall(b"xyz")
wait_until_idle(20)
print("".join(seen))

def never_idle():
    while True:
        gevent.sleep(0)

gevent.spawn(never_idle)
began = time.monotonic()
wait_until_idle(0.05)
print(0.04 < time.monotonic() - began < 20)
"""


def test_a_wait_for_an_idle_event_loop_has_a_limit() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IDLE], capture_output=True, text=True, timeout=60, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("bytebytebyte\nTrue\n", "")


#: Three greenlets yield after long work, and the second one is killed while it waits.
_KILLED = """
from gevent import monkey
monkey.patch_all()
import gevent, time
from astrbot_api.runtime.threads import let_others_run

seen = []

def work(name):
    end = time.perf_counter() + 0.01
    while time.perf_counter() < end:
        pass
    let_others_run()
    seen.append(name)

def work_all():
    greenlets = [gevent.spawn(work, name) for name in "abc"]
    gevent.sleep(0)
    greenlets[1].kill()
    gevent.joinall(greenlets, timeout=20)

for _ in range(2):
    work_all()
print("".join(seen))
"""


def test_a_greenlet_killed_while_it_lets_others_run_stops_no_other() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLED], capture_output=True, text=True, timeout=60, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("acac\n", "")


#: A small request of ten steps beside forty greenlets that copy. One of them is killed.
_COPYING = """
from gevent import monkey
monkey.patch_all()
import gevent, socket, time
from astrbot_api.runtime.threads import wait_turn

rounds = [0] * 40

def copy(number):
    while True:
        end = time.perf_counter() + 0.003
        while time.perf_counter() < end:
            pass
        rounds[number] += 1
        wait_turn()

greenlets = [gevent.spawn(copy, number) for number in range(40)]
while not all(rounds):
    gevent.sleep(0.001)
greenlets.pop().kill()
near, far = socket.socketpair()

def answer():
    while far.recv(1):
        far.sendall(b"x")

gevent.spawn(answer)
gevent.sleep(0.01)
before = sum(rounds)
for _ in range(10):
    near.sendall(b"x")
    near.recv(1)
print(sum(rounds) - before < 200)
before = list(rounds)
while sum(rounds) - sum(before) < 39 * 3:
    gevent.sleep(0.001)
print({after - earlier for after, earlier in zip(rounds[:-1], before)} <= {2, 3, 4})
"""


def test_greenlets_that_copy_take_turns_beside_a_small_request() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COPYING], capture_output=True, text=True, timeout=60, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("True\nTrue\n", "")


#: Two turns of one greenlet, of which the first had to wait for long.
_AGAIN = """
from gevent import monkey
monkey.patch_all()
import gevent, time
from astrbot_api.runtime.threads import wait_turn

def work(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass

def take_two():
    wait_turn()
    work(0.003)
    wait_turn()

work(0.003)
taking = gevent.spawn(take_two)
gevent.sleep(0)
work(0.1)
taking.join()
gevent.sleep(0.01)
print("ended")
"""


def test_a_greenlet_may_take_turns_one_after_another() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _AGAIN], capture_output=True, text=True, timeout=60, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("ended\n", "")


def test_long_work_lets_those_in_that_wait_for_bytes_or_a_time() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LONG_WORK], capture_output=True, text=True, timeout=60, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("True True\n", "")


def test_a_job_ends_before_its_caller_is_interrupted() -> None:
    done = subprocess.run([sys.executable, "-c", _LATE], stdout=subprocess.PIPE, timeout=100)
    assert done.stdout.decode() == "whole late\n"


def test_a_kind_of_native_work_waits_for_no_other() -> None:
    done = subprocess.run([sys.executable, "-c", _KINDS], stdout=subprocess.PIPE, timeout=100)
    assert sorted(done.stdout.decode().splitlines()) == [
        "child True", "disk True 127.0.0.1", "hash True 127.0.0.1", "work True 127.0.0.1",
    ]  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_job_that_fails_is_reported_where_nothing_can_be_logged() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, stderr=full, timeout=100
        )
    assert done.stdout.decode().splitlines() == ["No space left on device"] * 4


def test_coroutines_of_many_greenlets_run_concurrently() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COROUTINES], capture_output=True, text=True, timeout=60,
        check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("{b'HELLO'}\nno such city\n", "")


def test_a_coroutine_runs_in_a_thread_without_gevent() -> None:
    async def answer() -> int:
        return threading.get_ident()

    assert run_async(answer()) == threading.get_ident()

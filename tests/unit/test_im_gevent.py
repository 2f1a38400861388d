"""Adapters share a worker: while one waits, other greenlets run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from gevent import monkey; monkey.patch_all()
import sys, threading
from astrbot_api import testing
from tests.im_platforms import Outbox, PICTURE, open_adapter

COUNT = 5
barrier = threading.Barrier(COUNT, timeout=20)

def held(fake):
    # Answers only when all have asked: whoever held the hub would wait for ever.
    answer = fake.answer
    def wait_for_all(request):
        if request.path.endswith(("sendMessage", "private_msg", "postMessage", "/in")):
            barrier.wait()
        return answer(request)
    fake.answer = wait_for_all
    return fake

def make(type):
    if type == "telegram":
        fake = testing.FakeTelegram()
        return fake, lambda: {"token": fake.token, "base_url": fake.url}, "1"
    if type == "onebot":
        fake = testing.FakeOneBot()
        return fake, lambda: {"access_token": fake.access_token, "base_url": fake.url}, "1"
    if type == "slack":
        fake = testing.FakeSlack()
        return fake, lambda: {"token": fake.token, "base_url": fake.base_url}, "C123"
    fake = testing.FakeWebhookReceiver()
    return fake, lambda: {"secret": fake.secret, "url": fake.url + "/in"}, "1"

for type in sys.argv[1:]:
    fake, settings, session = make(type)
    with held(fake), open_adapter(type, **settings()) as adapter:
        threads = [
            threading.Thread(
                target=lambda n: Outbox(adapter).send("Hi", to=session, delivery_id=str(n)),
                args=(number,),
            )
            for number in range(COUNT)
        ]
        [thread.start() for thread in threads]
        [thread.join(30) for thread in threads]
        print(type, len(fake.messages))
"""


@pytest.mark.parametrize("patched", [True, False])
def test_no_adapter_holds_the_others_up(patched: bool) -> None:
    types = ["telegram", "onebot", "slack", "webhook"]
    program = PROGRAM if patched else PROGRAM.replace("monkey.patch_all()", "", 1)
    done = subprocess.run(
        [sys.executable, "-c", program, *types],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.split("\n")[:4] == [f"{type} 5" for type in types], done.stderr


SLOW = """
from gevent import monkey; monkey.patch_all()
import gevent
from astrbot_api import testing
from astrbot_api.im import markdown, piecewise
from tests.im_platforms import Outbox, open_adapter

make_lock = monkey.get_original("_thread", "allocate_lock")

def hold(module, name):
    # The job waits for another greenlet, which never runs if the job blocks the hub.
    job, lock, begun = getattr(module, name), make_lock(), []
    lock.acquire()
    def wait(*arguments):
        begun.append(name)
        assert lock.acquire(timeout=20), name
        return job(*arguments)
    setattr(module, name, wait)
    def release():
        while not begun:
            gevent.sleep(0.001)
        lock.release()
    gevent.spawn(release)

fake = testing.FakeTelegram()
with fake, open_adapter("telegram", token=fake.token, base_url=fake.url) as adapter:
    hold(piecewise, "split_markdown")
    hold(markdown, "_read")
    Outbox(adapter).send("**Hi**", to="1")
    print(fake.messages[0]["text"])
"""


def test_long_texts_are_split_and_parsed_outside_the_hub() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SLOW],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "Hi\n", done.stderr

"""Notifications between processes arrive over every transport."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from astrbot_api.config.settings import Settings
from astrbot_api.runlog.opening import open_signals
from astrbot_api.runlog.signals import remote_signals
from astrbot_api.runlog.signals.signals import Signals

from ..postgres import Postgres
from ..redis_server import RedisServer
from ..waiting import wait_for

Opener = Callable[[], Signals]


@pytest.fixture(params=["datagrams", "postgres", "redis"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Return a function that opens the signals of another process with shared state."""
    settings: dict[str, Any] = {"data_dir": tmp_path}
    if request.param == "postgres":
        settings["database_url"] = request.getfixturevalue("postgres_url")
    if request.param == "redis":
        # An option that other programs need in their URL.
        url = request.getfixturevalue("redis_server").url
        settings["redis_url"] = f"{url}?decode_responses=true"
        settings["redis_prefix"] = request.getfixturevalue("redis_prefix")
    opened: list[Signals] = []

    def make() -> Signals:
        opened.append(open_signals(Settings(**settings)))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


class Ear:
    """Records the signals that one process receives."""

    def __init__(self, signals: Signals, topic: str = "events") -> None:
        self.signals = signals
        self.heard: list[str] = []
        self._something = threading.Event()
        signals.subscribe(topic, self._hear)
        signals.start()

    def _hear(self, payload: str) -> None:
        self.heard.append(payload)
        self._something.set()

    def hears(self, speaker: Signals, payload: str, topic: str = "events") -> None:
        """Repeat a signal until it is received, because single signals may be lost."""

        def heard() -> bool:
            speaker.publish(topic, payload)
            self._something.wait(0.2)
            return payload in self.heard

        wait_for(heard)


def test_the_others_hear_a_signal_and_who_sent_it_does_not(open_one: Opener) -> None:
    ears = [Ear(open_one()) for _ in range(3)]
    for number in (1, 2):
        ears[number].hears(ears[0].signals, "7 8 9")
    assert ears[0].heard == []


def test_a_topic_is_heard_by_those_who_want_it(open_one: Opener) -> None:
    speaker, stops, pushes = open_one(), Ear(open_one(), "stop"), Ear(open_one(), "push")
    stops.hears(speaker, "a b", "stop")
    pushes.hears(speaker, "1", "push")
    assert set(stops.heard) == {"a b"}
    assert set(pushes.heard) == {"1"}


def test_a_callback_that_fails_makes_nobody_deaf(open_one: Opener) -> None:
    def fail(payload: str) -> None:
        raise ValueError(payload)

    listener = open_one()
    listener.subscribe("events", fail)
    ear = Ear(listener)
    ear.hears(open_one(), "first")
    ear.hears(open_one(), "second")


def test_what_is_too_long_is_not_sent_and_ends_nothing(open_one: Opener) -> None:
    ear, speaker = Ear(open_one()), open_one()
    speaker.publish("events", "9" * 20_000)
    ear.hears(speaker, "short")


def test_signals_of_postgres_go_on_after_its_restart(postgres: Postgres, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=postgres.create_database())
    speaker, listener = open_signals(settings), open_signals(settings)
    ear = Ear(listener)
    ear.hears(speaker, "before")
    postgres.kill()
    speaker.publish("events", "lost")
    postgres.start()
    ear.hears(speaker, "after")
    speaker.close()
    listener.close()


def test_each_outage_of_postgres_is_logged_with_its_end(
    postgres: Postgres,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_signals, "_RETRY_S", 0.01)
    url = postgres.create_database()
    listening = "FROM pg_stat_activity WHERE query LIKE 'LISTEN %' AND datname = current_database()"
    database = url.partition("?")[0].rpartition("/")[2]
    listener = open_signals(Settings(data_dir=tmp_path, database_url=url))
    listener.start()
    for number in (1, 2):
        wait_for(lambda: postgres.run_sql(f"SELECT 1 {listening}", database))
        postgres.run_sql(f"SELECT pg_terminate_backend(pid) {listening}", database)
        wait_for(lambda: caplog.text.count("work again") == number)  # noqa: B023
        assert caplog.text.count("are not received") == number
    listener.close()


def test_an_idle_limit_of_postgres_does_not_end_signals(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_signals, "_RETRY_S", 600.0)
    url = postgres.create_database()
    limited = f"{url}&options=-c%20idle_session_timeout%3D200"
    speaker = open_signals(Settings(data_dir=tmp_path, database_url=url))
    listener = open_signals(Settings(data_dir=tmp_path, database_url=limited))
    ear = Ear(listener)
    ear.hears(speaker, "before")
    with psycopg.connect(limited, autocommit=True) as witness, pytest.raises(psycopg.Error):
        next(witness.notifies())  # ends when the limit has passed
    ear.hears(speaker, "after")
    speaker.close()
    listener.close()


def test_signals_of_redis_go_on_after_its_restart(
    redis_server: RedisServer, redis_prefix: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, redis_url=redis_server.url, redis_prefix=redis_prefix)
    speaker, listener = open_signals(settings), open_signals(settings)
    ear = Ear(listener)
    ear.hears(speaker, "before")
    redis_server.kill()
    speaker.publish("events", "lost")
    redis_server.start()
    ear.hears(speaker, "after")
    speaker.close()
    listener.close()


def test_the_socket_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    signals = open_signals(Settings(data_dir=tmp_path))
    signals.start()
    left = tmp_path / "run" / "left"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(left))
    signals.publish("events", "7")
    assert not left.exists()
    signals.close()


def test_a_socket_on_a_read_only_disk_does_not_disturb_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = open_signals(Settings(data_dir=tmp_path))
    signals.start()

    def refuse(path: Path, missing_ok: bool = False) -> None:  # root may write everywhere
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    signals.close()
    assert list((tmp_path / "run").iterdir())


def test_signals_work_in_a_folder_with_a_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    speaker, listener = (open_signals(Settings(data_dir=folder)) for _ in range(2))
    Ear(listener).hears(speaker, "7")
    speaker.close()
    listener.close()

"""Hosts with different clocks agree about which workers are alive."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from astrbot_api.config.settings import Settings
from astrbot_api.db import delivery_claims, idempotency, leases
from astrbot_api.db.store import open_store
from astrbot_api.server.doctor.run import examine
from astrbot_api.worker.chores import Chores
from astrbot_api.worker.lease import WorkerLease

MINUTE_S = 60

AHEAD = pytest.mark.parametrize("ahead_s", [5 * MINUTE_S, -5 * MINUTE_S, 24 * 60 * MINUTE_S])


@pytest.fixture
def settings(tmp_path: Path, postgres_url: str) -> Settings:
    return Settings(data_dir=tmp_path, database_url=postgres_url)


@AHEAD
def test_a_worker_is_alive_for_a_host_with_another_clock(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    store, real = open_store(settings), time.time
    request = idempotency.ClientKey("key", "word", "chat:1")

    def renew(worker: str) -> None:
        store.write(lambda db: leases.renew_lease(db, worker, 15.0))

    renew("here")
    store.write(lambda db: idempotency.claim(db, request, worker_id="here"))
    monkeypatch.setattr(time, "time", lambda: real() + ahead_s)
    renew("there")
    for _ in range(2):  # for the other host, then for this one
        with store.read() as db:
            assert leases.list_dead_workers(db) == []
            assert leases.has_successor(db, "here")
            assert leases.has_successor(db, "there")
            assert (leases.find_silence_s(db, "there", 15.0) or 0.0) < MINUTE_S
            assert not delivery_claims.next_due(db, judge=True)
        earlier = store.write(lambda db: idempotency.claim(db, request, worker_id="there"))
        assert earlier is not None
        assert earlier.in_flight
        monkeypatch.setattr(time, "time", real)
    store.close()


@AHEAD
def test_a_wrong_clock_is_logged_and_reported_by_doctor(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ahead_s: int,
) -> None:
    store, real = open_store(settings), time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead_s)
    lease = WorkerLease(store, 15.0, Chores())
    lease.get_worker_id()
    [found] = [one for one in examine(settings, offline=True) if one.what == "clock"]
    lease.close()
    store.close()
    assert caplog.text.count("synchronise the clocks") == 1
    assert (found.state, found.text) == (
        "warn", f"its clock and this host's differ by {abs(ahead_s)} s",
    )  # fmt: skip


def test_a_right_clock_is_not_reported(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(settings)
    lease = WorkerLease(store, 15.0, Chores())
    lease.get_worker_id()
    assert "clock" not in [one.what for one in examine(settings, offline=True)]
    lease.close()
    store.close()
    assert "clocks" not in caplog.text


def test_a_lease_taken_while_the_database_closes_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(Settings(data_dir=tmp_path))
    store.upgrade()
    before = set(threading.enumerate())
    lease = WorkerLease(store, 0.3, Chores())
    lease.get_worker_id()
    (keeping,) = [one for one in set(threading.enumerate()) - before if one.name == "lease"]
    store.close()
    keeping.join(60)
    assert not keeping.is_alive()
    assert caplog.text == ""

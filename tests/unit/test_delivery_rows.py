"""Rows of the outbox on both databases are claimed once, in the order of each target."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.config.settings import Settings
from astrbot_api.db import counting, deliveries, delivery_claims, leases
from astrbot_api.db.deliveries import DeliveryRow
from astrbot_api.db.store import Store, open_store

from ..query_plans import explain


@pytest.fixture
def store(store: Store) -> Store:
    for worker in ("w1", "w2"):
        store.write(lambda db, worker=worker: leases.renew_lease(db, worker, 60.0))  # type: ignore[misc]
    return store


def add(store: Store, target: str, text: str = "x", **options: Any) -> str:
    return store.write(
        lambda db: deliveries.add_delivery(
            db, platform_id="tg", target=target, content=[text], **options
        )
    )


def claim(store: Store, worker: str = "w1") -> list[DeliveryRow]:
    return store.write(lambda db: delivery_claims.claim(db, worker, 100))


def finish(store: Store, row: DeliveryRow, worker: str = "w1") -> bool:
    return store.write(
        lambda db: delivery_claims.finish(db, row, worker, "sent", error=None, platform_ids=["1"])
    )


def test_of_each_target_only_the_oldest_is_claimed(store: Store) -> None:
    ids = [add(store, target) for target in ("a", "a", "b", "a")]
    first = claim(store)
    assert [row.delivery_id for row in first] == [ids[0], ids[2]]
    assert claim(store, "w2") == []
    assert finish(store, first[0])
    assert [row.delivery_id for row in claim(store, "w2")] == [ids[1]]


def test_what_has_no_order_waits_for_nothing(store: Store) -> None:
    ids = [add(store, "event:a", ordered=False) for _ in range(3)]
    assert [row.delivery_id for row in claim(store)] == ids


def test_a_bot_that_has_enough_on_its_way_is_left_out(store: Store) -> None:
    add(store, "a")
    other = store.write(
        lambda db: deliveries.add_delivery(db, platform_id="qq", target="b", content=["x"])
    )
    rows = store.write(lambda db: delivery_claims.claim(db, "w1", 100, ["tg", "sl"]))
    assert [row.delivery_id for row in rows] == [other]
    with store.read() as db:
        assert delivery_claims.next_due(db) is not None
        assert delivery_claims.next_due(db, ["tg"]) is None


def test_two_workers_never_claim_the_same(store: Store) -> None:
    for number in range(60):
        add(store, f"target {number}")
    with ThreadPoolExecutor(8) as pool:
        taken = list(
            pool.map(
                lambda number: store.write(
                    lambda db: delivery_claims.claim(db, f"w{number % 2 + 1}", 5)
                ),
                range(16),
            )
        )
    ids = [row.id for rows in taken for row in rows]
    assert len(ids) == len(set(ids)) == 60


def test_a_dead_workers_delivery_is_free_and_its_word_counts_no_more(store: Store) -> None:
    def measure() -> int:
        with store.read() as db:
            return counting.find_account(db, "k").stored.deliveries_bytes

    delivery_id = add(store, "a", "x" * 1000, payer="k")
    (row,) = claim(store, "gone")
    stored_bytes = measure()
    with store.read() as db:
        assert delivery_claims.next_due(db) is not None
    (again,) = claim(store, "w1")
    assert (again.delivery_id, again.attempts) == (delivery_id, 2)
    assert not store.write(
        lambda db: delivery_claims.note_progress(db, row, "gone", parts=1, chars=0, platform_ids=[])
    )
    assert not finish(store, row, "gone")
    assert measure() == stored_bytes
    assert finish(store, again)
    assert measure() < stored_bytes - 900


def test_a_line_that_is_filled_and_emptied_at_once_never_stops(store: Store) -> None:
    def add_and_send(number: int) -> None:
        add(store, "a", str(number))
        for row in claim(store):
            finish(store, row)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add_and_send, range(60)))
    while rows := claim(store):
        for row in rows:
            assert finish(store, row)
    with store.read() as db:
        left = db.execute_sql("SELECT COUNT(*) FROM delivery WHERE status <> 'sent'").fetchone()[0]
    assert left == 0


def test_only_what_is_old_and_finished_is_pruned(store: Store) -> None:
    add(store, "a")
    finish(store, claim(store)[0])
    open_one = add(store, "b")
    assert store.write(lambda db: deliveries.prune(db, keep_us=10**9)) == 0
    assert store.write(lambda db: deliveries.prune(db, keep_us=-1)) == 1
    with store.read() as db:
        assert deliveries.find_delivery(db, open_one) is not None


def test_a_lease_that_the_clock_left_behind_is_not_taken_for_death_before_it_may_be(
    store: Store,
) -> None:
    add(store, "one")
    (taken,) = claim(store)
    store.write(
        lambda db: db.execute_sql("UPDATE worker SET lease_until = 1")
    )  # the clock jumped ahead
    with store.read() as db:
        assert delivery_claims.next_due(db, judge=False) is None
    assert store.write(lambda db: delivery_claims.claim(db, "w2", 9, judge=False)) == []
    assert [one.id for one in claim(store, "w2")] == [taken.id]


def test_a_dead_workers_lease_does_not_hold_until_a_clock_that_was_set_back_catches_up(
    store: Store,
) -> None:
    store.write(
        lambda db: leases.renew_lease(db, "dead", 3600.0)
    )  # created before the clock was set back
    store.write(lambda db: leases.renew_lease(db, "w1", 15.0))
    with store.read() as db:
        rows = db.execute_sql("SELECT worker_id, lease_until FROM worker").fetchall()
    until = dict(rows)
    assert until["dead"] == pytest.approx(until["w1"], abs=60.0)
    assert until["w2"] > until["w1"]  # with another setting, or on another host


def test_a_delivery_scheduled_before_the_clock_was_set_back_is_due_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = deliveries.now_us()
    with monkeypatch.context() as ahead:
        ahead.setattr("astrbot_api.db.deliveries.now_us", lambda: now + 86_400_000_000)
        add(store, "one")
    soon = add(store, "two")
    assert [row.delivery_id for row in claim(store)] == [soon]
    hour_us = 3_600_000_000

    def pull_in(hours: int, events: bool = False) -> int:
        latest_us = now + hours * hour_us
        return store.write(lambda db: delivery_claims.pull_in(db, latest_us, events=events))

    assert [pull_in(48), pull_in(1, events=True), pull_in(1)] == [0, 0, 1]
    assert [row.target for row in claim(store)] == ["one"]


def test_the_outbox_reads_only_the_indexes_of_what_is_not_finished(tmp_path: Path) -> None:
    made = open_store(Settings(database_url=f"sqlite:///{tmp_path / 'test.db'}"))
    made.upgrade()
    with made.read() as db:
        for statement, index in (
            (deliveries._LINE, "delivery_line (target=?)"),
            (delivery_claims._PROMOTE, "delivery_line (target=?)"),
            (delivery_claims._HAS_DEAD, "delivery_sending"),
            (delivery_claims._FREE_DEAD, "delivery_sending"),
            (delivery_claims._next_due(1), "delivery_due"),
            (delivery_claims._claim(1, skip_locked=False), "delivery_due (due_at<?)"),
        ):
            steps = explain(db, statement)
            assert any(step.endswith(f"INDEX {index}") for step in steps), steps
            assert not any("TEMP B-TREE" in step for step in steps), steps
    made.close()


def test_a_delivery_with_which_two_workers_died_is_set_aside(store: Store) -> None:
    add(store, "a")
    errors = [row.error for worker in ("gone", "gone", "w1") for row in claim(store, worker)]
    assert errors == [None, delivery_claims.WORKER_DIED, delivery_claims.WORKER_DIED_TWICE]


def test_a_delivery_that_went_on_meanwhile_is_not_set_aside(store: Store) -> None:
    add(store, "a")
    for part in (1, 2, 3):
        (row,) = claim(store, "gone")
        assert row.error in (None, delivery_claims.WORKER_DIED)
        store.write(
            lambda db, row=row, part=part: delivery_claims.note_progress(  # type: ignore[misc]
                db, row, "gone", parts=part, chars=part, platform_ids=[]
            )
        )

"""Rows of messengers' events and leases of polled bots, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from astrbot_api.db import inbound, leases
from astrbot_api.db.store import Store


def add(store: Store, event_id: str, *, bot_id: str = "tg", run_id: str | None = None) -> bool:
    return store.write(
        lambda db: inbound.add_event(
            db, bot_id, event_id, run_id=run_id, umo="tg:FriendMessage:1", reply_to="7"
        )
    )


def test_an_event_is_new_once_for_each_bot(store: Store) -> None:
    assert add(store, "1", run_id="r1")
    assert not add(store, "1", run_id="r2")
    assert add(store, "1", bot_id="other")
    with store.read() as db:
        assert inbound.is_known(db, "tg", "1")
        assert not inbound.is_known(db, "tg", "2")
        found = inbound.find_event_of_run(db, "r1")
        assert found == inbound.EventOrigin("tg", "tg:FriendMessage:1", "7")
        assert inbound.find_event_of_run(db, "r2") is None


def test_an_event_that_comes_many_times_at_once_is_new_once(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda _: add(store, "same"), range(16))) == [False] * 15 + [True]


def test_a_long_id_is_distinguished_from_another_that_begins_the_same(store: Store) -> None:
    assert add(store, "x" * 1000 + "a")
    assert add(store, "x" * 1000 + "b")
    assert not add(store, "x" * 1000 + "a")


def test_only_old_events_are_forgotten(store: Store) -> None:
    add(store, "1")
    assert store.write(lambda db: inbound.prune_events(db, 10**9)) == 0
    assert store.write(lambda db: inbound.prune_events(db, -1)) == 1
    assert add(store, "1")


def test_a_conversation_is_processed_in_order_by_one_worker(store: Store) -> None:
    def wait(event_id: str, worker_id: str, umo: str = "tg:FriendMessage:1") -> None:
        store.write(
            lambda db: inbound.add_pending(
                db, "tg", event_id, umo=umo, worker_id=worker_id, message="{}"
            )
        )

    def waiting() -> list[tuple[str, str]]:
        with store.read() as db:
            rows = inbound.list_waiting(db, "tg:FriendMessage:1", 10)
        return [(row.event_key, row.worker_id) for row in rows]

    wait("1", "w1")
    wait("2", "w2")
    wait("2", "w2")
    wait("3", "w2", "tg:FriendMessage:2")
    assert waiting() == [("1", "w1"), ("2", "w1")]
    store.write(lambda db: leases.renew_lease(db, "w2", 60.0))
    with store.read() as db:
        assert inbound.list_conversations(db, "w2", 10) == [
            ("tg:FriendMessage:1", "w1"), ("tg:FriendMessage:2", "w2"),
        ]  # fmt: skip
    for claimed in (True, False):
        assert claimed == store.write(
            lambda db: inbound.claim_conversation(db, "tg:FriendMessage:1", "w1", "w2")
        )
    assert waiting() == [("1", "w2"), ("2", "w2")]
    with store.read() as db:
        first = inbound.list_waiting(db, "tg:FriendMessage:1", 1)[0]
    store.write(lambda db: inbound.drop_pending(db, [first]))
    assert waiting() == [("2", "w2")]


def test_a_bot_is_polled_by_one_worker_until_that_dies(store: Store) -> None:
    def take(worker: str) -> bool:
        return store.write(lambda db: inbound.take_bot_lease(db, "tg", worker))

    store.write(lambda db: leases.renew_lease(db, "w1", 60.0))
    store.write(lambda db: leases.renew_lease(db, "w2", 60.0))
    assert take("w1")
    assert take("w1")
    assert not take("w2")
    store.write(lambda db: leases.drop_lease(db, "w1"))
    assert take("w2")
    store.write(lambda db: inbound.drop_bot_lease(db, "tg", "w1"))
    store.write(lambda db: leases.renew_lease(db, "w1", 60.0))
    assert not take("w1")
    store.write(lambda db: inbound.drop_bot_lease(db, "tg", "w2"))
    assert take("w1")

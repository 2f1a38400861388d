"""Pages of long rows are complete, and read few rows each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from astrbot_api.db import message_pages, messages, pushes, sessions
from astrbot_api.db.prepared import Prepared
from astrbot_api.http.responses import conversations

from .conftest import Api

COUNT, FEW = 12, 3


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the number of rows of each statement with texts. Only PostgreSQL reports it."""
    counts = []
    execute = Prepared.execute

    def count(self: Prepared, db: Any, /, **values: Any) -> Any:
        rows = execute(self, db, **values)
        if '"content"' in self.sql(db).partition("FROM")[0] and "OCTET" not in self.sql(db):
            counts.append(rows.rowcount)
        return rows

    monkeypatch.setattr(Prepared, "execute", count)
    return counts


@pytest.fixture
def session(api: Api) -> int:
    """Return a session of long pushed messages."""

    def fill(db: Any) -> int:
        number = sessions.create_session(db, "long", "alice").id
        for _ in range(COUNT):
            content = {"type": "user", "message": [{"type": "plain", "text": "漢" * 10_000}]}
            messages.add_message(db, number, "webchat", "alice", content, None, pushed=True)
        return number

    return int(api.state.db.write(fill))


Walk = Callable[[Any, int], Iterator[list[int]]]


def walk_shown(newest_first: bool) -> Walk:
    def walk(db: Any, session: int) -> Iterator[list[int]]:
        cursor, more = None, True
        while more:
            page, cursor = message_pages.list_page(
                db, session, cursor=cursor, limit=50, newest_first=newest_first
            )
            yield [one["id"] for one in page][:: -1 if newest_first else 1]
            more = cursor is not None

    return walk


def walk_history(db: Any, session: int) -> Iterator[list[int]]:
    before, more = 2**63 - 1, True
    while more:
        page, more = messages.list_messages_before(
            db, session, before=before, limit=50, max_chars=25_000
        )
        yield [one.id for one in reversed(page)]
        before = page[-1].id if page else 0


def walk_pushed(db: Any, session: int) -> Iterator[list[int]]:
    after, more = 0, True
    while more:
        page, more = pushes.list_pushed(db, session, after, 50)
        yield [one.id for one in page]
        after = page[-1].id if page else after


@pytest.mark.parametrize(
    "walk", [walk_shown(True), walk_shown(False), walk_history, walk_pushed],
    ids=["newest first", "oldest first", "history", "pushed"],
)  # fmt: skip
def test_pages_of_long_messages_are_short_and_complete(
    api: Api, session: int, fetched: list[int], monkeypatch: pytest.MonkeyPatch, walk: Walk
) -> None:
    monkeypatch.setattr(message_pages, "_MAX_PAGE_CHARS", 25_000)
    monkeypatch.setattr(pushes, "MAX_HISTORY_CHARS", 25_000)
    with api.state.db.read() as db:
        pages = list(walk(db, session))
    found = sorted(number for page in pages for number in page)
    assert (found, max(map(len, pages)) <= FEW) == (list(range(1, COUNT + 1)), True)
    assert max(fetched) <= FEW


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_items_of_long_entries_are_read_a_few_entries_at_a_time(
    api: Api, fetched: list[int], monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setattr(conversations, "_MAX_READ_BYTES", 25_000)
    read = []
    list_entries = conversations.responses.list_entries

    def list_and_count(*arguments: Any, **options: Any) -> Any:
        page, has_more = list_entries(*arguments, **options)
        read.append(len(page))
        return page, has_more

    monkeypatch.setattr(conversations.responses, "list_entries", list_and_count)
    path = "/api/v1/openai/conversations"
    made = api.post(path, json={"user": "alice"}).get_json()["id"]
    texts = [f"{number} {'x' * 10_000}" for number in range(COUNT)]
    for text in texts:
        items = {"items": [{"role": "user", "content": text}]}
        api.post(f"{path}/{made}/items", json=items)
    query = {"order": order, "limit": "100"}
    answer = api.get(f"{path}/{made}/items", query_string=query)
    found = [one["content"][0]["text"] for one in answer.get_json()["data"]]
    assert found == (texts if order == "asc" else texts[::-1])
    assert 0 < max(read) <= FEW
    assert max(fetched) <= FEW

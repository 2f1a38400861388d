"""The list of sessions: order, pages, constant cost."""

from __future__ import annotations

from typing import Any

import pytest

from astrbot_api.db import sessions
from astrbot_api.db.prepared import Prepared

from ..query_plans import explain
from .conftest import Api


@pytest.fixture
def many(api: Api) -> Api:
    """An application with 57 sessions of alice and one of bob."""

    def job(db: Any) -> None:
        for number in range(57):
            sessions.create_session(db, f"s{number}", "alice")
        sessions.create_session(db, "t0", "alice", platform_id="tg")
        sessions.create_session(db, "b0", "bob")

    api.state.db.write(job)
    return api


def _page(api: Api, **query: Any) -> dict[str, Any]:
    text = "&".join(f"{name}={value}" for name, value in query.items())
    body = api.get(f"/api/v1/chat/sessions?username=alice&{text}").get_json()
    data: dict[str, Any] = body["data"]
    return data


def test_all_pages_contain_every_session_once_newest_first(many: Api) -> None:
    found = []
    for page in range(1, 8):
        data = _page(many, page=page, page_size=10)
        assert (data["page"], data["page_size"], data["total"]) == (page, 10, 58)
        found += [one["session_id"] for one in data["sessions"]]
    assert found == ["t0", *(f"s{number}" for number in reversed(range(57)))]


def test_sessions_can_be_filtered_by_platform(many: Api) -> None:
    data = _page(many, platform_id="tg")
    assert [one["session_id"] for one in data["sessions"]] == ["t0"]
    assert data["total"] == 1


def test_sessions_can_be_ordered_by_last_use(many: Api) -> None:
    many.chat(session_id="s3")
    assert _page(many, order_by="updated_at")["sessions"][0]["session_id"] == "s3"
    assert _page(many)["sessions"][0]["session_id"] == "t0"


@pytest.mark.parametrize("query", ["", "&order_by=updated_at", "&platform_id=webchat"])
def test_a_page_uses_an_index_and_sorts_only_its_own_rows(
    many: Api, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Prepared] = []
    prepare = sessions.prepare_page

    def note(*args: Any, **options: Any) -> Prepared:
        used.append(prepare(*args, **options))
        return used[-1]

    monkeypatch.setattr(sessions, "prepare_page", note)
    assert many.get(f"/api/v1/chat/sessions?username=alice{query}").status_code == 200
    with many.state.db.read() as db:
        plans = [step for statement in used for step in explain(db, statement)]
    inner = [plan for plan in plans if "COVERING INDEX" in plan]
    assert inner, plans
    assert not [plan for plan in plans if plan.startswith("SCAN")]
    # One sort, of the page's own rows.
    assert sum("TEMP B-TREE" in plan for plan in plans) <= 1

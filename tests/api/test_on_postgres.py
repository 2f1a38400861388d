"""Runs tests of the API with PostgreSQL instead of SQLite."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from astrbot_api.chat.resuming import recovery
from astrbot_api.db import checkpoints, keys, postgres_store, responses, runs, stored
from astrbot_api.db.runs import find_run

from ..postgres import Postgres
from ..waiting import LIMIT_S, wait_for
from . import test_guard_rails as guard_rails
from .conftest import Api
from .test_files import *  # noqa: F403
from .test_guard_rails import *  # noqa: F403
from .test_history import *  # noqa: F403
from .test_idempotency import *  # noqa: F403
from .test_keys import *  # noqa: F403
from .test_last_turn import *  # noqa: F403
from .test_long_pages import *  # noqa: F403
from .test_mcp_server import test_a_client_cancels_its_own_call  # noqa: F401
from .test_media import *  # noqa: F403
from .test_openai_approvals import (  # noqa: F401
    test_a_call_decided_elsewhere_or_expired_is_not_decided_again,
    test_a_conversation_contains_the_approval_request_and_its_response,
    test_a_deleted_response_leaves_nothing,
    test_an_approved_call_is_made_in_the_next_response,
    test_an_expired_call_is_not_made,
    test_several_calls_are_decided_together_and_a_turn_may_ask_again,
    test_unknown_ids_and_ids_of_another_key_are_not_found,
)
from .test_openai_responses import (  # noqa: F401
    client,
    test_a_conversation_is_a_session_with_its_responses,
    test_a_response_is_deleted_with_its_messages,
    test_old_responses_are_deleted_unless_they_belong_to_a_conversation,
    test_stored_responses_count_towards_the_quota_until_deleted,
)
from .test_openai_threads import (  # noqa: F401
    test_a_thread_branches_and_each_branch_has_a_session,
    test_data_of_earlier_items_is_used_and_stored_once_per_user,
)
from .test_response_modes import *  # noqa: F403
from .test_runs import *  # noqa: F403
from .test_session_guards import (  # noqa: F401
    test_a_bound_key_deletes_no_file_that_others_have,
    test_a_file_for_many_users_can_be_read_by_each_of_them,
    test_a_users_newest_messages_are_searched_for_a_file_for_many_users,
    test_other_keys_read_only_their_own_part_of_a_file_for_many_users,
)
from .test_session_routes import *  # noqa: F403
from .test_sessions import *  # noqa: F403
from .test_tools import *  # noqa: F403
from .test_tools import call_what_is_asked_for
from .test_uploads import (  # noqa: F401
    test_an_upload_is_only_taken_over_from_a_dead_worker,
    test_only_one_request_completes_an_upload,
)
from .test_visitors import (  # noqa: F401
    shop,
    test_a_turn_running_when_its_key_expires_counts_as_used,
    test_new_keys_do_not_raise_a_visitors_turns_per_day,
    test_the_owner_disables_and_enables_a_chat_by_its_key,
    test_unused_turns_of_an_expired_key_are_released,
)

# These inspect SQLite's file and query plans.
del test_no_filename_escapes_the_folder_or_causes_a_500  # noqa: F821  # long, and of names alone
del test_the_secret_is_stored_nowhere  # noqa: F821
del test_a_key_is_checked_by_one_indexed_read  # noqa: F821
del test_counting_a_keys_turns_reads_no_list_of_its_session_keys  # noqa: F821
del test_a_page_of_messages_reads_only_the_index  # noqa: F821
del test_the_search_for_runs_of_dead_workers_reads_no_ended_run  # noqa: F821
del test_a_page_uses_an_index_and_sorts_only_its_own_rows  # noqa: F821
del test_a_session_in_a_restored_database_shows_no_messages_of_a_lost_one  # noqa: F821


@pytest.fixture
def new_database(postgres: Postgres) -> Callable[[], dict[str, Any]]:
    """Return the settings of an empty database with all tables."""
    reused = iter(postgres.reusable)

    def make() -> dict[str, Any]:
        url = next(reused, None)
        if url is None:
            url = postgres.create_database()
            postgres.reusable = [*postgres.reusable, url]
        else:
            postgres.empty(url)
        return {"database_url": url}

    return make


def test_a_turn_whose_step_cannot_be_stored_fails_and_is_not_repeated(
    make_scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_disk(db: Any, *_: Any) -> None:
        db.execute_sql("DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END $$")

    monkeypatch.setattr(postgres_store, "PATIENCE_S", 0.0)
    monkeypatch.setattr(recovery, "_UNKNOWN_S", 0.0)
    monkeypatch.setattr(checkpoints, "add_checkpoint", fill_disk)
    api, model = make_scripted(call_what_is_asked_for, agent="titles = false\n")
    message = 'calculate {"expression": "6*7"}'
    body = {"message": message, "username": "alice", "response_mode": "background"}
    run_id = api.post("/api/v1/chat", json=body).get_json()["data"]["run_id"]
    for _ in range(5):
        assert api.state.chat.runs.wait_until_idle(10)
        api.state.chat.recovery.end_forgotten(api.state.chat.runs.knows)
    assert len(model.seen) == 1
    with api.state.db.read() as db:
        run = find_run(db, run_id)
    assert run is not None
    assert run.error_code == "storage_error"


def count_waiting(api: Api) -> int:
    """Return the number of transactions that wait for others."""
    with api.state.db.read() as db:
        counted = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted"
        return int(db.execute_sql(counted).fetchone()[0])


@pytest.mark.parametrize("end", [keys.revoke_key, keys.delete_key])
@pytest.mark.parametrize("kind", ["plain", "session key"])
def test_a_key_that_ends_while_its_turn_is_stored_stops_it(
    api: Api, monkeypatch: pytest.MonkeyPatch, end: Callable[..., Any], kind: str
) -> None:
    key, add_run, ending = guard_rails.make_key(api), runs.add_run, threading.Event()
    key_id = guard_rails.ask(api, key, "/api/v1/keys/self").json["data"]["key_id"]
    used = guard_rails.mint(api, key).json["data"]["api_key"] if kind == "session key" else key

    def end_key() -> None:
        api.state.db.write(lambda db: end(db, key_id))
        ending.set()

    def add_while_ending(*args: Any, **options: Any) -> Any:
        added = add_run(*args, **options)
        threading.Thread(target=end_key).start()
        wait_for(lambda: ending.is_set() or count_waiting(api))
        return added

    monkeypatch.setattr(runs, "add_run", add_while_ending)
    said = guard_rails.say(api, used, message="N=1000 DELAY=200", response_mode="background")
    run_id = said.json["data"]["run_id"]
    wait_for(ending.is_set)
    api.state.chat.runs.poll_stop_requests()
    assert api.state.chat.runs.wait_until_idle(LIMIT_S)
    with api.state.db.read() as db:
        found = find_run(db, run_id)
    assert found is not None
    assert found.status == "stopped"


CONVERSATIONS = "/api/v1/openai/conversations"


@pytest.fixture
def delete_both(api: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Delete two objects, the second while the transaction of the first is open."""

    def delete_both(statement: str, first_path: str, second_path: str) -> None:
        run, statuses = getattr(responses, statement), []

        def delete(path: str) -> None:
            answer = api.app.test_client().delete(path, headers={"X-API-Key": api.key})
            statuses.append(answer.status_code)

        second = threading.Thread(target=delete, args=(second_path,))

        def hold(*args: Any) -> Any:
            run(*args)
            if second.ident is None:
                second.start()
                wait_for(lambda: statuses or count_waiting(api))

        monkeypatch.setattr(responses, statement, hold)
        delete(first_path)
        second.join()
        assert statuses == [200, 200]

    return delete_both


def test_two_items_of_a_conversation_are_deleted_at_once(
    api: Api, delete_both: Callable[..., None]
) -> None:
    items = [{"role": "user", "content": text} for text in ("a", "b")]
    made = api.post(CONVERSATIONS, json={"items": items}).get_json()["id"]
    path = f"{CONVERSATIONS}/{made}/items"
    ids = [one["id"] for one in api.get(path).get_json()["data"]]
    delete_both("remove_input", f"{path}/{ids[0]}", f"{path}/{ids[1]}")
    assert api.get(path).get_json()["data"] == []


def test_a_response_that_is_deleted_twice_at_once_is_subtracted_once(
    api: Api, delete_both: Callable[..., None]
) -> None:
    conversation = api.post(CONVERSATIONS, json={}).get_json()["id"]
    body = {"model": "default", "input": "Hello", "conversation": conversation}
    path = "/api/v1/openai/responses"
    path = f"{path}/{api.post(path, json=body).get_json()['id']}"
    delete_both("clear_entry", path, path)
    assert api.delete(f"{CONVERSATIONS}/{conversation}").status_code == 200

    def count() -> int:
        with api.state.db.read() as db:
            return sum(abs(one.total_bytes) for one in stored.list_by_key(db).values())

    wait_for(lambda: count() == 0)

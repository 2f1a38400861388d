"""Runs tests of the API with PostgreSQL instead of SQLite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ..postgres import Postgres
from .test_files import *  # noqa: F403
from .test_guard_rails import *  # noqa: F403
from .test_history import *  # noqa: F403
from .test_idempotency import *  # noqa: F403
from .test_keys import *  # noqa: F403
from .test_last_turn import *  # noqa: F403
from .test_long_pages import *  # noqa: F403
from .test_media import *  # noqa: F403
from .test_openai_approvals import (  # noqa: F401
    test_a_call_is_asked_for_and_made_in_the_next_response,
    test_a_call_whose_time_is_over_is_not_made,
    test_a_conversation_has_the_question_and_the_answer_as_items,
    test_ids_that_are_wrong_or_of_another_key_are_not_found,
    test_nothing_is_left_of_a_response_that_was_deleted,
    test_several_calls_are_answered_at_once_and_a_turn_may_ask_again,
    test_what_was_decided_elsewhere_or_too_late_is_not_decided_again,
)
from .test_openai_responses import (  # noqa: F401
    client,
    test_a_conversation_is_a_session_that_responses_are_added_to,
    test_a_response_is_deleted_with_its_messages,
    test_a_thread_branches_and_each_branch_has_a_session,
    test_data_of_earlier_items_is_seen_and_stored_once_for_its_user,
    test_old_responses_are_forgotten_unless_they_are_of_a_conversation,
    test_what_is_stored_counts_to_the_quota_until_it_is_deleted,
)
from .test_response_modes import *  # noqa: F403
from .test_runs import *  # noqa: F403
from .test_session_routes import *  # noqa: F403
from .test_sessions import *  # noqa: F403
from .test_tools import *  # noqa: F403
from .test_uploads import (  # noqa: F401
    test_an_upload_is_taken_over_from_a_dead_worker_alone,
    test_only_one_request_completes_an_upload,
)
from .test_visitors import (  # noqa: F401
    shop,
    test_a_turn_that_still_runs_at_the_end_of_its_key_is_used,
    test_a_visitor_has_so_many_turns_in_a_day_whatever_keys_it_asks_for,
    test_the_owner_closes_a_chat_by_its_key_and_opens_it_again,
    test_what_a_key_did_not_use_counts_no_more_after_its_end,
)

# These inspect SQLite's file and query plans.
del test_no_name_leads_out_of_the_folder_or_to_a_500  # noqa: F821  # long, and of names alone
del test_the_secret_is_stored_nowhere  # noqa: F821
del test_a_key_is_checked_by_one_indexed_read  # noqa: F821
del test_a_page_of_messages_walks_the_index_alone  # noqa: F821
del test_looking_for_the_runs_of_the_dead_reads_no_run_that_has_ended  # noqa: F821
del test_a_page_walks_an_index_and_sorts_nothing_but_itself  # noqa: F821


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

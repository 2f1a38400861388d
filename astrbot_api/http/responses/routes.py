"""Routes of ``/openai/responses``."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import peewee
from flask import Response

from ...chat.watching.watch import Watch
from ...db import message_pages, messages, response_conversations, responses, runs
from ...db.responses import EntryRow
from ...db.runs import RunRow
from ...errors import ApiError
from ...runtime.threads import wait_turn
from ..auth import get_holder
from ..idempotency import CODES, PARAMETER
from ..openai.answering import answer_json, make_leave, raise_failure, wait_for_answer
from ..openai.files import discard_files, discard_files_if_rejected
from ..openai.parameters import Parameters
from ..openai.routes import blp
from ..schemas import event_stream
from ..sse import CONTENT_TYPE, find_abort, stream_response
from ..state import get_state
from .approvals import answers_approvals, continue_with_approvals
from .items import iter_input, page_of
from .parameters import read_parameters
from .rendering import ResponseFold
from .request_schemas import ItemPageSchema, OpenAIResponseRequestSchema, ResponseQuerySchema
from .schemas import (
    STREAM_EXAMPLE,
    OpenAIDeletedResponseSchema,
    OpenAIItemListSchema,
    OpenAIResponseSchema,
)
from .stored import (
    ACTIVE,
    describe_response,
    get_response,
    list_own_events,
    make_fold,
    make_unstored_head,
)
from .turns import read_turn

#: The blueprint of all OpenAI routes, including the routes of this module.
__all__ = ["blp"]


def _describe(description: str) -> dict[int, Any]:
    """Return the OpenAPI description of a response that may be a stream."""
    return event_stream(description, example=STREAM_EXAMPLE, whole=OpenAIResponseSchema())


@blp.post("/openai/responses", operation_id="createOpenAIResponse")
@blp.arguments(OpenAIResponseRequestSchema(), example={"model": "default", "input": "Hello"})
@blp.doc(
    parameters=[PARAMETER],
    responses=_describe("The response: one JSON object, or typed events."),
)
@blp.raises(
    "missing_field", "message_empty", "username_reserved", "model_not_found", "response_not_found",
    "conversation_not_found", "item_not_found", "attachment_not_found", "quota_exceeded",
    "too_many_turns", "too_many_streams", "server_busy", "shutting_down", "provider_error",
    "provider_rate_limited", "provider_refused", "context_length_exceeded", "run_interrupted",
    "turn_timeout",
    "approval_not_found", "approval_decided", "run_not_found", *CODES,
)  # fmt: skip
def create_response(body: dict[str, Any]) -> Response:
    """Create a response with OpenAI's Responses API.

    The config's tools run on the server and appear as `mcp_call` items. A call of one of the
    request's `tools` ends the turn; send its result as `function_call_output`. The response is
    stored in a session of the user, unless `store` is false. Continue it with
    `previous_response_id`. With a tool of the type `mcp`, a response may end with an
    `mcp_approval_request`; answer it with an `mcp_approval_response` in the next request. A
    disconnect stops a stream's turn, unless it runs in the `background`, or has an
    `Idempotency-Key`.
    """
    parameters = read_parameters(body)
    if answers_approvals(body):
        return _continue(body)
    with discard_files_if_rejected():
        turn, repeated = read_turn(body, parameters)
        watch = get_state().chat.service.open(turn, find_abort())
    try:
        if watch.joined:
            discard_files()
        head = None if turn.entry is not None else make_unstored_head(watch.run_id, repeated)
        fold = begin_fold(watch.run_id, head, parameters)
    except BaseException:
        watch.close()
        raise
    leave = make_leave(watch, kept=turn.kept)
    if body["stream"]:
        continues = body["background"] or turn.client_key is not None
        return _stream(watch, fold, leave, continues=continues)
    return _answer_whole(watch, fold, leave, background=body["background"], kept=turn.kept)


def begin_fold(run_id: str, head: dict[str, Any] | None, parameters: Parameters) -> ResponseFold:
    """Return the fold for a new response.

    :param head: Fields of the response object, or None if the response is stored.
    :raises ApiError: ``response_not_found`` if the stored response was deleted in the meantime.
    """
    entry_id = uuid.UUID(run_id).hex
    if head is not None:
        return ResponseFold(entry_id, run_id, head, lambda: None, parameters.check_text)
    with get_state().db.read() as db:
        entry = responses.find_entry(db, entry_id)
    if entry is None:
        raise ApiError("response_not_found", f"response not found: resp_{entry_id}")
    return make_fold(entry, parameters.check_text)


def _continue(body: dict[str, Any]) -> Response:
    """Respond with the rest of a run after a person's decisions."""
    entry, run = continue_with_approvals(body)
    fold = make_fold(entry)
    watch = get_state().chat.service.resume(run, 0, get_holder(), find_abort())
    assert watch is not None  # a watch after event 0 always has events
    if body["stream"]:
        return _stream(watch, fold, lambda: None, continues=body["background"])
    return _answer_whole(watch, fold, lambda: None, background=body["background"], kept=True)


def _stream(
    watch: Watch, fold: ResponseFold, leave: Callable[[], None], *, continues: bool
) -> Response:
    """Return the typed events of a response.

    :param continues: Whether the turn continues when the client disconnects. OpenAI's clients have
        no other way to stop it: they cancel only responses in the background. Source:
        https://developers.openai.com/api/docs/guides/background
    """
    active_runs = get_state().chat.runs

    def stop() -> None:
        if not continues:
            active_runs.stop([watch.run_id])

    return stream_response(watch, fold, leave, on_disconnect=stop)


def _answer_whole(
    watch: Watch, fold: ResponseFold, leave: Callable[[], None], *, background: bool, kept: bool
) -> Response:
    """Return a response as one object: at its end, or at once if it runs in the background."""
    fold.hide_events()
    if background:
        watch.close()
        return answer_json(fold.to_object())
    remedy = f"; it continues as resp_{fold.entry_id}" if kept else ""
    wait_for_answer(watch, fold.add, leave, remedy)
    answered = fold.to_object(ended=True)
    if answered["status"] != "in_progress":  # it waits for an approval
        raise_failure(fold.error, fold.find_fault)
    return answer_json(answered)


@blp.get("/openai/responses/<response_id>", operation_id="getOpenAIResponse")
@blp.arguments(ResponseQuerySchema(), location="query")
@blp.doc(
    responses=_describe("The current response, or its typed events."),
)
@blp.raises("response_not_found", "too_many_streams", "server_busy")
def retrieve_response(query: dict[str, Any], response_id: str) -> Response:
    """Return a response, or stream it from any of its events.

    Any worker can answer, also after a restart.
    """
    wait_turn()  # before a response of some MiB is read and converted
    entry = get_response(response_id)
    if not query["stream"]:
        return answer_json(describe_response(entry))
    after = query["starting_after"]
    fold = make_fold(entry, after=-1 if after is None else after)
    if entry.paused is not None:  # another response continues its run
        frames = fold.begin()
        fold.add_own_events(list_own_events(entry))
        return Response(frames + fold.finish(), content_type=CONTENT_TYPE)
    run = _get_run(entry)
    watch = get_state().chat.service.resume(run, 0, get_holder(), find_abort())
    assert watch is not None  # a watch after event 0 always has events
    return stream_response(watch, fold)


@blp.post("/openai/responses/<response_id>/cancel", operation_id="cancelOpenAIResponse")
@blp.answers(OpenAIResponseSchema())
@blp.raises("response_not_found")
def cancel_response(response_id: str) -> Response:
    """Stop a response that runs or waits in the queue, on any worker.

    The output so far is kept. A response that has ended is returned unchanged.
    """
    entry = get_response(response_id)
    if entry.paused is None:
        _stop(entry)
    return answer_json(describe_response(get_response(response_id)))


@blp.get("/openai/responses/<response_id>/input_items", operation_id="listOpenAIResponseInputItems")
@blp.arguments(ItemPageSchema(), location="query")
@blp.answers(OpenAIItemListSchema())
@blp.raises("response_not_found", "item_not_found")
def list_input_items(query: dict[str, Any], response_id: str) -> Response:
    """List the input items of a response, newest first.

    Files are represented by their attachment ids.
    """
    wait_turn()
    entry = get_response(response_id)
    found = list(iter_input(entry.entry_id, entry.input))
    if query["order"] == "desc":
        found.reverse()
    if query["after"]:
        ids = [item["id"] for item in found]
        if query["after"] not in ids:
            raise ApiError("item_not_found", f"item not found: {query['after'][:100]}")
        found = found[ids.index(query["after"]) + 1 :]
    page = found[: query["limit"]]
    return answer_json(page_of(page, has_more=len(found) > len(page)))


@blp.delete("/openai/responses/<response_id>", operation_id="deleteOpenAIResponse")
@blp.answers(OpenAIDeletedResponseSchema())
@blp.raises("response_not_found", "session_busy")
def delete_response(response_id: str) -> Response:
    """Delete a response with its input and its messages.

    A running response is stopped first. Responses that continue it are kept.
    """
    entry = get_response(response_id)
    if _stop(entry):
        raise ApiError("session_busy", "the response is still running; try again", retry_after_s=2)
    run = _get_run(entry)

    def job(db: peewee.Database) -> bool:
        responses.clear_entry(db, entry)
        for number in filter(None, (run.user_message, run.bot_message)):
            messages.delete_messages(db, [number])
        empty = not message_pages.count_messages(db, entry.session)
        return empty and not response_conversations.is_conversation(db, entry.session)

    state = get_state()
    if state.db.write(job):
        state.chat.remover.remove(entry.session_id, entry.creator)
    return answer_json({"id": f"resp_{entry.entry_id}", "object": "response", "deleted": True})


def _get_run(entry: EntryRow) -> RunRow:
    with get_state().db.read() as db:
        run = runs.find_run(db, entry.run_id or "")
    if run is None:
        raise ApiError("response_not_found", f"response not found: resp_{entry.entry_id}")
    return run


def _stop(entry: EntryRow) -> bool:
    """Stop a response and wait for its end. Return whether it still runs."""
    if entry.status not in ACTIVE:
        return False
    return not get_state().chat.service.stop([_get_run(entry).run_id])

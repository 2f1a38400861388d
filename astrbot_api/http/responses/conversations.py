"""``/openai/conversations``: sessions that collect responses and items."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import orjson
import peewee
from flask import Response

from ...chat.context.thread import read_items
from ...chat.turns.editing import find_earlier_media
from ...db import response_conversations, responses, sessions
from ...db.locks import lock_session
from ...db.response_conversations import ConversationRow
from ...errors import ApiError, refuse
from ...keys.files import check_attachments
from ...runtime.threads import let_others_run, wait_turn
from ..auth import get_caller
from ..openai.answering import answer_json
from ..state import get_state
from ..usernames import choose_username
from . import items
from .compaction import blp  # the blueprint of routes.py, with the routes of both modules
from .echo import read_metadata
from .items import page_of
from .reading import InputReader
from .request_schemas import (
    ItemPageSchema,
    OpenAIAddedItemsSchema,
    OpenAIConversationRequestSchema,
    OpenAINewConversationSchema,
)
from .schemas import (
    OpenAIConversationSchema,
    OpenAIDeletedConversationSchema,
    OpenAIItemListSchema,
    OpenAIItemSchema,
)
from .stored import describe_conversation, get_conversation, get_item, list_entry

#: The blueprint of all OpenAI routes, including the routes of this module.
__all__ = ["blp"]

#: Maximum number of items added by one request. Source: OpenAI's limit.
_MAX_ADDED = 20

#: Maximum number of entries read by one query, and the bytes after which the query stops.
_PAGE = 8
_MAX_READ_BYTES = 500_000

#: Maximum size of a page's items, in bytes. A page has at least one item.
_MAX_PAGE_BYTES = 4_000_000


@blp.post("/openai/conversations", operation_id="createOpenAIConversation")
@blp.arguments(
    OpenAINewConversationSchema(), required=False, example={"metadata": {"topic": "demo"}}
)
@blp.answers(OpenAIConversationSchema())
@blp.raises(
    "username_reserved", "item_not_found", "key_restricted", "quota_exceeded",
    "attachment_not_found",
)  # fmt: skip
def create_conversation(body: dict[str, Any]) -> Response:
    """Create a conversation: a new session of the user, optionally with items."""
    caller = get_caller()
    if caller.rules.session_id is not None:
        raise ApiError(
            "key_restricted",
            "the API key is bound to a session: its rule session_id does not allow a new one",
        )
    metadata, username = read_metadata(body), choose_username("openai", body["user"])
    added = _read_added(body["items"], username)
    session_id, state = uuid.uuid4().hex, get_state()

    def job(db: peewee.Database) -> None:
        session = sessions.create_session(db, session_id, username, key_id=caller.root_id)
        response_conversations.add_conversation(db, session.id, caller.root_id, metadata)
        if added:
            entry_id, text = uuid.uuid4().hex, orjson.dumps(added).decode()
            responses.add_items(db, session.id, caller.root_id, entry_id, text)
        state.keys.quotas.check_at_end(db, caller.root_id)

    state.db.write(job)
    return answer_json(describe_conversation(get_conversation(f"conv_{session_id}")))


@blp.get("/openai/conversations/<conversation_id>", operation_id="getOpenAIConversation")
@blp.answers(OpenAIConversationSchema())
@blp.raises("conversation_not_found")
def retrieve_conversation(conversation_id: str) -> Response:
    """Return a conversation."""
    return answer_json(describe_conversation(get_conversation(conversation_id)))


@blp.post("/openai/conversations/<conversation_id>", operation_id="updateOpenAIConversation")
@blp.arguments(
    OpenAIConversationRequestSchema(), required=False, example={"metadata": {"topic": "demo"}}
)
@blp.answers(OpenAIConversationSchema())
@blp.raises("conversation_not_found")
def update_conversation(body: dict[str, Any], conversation_id: str) -> Response:
    """Replace the metadata of a conversation."""
    row, metadata = get_conversation(conversation_id), read_metadata(body)
    get_state().db.write(lambda db: response_conversations.set_metadata(db, row, metadata))
    return answer_json(describe_conversation(get_conversation(conversation_id)))


@blp.delete("/openai/conversations/<conversation_id>", operation_id="deleteOpenAIConversation")
@blp.answers(OpenAIDeletedConversationSchema())
@blp.raises("conversation_not_found")
def delete_conversation(conversation_id: str) -> Response:
    """Delete a conversation with its session and all messages."""
    row = get_conversation(conversation_id)
    get_state().chat.remover.remove(row.session_id, row.creator)
    return answer_json({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


@blp.get(
    "/openai/conversations/<conversation_id>/items", operation_id="listOpenAIConversationItems"
)
@blp.arguments(ItemPageSchema(), location="query")
@blp.answers(OpenAIItemListSchema())
@blp.raises("conversation_not_found", "item_not_found")
def list_conversation_items(query: dict[str, Any], conversation_id: str) -> Response:
    """List the items of a conversation, newest first.

    A page may have fewer items than `limit` if the items are long.
    """
    wait_turn()  # before items of some MiB are read
    row = get_conversation(conversation_id)
    page: list[dict[str, Any]] = []
    has_more, size = False, 0
    for item in _iter_items(row, query["after"], newest_first=query["order"] == "desc"):
        size += len(orjson.dumps(item))
        if page and (len(page) == query["limit"] or size > _MAX_PAGE_BYTES):
            has_more = True
            break
        page.append(item)
    return answer_json(page_of(page, has_more=has_more))


@blp.post(
    "/openai/conversations/<conversation_id>/items", operation_id="createOpenAIConversationItems"
)
@blp.arguments(
    OpenAIAddedItemsSchema(), example={"items": [{"role": "user", "content": "My name is Ann."}]}
)
@blp.answers(OpenAIItemListSchema())
@blp.raises(
    "missing_field", "conversation_not_found", "item_not_found", "quota_exceeded",
    "attachment_not_found",
)  # fmt: skip
def create_conversation_items(body: dict[str, Any], conversation_id: str) -> Response:
    """Add items to a conversation without starting a turn."""
    row = get_conversation(conversation_id)
    added = _read_added(body["items"], row.creator)
    entry_id, text = uuid.uuid4().hex, orjson.dumps(added).decode()
    state = get_state()

    def job(db: peewee.Database) -> None:
        responses.add_items(db, row.session, row.key_id, entry_id, text)
        state.keys.quotas.check_at_end(db, row.key_id)

    state.db.write(job)
    return answer_json(page_of(list(items.iter_input(entry_id, added)), has_more=False))


@blp.get(
    "/openai/conversations/<conversation_id>/items/<item_id>",
    operation_id="getOpenAIConversationItem",
)
@blp.answers(OpenAIItemSchema())
@blp.raises("conversation_not_found", "item_not_found")
def retrieve_conversation_item(conversation_id: str, item_id: str) -> Response:
    """Return an item of a conversation."""
    wait_turn()
    return answer_json(get_item(item_id, get_conversation(conversation_id).session)[1])


@blp.delete(
    "/openai/conversations/<conversation_id>/items/<item_id>",
    operation_id="deleteOpenAIConversationItem",
)
@blp.answers(OpenAIConversationSchema())
@blp.raises("conversation_not_found", "item_not_found", "invalid_request")
def delete_conversation_item(conversation_id: str, item_id: str) -> Response:
    """Delete an item of a conversation, so that the model no longer sees it.

    The messages of the session stay unchanged.
    """
    row = get_conversation(conversation_id)
    entry, _ = get_item(item_id, row.session)
    if entry.paused is not None or entry.begins is not None:
        raise refuse(
            "items of a turn with an approval request cannot be deleted one by one; delete the "
            "conversation"
        )
    number = int(item_id[-4:], 16)

    def job(db: peewee.Database) -> None:
        lock_session(db, row.session)
        found = responses.find_entry(db, entry.entry_id)
        if found is None:
            return
        if number < items.OUTPUT_FROM:
            responses.remove_input(db, found, number)
        else:
            responses.remove_output(db, found, number - items.OUTPUT_FROM)

    get_state().db.write(job)
    return answer_json(describe_conversation(row))


def _read_added(given: Any, username: str) -> list[dict[str, Any]]:
    """Return added items in the stored form."""
    if given is None:
        return []
    if not isinstance(given, list) or len(given) > _MAX_ADDED:
        raise refuse(f"items must be a list of at most {_MAX_ADDED} items")
    added = InputReader(username).read_all(given, name="items")
    _check_files(added)
    return added


def _check_files(added: list[dict[str, Any]]) -> None:
    """Reject files that the key may not use, because later turns read them without a check.

    :raises ApiError: ``attachment_not_found``.
    """
    guard = get_caller().guard
    if guard is not None:
        with get_state().db.read() as db:
            check_attachments(db, guard, find_earlier_media(db, read_items(added)))


def _iter_items(
    row: ConversationRow, after: str, *, newest_first: bool
) -> Iterator[dict[str, Any]]:
    """Yield the items of a conversation that follow a given item.

    :param after: Id of the given item, or empty to start at the end of the conversation.
    """
    cursor = get_item(after, row.session)[0].id if after else None
    skipping, step = bool(after), -1 if newest_first else 1
    while True:
        with get_state().db.read() as db:
            page, has_more = responses.list_entries(
                db, row.session, cursor=cursor, newest_first=newest_first, limit=_PAGE,
                max_bytes=_MAX_READ_BYTES,
            )  # fmt: skip
        for entry in page:
            found = list_entry(entry)
            for item in reversed(found) if newest_first else found:
                if not skipping:
                    yield item
                elif item["id"] == after:
                    skipping = False
            skipping = False
        if not page or not has_more:
            return
        cursor = page[-1].id + step
        let_others_run()

"""``/chat/sessions``: list, create, read, rename and delete."""

from __future__ import annotations

import uuid
from typing import Any

import peewee
from flask import Response, request

from ...config.files import DEFAULT_CONFIG_ID
from ...db import runs
from ...db.message_pages import count_messages, find_page_cursor, list_page
from ...db.sessions import create_session, describe_session, get_owned_session, rename_session
from ...db.sessions import list_sessions as read_sessions
from ...errors import ApiError
from ...runtime.threads import wait_turn
from ..auth import get_caller, require_secret
from ..blueprint import ApiBlueprint
from ..envelope import ok
from ..schemas import SESSION_ID, envelope_of
from ..state import get_state
from ..usernames import check_username, resolve_owner, resolve_username
from .schemas import (
    BatchDeletedSchema,
    BatchDeleteSchema,
    DeletedSessionSchema,
    NamedSessionSchema,
    NewSessionQuerySchema,
    NewSessionSchema,
    OwnerQuerySchema,
    SessionDetailQuerySchema,
    SessionDetailSchema,
    SessionPageSchema,
    SessionPatchSchema,
    SessionQuerySchema,
)

#: Maximum number of sessions in a list without pages.
_MAX_LISTED = 1000

blp = ApiBlueprint(
    "sessions",
    __name__,
    tag="Sessions",
    scope="chat",
    description="Create and manage sessions.",
    path={"session_id": SESSION_ID},
)

#: Error codes of all routes that name a session.
OWNER_CODES = (
    "missing_field", "username_reserved", "session_not_found", "session_of_another_user",
)  # fmt: skip

_NEW_ANSWER = envelope_of("NewSessionAnswer", NamedSessionSchema())


@blp.get("/chat/sessions", operation_id="listChatSessions")
@blp.arguments(SessionQuerySchema(), location="query")
@blp.answers(envelope_of("SessionPageAnswer", SessionPageSchema()))
@blp.raises("missing_field", "username_reserved")
def list_sessions(query: dict[str, Any]) -> Response:
    """List the sessions of a username, newest first.

    The list has pages: request `page` 2, 3 and so on until you have `total` sessions. Sessions
    of messengers have a `platform_id` other than `webchat`. With `order_by=updated_at` the most
    recently used session comes first.
    """
    get_caller().rules.check_session("")  # rejects keys that are bound to one session
    check_username(query["username"])
    # The owner gets the whole list without pages, like in AstrBot.
    bare = get_caller().is_owner and not {"page", "page_size"} & request.args.keys()
    page, page_size = query["page"], _MAX_LISTED if bare else query["page_size"]
    with get_state().db.read() as db:
        sessions, total = read_sessions(
            db,
            query["username"],
            platform_id=query["platform_id"],
            order_by=query["order_by"],
            page=page,
            page_size=page_size,
        )
    if bare:
        return ok(sessions)
    return ok({"sessions": sessions, "page": page, "page_size": page_size, "total": total})


@blp.get("/chat/sessions/new", operation_id="createChatSession")
@blp.arguments(NewSessionQuerySchema(), location="query")
@blp.answers(_NEW_ANSWER)
@blp.raises("missing_field", "username_reserved")
def create_session_by_get(query: dict[str, Any]) -> Response:
    """Create a session, like POST, for clients of AstrBot.

    The `session_id` is a UUID. Calling this before a chat is optional: a chat creates its
    session automatically.
    """
    require_secret()
    return _create(resolve_username(query["username"]), "", None)


@blp.post("/chat/sessions/new", operation_id="postChatSession")
@blp.arguments(NewSessionQuerySchema(), location="query")
@blp.arguments(
    NewSessionSchema(), required=False, example={"username": "alice", "display_name": "Greetings"}
)
@blp.answers(_NEW_ANSWER)
@blp.raises("missing_field", "username_reserved", "config_not_found")
def create_session_by_post(query: dict[str, Any], body: dict[str, Any]) -> Response:
    """Create a session with an optional title and config.

    The `session_id` is a UUID. Calling this before a chat is optional: a chat creates its
    session automatically.
    """
    username = resolve_username(body["username"], query["username"])
    return _create(username, body["config_id"] or "", body["display_name"])


@blp.post("/chat/sessions/batch-delete", operation_id="batchDeleteChatSessions")
@blp.arguments(OwnerQuerySchema(), location="query")
@blp.arguments(
    BatchDeleteSchema(), example={"username": "alice", "session_ids": ["my_session_001"]}
)
@blp.answers(envelope_of("BatchDeletedAnswer", BatchDeletedSchema()))
@blp.raises("missing_field", "username_reserved")
def delete_sessions(query: dict[str, Any], body: dict[str, Any]) -> Response:
    """Delete several sessions of one username.

    Each session is deleted independently, like with DELETE. `failed_items` lists the sessions
    that could not be deleted. Here a `session_id` may contain any characters.
    """
    failed = []
    wanted = list(dict.fromkeys(body["session_ids"]))
    named = (body["username"], query["username"])
    if any(named) or not wanted:
        resolve_username(*named)
    for session_id in wanted:
        try:
            username = resolve_owner(session_id, *named)
            get_state().chat.remover.remove(session_id, username)
        except ApiError as error:
            failed.append({"session_id": session_id, "code": error.code, "reason": error.message})
    return ok(
        {
            "deleted_count": len(wanted) - len(failed),
            "failed_count": len(failed),
            "failed_items": failed,
        }
    )


@blp.get("/chat/sessions/<session_id>", operation_id="getChatSession")
@blp.arguments(SessionDetailQuerySchema(), location="query")
@blp.answers(envelope_of("SessionAnswer", SessionDetailSchema()))
@blp.raises(*OWNER_CODES)
def get_session(query: dict[str, Any], session_id: str) -> Response:
    """Return a session, its newest messages and its running turns.

    `history` contains the newest messages. To get older ones, use `next_cursor`, or `page` 2, 3
    and so on. A page of more than two million characters is shorter: use `next_cursor` for the
    rest. You can join the stream of any run in `active_runs`.
    """
    username = resolve_owner(session_id, query["username"])
    wait_turn()  # before messages of some MiB are read
    paged = query["page"] is not None or query["page_size"] is not None
    page = query["page"] or 1
    size = query["page_size" if paged else "history_limit"] or _MAX_LISTED
    with get_state().db.read() as db:
        session = get_owned_session(db, session_id, username)
        described = describe_session(db, session)
        active = runs.list_active_runs(db, session.id)
        total = count_messages(db, session.id)
        begin = find_page_cursor(db, session.id, (page - 1) * size if paged else 0)
        history, cursor = ([], None) if begin is None else list_page(
            db, session.id, cursor=begin, limit=size, newest_first=True,
            user_id=session.session_id,
        )  # fmt: skip
    return ok(
        {
            **described,
            "session": {key: described[key] for key in described.keys() - {"config_id"}},
            "history": history[::-1],
            "next_cursor": cursor,
            "total": total,
            "page": page,
            "page_size": size,
            "has_more": cursor is not None,
            "threads": [],
            "active_runs": [{**one, "session_id": session.session_id} for one in active],
            "is_running": bool(active),
        }
    )


@blp.patch("/chat/sessions/<session_id>", operation_id="updateChatSession")
@blp.arguments(OwnerQuerySchema(), location="query")
@blp.arguments(SessionPatchSchema(), example={"username": "alice", "display_name": "Greetings"})
@blp.answers(_NEW_ANSWER)
@blp.raises(*OWNER_CODES)
def rename(query: dict[str, Any], body: dict[str, Any], session_id: str) -> Response:
    """Rename a session.

    The server never changes a title that was set here.
    """
    username = resolve_owner(session_id, body["username"], query["username"])

    def job(db: peewee.Database) -> dict[str, Any]:
        session = get_owned_session(db, session_id, username)
        rename_session(db, session.id, body["display_name"] or None)
        return describe_session(db, session)

    return ok(get_state().db.write(job))


@blp.delete("/chat/sessions/<session_id>", operation_id="deleteChatSession")
@blp.arguments(OwnerQuerySchema(), location="query")
@blp.answers(envelope_of("DeletedSessionAnswer", DeletedSessionSchema()))
@blp.raises(*OWNER_CODES)
def delete_session(query: dict[str, Any], session_id: str) -> Response:
    """Delete a session and its messages.

    The session is deleted immediately and its turns are stopped. Attachments that no other
    message uses are deleted later. The id can be used for a new session.
    """
    get_state().chat.remover.remove(session_id, resolve_owner(session_id, query["username"]))
    return ok({"session_id": session_id})


def _create(username: str, config_id: str, display_name: str | None) -> Response:
    state = get_state()
    chosen = state.agents.configs.choose_config(config_id, "")
    config_id = DEFAULT_CONFIG_ID if chosen is None else chosen.id
    get_caller().rules.check_config(config_id)
    get_caller().rules.check_session("")  # a new session is another one
    kept = None if config_id == DEFAULT_CONFIG_ID else config_id
    key_id = get_caller().root_id

    def job(db: peewee.Database) -> dict[str, Any]:
        session = create_session(db, str(uuid.uuid4()), username, config_id=kept, key_id=key_id)
        if display_name:
            rename_session(db, session.id, display_name)
        state.keys.quotas.check_at_end(db, key_id)
        return describe_session(db, session)

    return ok(state.db.write(job))

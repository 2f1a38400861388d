"""``GET /chat/inbox``: stream the messages of all sessions of a user."""

from __future__ import annotations

from typing import Any

from flask import Response

from ..auth import get_caller, get_holder
from ..blueprint import ApiBlueprint
from ..fields import AFTER, Cursor, optional_username
from ..openapi.shapes import INBOX_EVENT
from ..schemas import RequestSchema, event_stream
from ..sse import find_abort, read_last_event_id, stream_response
from ..state import get_state
from ..usernames import resolve_username

blp = ApiBlueprint(
    "inbox",
    __name__,
    tag="Inbox",
    scope="chat",
    description="Messages of all sessions of a user in one stream.",
)

_EXAMPLE = (
    'data: {"type":"inbox_opened","data":{"after":41,"reset":false}}\nid: 41\n\n'
    'data: {"type":"message","session_id":"my_session_001","data":{"id":42,"sender_id":"bot",'
    '"sender_name":"bot","content":{"type":"bot","message":[{"type":"plain","text":"Your report '
    'is ready."}]},"llm_checkpoint_id":null,"created_at":"2026-11-23T16:41:51.860786+00:00"}}\n'
    "id: 42\n\n"
)


class InboxQuerySchema(RequestSchema):
    username = optional_username()
    after = Cursor(AFTER)


@blp.get("/chat/inbox", operation_id="openChatInbox")
@blp.arguments(InboxQuerySchema(), location="query")
@blp.doc(
    responses=event_stream("An endless stream of messages.", INBOX_EVENT, _EXAMPLE),
)
@blp.raises("missing_field", "username_reserved", "too_many_streams", "server_busy")
def open_inbox(query: dict[str, Any]) -> Response:
    """Stream every message of all sessions of a username when it is stored.

    The stream contains the user's messages, the agent's complete replies and pushed messages,
    from all workers. The first event is `inbox_opened`. Each `message` event has a `session_id`,
    and a `data` object like in the list of messages.

    To resume, send the `id:` of the last event as `Last-Event-ID` or as `after`. If more than
    20000 messages of all users were stored since then, `reset` in the first event is true: read
    the sessions instead. A message that is too long for a line has `truncated` and no content.
    If the stream ends with a `retry:` line, resume immediately.
    """
    username = resolve_username(query["username"])
    get_caller().rules.check_session("")  # rejects keys that are bound to one session
    numbers = (query["after"], read_last_event_id("a message"))
    after = max((number for number in numbers if number is not None), default=None)
    return stream_response(
        get_state().chat.inbox.open(username, get_holder(), after=after, abort=find_abort())
    )

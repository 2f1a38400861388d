"""Turns of protocols whose client keeps the conversation: code shared by AG-UI and the AI SDK.

Each request carries the whole conversation. The messages before the last one are the context of the
turn. The last message and its answer are stored in a session, so the turn can be resumed, stopped
and read like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Response

from ..agent.provider import ToolSpec
from ..chat.turns.turn import TurnRequest
from ..chat.watching.watch import Watch
from ..db import messages, runs, sessions
from ..db.approvals import ApprovalRow
from ..db.messages import MessageRow
from ..errors import ApiError, refuse
from ..messages import EMPTY_MESSAGE, Plain, Segment, plain_text
from .auth import get_caller, get_holder
from .chat.modes import RUN_HEADER
from .decisions import Answer, decide
from .idempotency import read_client_key
from .openai.answering import read_conversation
from .openai.files import discard_files, discard_files_if_rejected
from .openai.parameters import read_function, read_tools
from .sse import CONTENT_TYPE, Rendering, find_abort, stream_response
from .state import get_state
from .usernames import check_username, choose_username, get_bound_username

#: Finds the attachment id in a URL of this server.
_OUR_FILE = re.compile(
    r"(?:[?&]attachment_id=|/files/)([0-9A-Za-z-]{1,64})(?:/content)?(?:&.*)?\Z", re.DOTALL
)

#: Maximum length of a URL that is matched, in characters.
_MAX_URL_CHARS = 2000

#: Number of a session's newest messages among which the user's last one is searched. Messages that
#: were pushed into the session may follow it.
_NEWEST_MESSAGES = 20

#: Accepted names of the member that holds a tool's parameters, a JSON schema.
_SCHEMA_NAMES = ("parameters", "inputSchema")


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request of a client that keeps the conversation.

    :param protocol: Name of the protocol, used in generated usernames and keys.
    :param config: Id or name of a config. Empty for the session's config, or the default.
    :param messages: Messages in the format of OpenAI's chat completions.
    :param tools: The client's tools, in the format of the protocol.
    :param is_whole: Whether ``messages`` are the whole conversation. Otherwise the session's
        history is the context.
    :param regenerates: Whether the last message gets a new answer.
    :param may_wait: Whether the client can ask a person to approve a call.
    :param answers: Decisions of pending calls, which the last message follows.
    """

    protocol: str
    session_id: str
    username: str
    config: str
    messages: Sequence[Mapping[str, Any]]
    tools: Any = None
    is_whole: bool = True
    regenerates: bool = False
    may_wait: bool = False
    answers: Sequence[Answer] = ()


def has_new_message(asked: Conversation) -> bool:
    """Return whether a conversation ends with a user's message that its session does not have."""
    last = asked.messages[-1] if asked.messages else {}
    if last.get("role") != "user":
        return False
    newest = _find_newest(asked.session_id, choose_username(asked.protocol, asked.username))
    if newest is None:
        return False
    content = last.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    said = "".join(str(part.get("text") or "") for part in parts)
    # Several texts are stored as lines.
    return _squeeze(said) != _squeeze(plain_text(newest.content["message"]))


def _squeeze(text: str) -> str:
    return "".join(text.split())


@discard_files_if_rejected()
def open_conversation(asked: Conversation, body: dict[str, Any]) -> Watch:
    """Open the turn that a request asks for, or join it if it exists.

    :param body: The whole request, for its ``Idempotency-Key``.
    :raises ApiError: if the request is rejected. Nothing is stored then.
    """
    state, caller = get_state(), get_caller()
    rules = caller.rules
    username = choose_username(asked.protocol, asked.username)
    session_id = asked.session_id or rules.session_id or ""
    rules.check_session(session_id)
    config = find_config_id(asked.config)
    tools = read_tools(asked.tools, _read_tool)
    if not asked.messages:  # no message can be sent to a model
        raise ApiError("message_empty", EMPTY_MESSAGE)
    segments, context = read_conversation(list(asked.messages), username, is_context=asked.is_whole)
    client_key = read_client_key(asked.protocol, body)
    if asked.answers:
        _decide_known(asked.answers, asked.username)
    again = _find_last(session_id, username, segments) if asked.regenerates else None
    watch = state.chat.service.open(
        TurnRequest(
            username=username,
            segments=segments,
            session_id=session_id,
            shown_session_id=session_id,
            config_id=config,
            key_id=caller.key_id,
            guard=caller.guard,
            answers_again=again,
            context=context if asked.is_whole else None,
            caller_tools=tools,
            may_wait=asked.may_wait,
            # The turn that called the client's tools has stored the message.
            skip_user_history=bool(context.after),
            client_key=client_key,
            # The stop buttons of these protocols' clients only close the stream. The next message
            # shows that no one waits for its turn. One with a key may be a retry, which joins it.
            stops_left=client_key is None and not asked.answers,
        ),
        find_abort(),
    )
    if watch.joined:
        discard_files()
    return watch


def resume_conversation(session_id: str, username: str) -> Watch | None:
    """Watch the active turn of a session from its first event.

    :param username: Must own the session. Without it, the turn must belong to the caller's key.
    :returns: The watch, or None if no turn is active.
    :raises ApiError: ``session_of_another_user`` or ``key_restricted``.
    """
    state, caller = get_state(), get_caller()
    username = username or get_bound_username()
    if username:
        check_username(username)
    caller.rules.check_session(session_id)
    with state.db.read() as db:
        session = sessions.find_session(db, session_id)
        if session is None:
            return None
        if username:
            sessions.check_owner(session, username)
        found = runs.list_active_ids(db, session.id, None if username else caller.key_id)
        run = runs.find_run(db, found[-1]) if found else None
    if run is None:
        return None
    return state.chat.service.resume(run, 0, get_holder(), find_abort())


def stream_conversation(
    rendering: Rendering, watch: Watch | Sequence[ApprovalRow], run_id: str
) -> Response:
    """Return the stream of a turn, or only its first and last frames if the turn still waits.

    :param watch: From :func:`open_conversation` or :func:`continue_with_answers`.
    :param run_id: The id of the turn, or empty if it has ended.
    """
    if isinstance(watch, Watch):
        response = stream_response(watch, rendering)
    else:
        frames = rendering.begin() + rendering.finish()
        response = Response(frames, content_type=CONTENT_TYPE)
    if run_id:
        response.headers[RUN_HEADER] = run_id
    return response


def make_file_part(url: str, media_type: Any, name: Any) -> dict[str, Any]:
    """Return a file as a part in OpenAI's format. Its data is not decoded here.

    :param url: A ``data:`` URL, or the URL of a file on this server.
    """
    ours = _OUR_FILE.search(url) if len(url) <= _MAX_URL_CHARS else None
    if ours is not None and url[:5].lower() != "data:":
        return {"type": "file", "file": {"file_id": ours[1]}}
    named = {"filename": name} if isinstance(name, str) else {}
    if isinstance(media_type, str) and media_type.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url, **named}}
    return {"type": "file", "file": {"file_data": url, **named}}


def find_config_id(config: str) -> str:
    """Return the id of a config named by its id or its name, or an empty string for no name.

    :raises ApiError: ``config_not_found`` or ``config_ambiguous``.
    """
    if not config:
        return ""
    configs = get_state().agents.configs
    found = configs.find_config(config) or configs.choose_config("", config)
    return found.id if found else ""


def _decide_known(answers: Sequence[Answer], username: str) -> None:
    """Decide pending calls. Ignore them if their turn has ended: it waits for no answer."""
    try:
        decide(answers, username)
    except ApiError as error:
        if error.code != "approval_not_found":
            raise


def _find_last(session_id: str, username: str, segments: Sequence[Segment]) -> int | None:
    """Return the id of the session's last user message, whose turn is to be regenerated.

    None if the client changed the message, or if the session does not have it.
    """
    newest = _find_newest(session_id, username)
    said = "".join(one.text for one in segments if isinstance(one, Plain))
    if newest is None or plain_text(newest.content["message"]) != said:
        return None
    return newest.id


def _find_newest(session_id: str, username: str) -> MessageRow | None:
    """Return the user's message of a session's last turn, or None."""
    with get_state().db.read() as db:
        session = sessions.find_session(db, session_id)
        if session is None or session.creator != username:
            return None
        newest, _ = messages.list_messages_before(db, session.id, limit=_NEWEST_MESSAGES)
    return next((row for row in newest if row.content.get("type") == "user"), None)


def _read_tool(tool: Any, where: str) -> ToolSpec:
    if not isinstance(tool, dict):
        raise refuse(f"{where} must be an object")
    schema = next((tool[one] for one in _SCHEMA_NAMES if tool.get(one) is not None), None)
    return read_function({**tool, "parameters": schema, "strict": None}, where)

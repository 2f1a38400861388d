"""``/openai/responses/compact``: summaries of long conversations."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from flask import Response

from ...chat.context.compacted import pack
from ...errors import ApiError, refuse
from ..auth import get_caller
from ..openai.answering import answer_json, make_leave, raise_failure, wait_for_answer
from ..sse import find_abort
from ..state import get_state
from .items import is_of_user
from .parameters import read_parameters
from .request_schemas import OpenAICompactRequestSchema, OpenAIResponseRequestSchema
from .routes import begin_fold, blp
from .schemas import OpenAICompactedResponseSchema
from .stored import make_unstored_head
from .turns import read_turn

#: The blueprint of all OpenAI routes, including the route of this module.
__all__ = ["blp"]

_PROMPT = (
    "Summarize this conversation for yourself: you continue from the summary and do not see the "
    "conversation again. Keep the user's goals, decisions, facts, names, numbers, results of "
    "tools and open tasks. Write in the language of the conversation. Write only the summary."
)


@blp.post("/openai/responses/compact", operation_id="compactOpenAIResponse")
@blp.arguments(
    OpenAICompactRequestSchema(),
    example={"model": "default", "input": [{"role": "user", "content": "Hello"}]},
)
@blp.answers(OpenAICompactedResponseSchema())
@blp.raises(
    "missing_field", "username_reserved", "model_not_found", "response_not_found", "item_not_found",
    "attachment_not_found", "key_restricted", "too_many_turns", "too_many_streams", "server_busy",
    "shutting_down", "provider_error", "provider_rate_limited", "provider_refused",
    "context_length_exceeded", "run_interrupted", "turn_timeout",
)  # fmt: skip
def compact_response(body: dict[str, Any]) -> Response:
    """Compact a conversation into a summary by the model.

    Send `output` as the beginning of the next `input`. It has the user's messages of this `input`
    unchanged, and a summary of the whole conversation. The server does not store it.
    """
    if get_caller().rules.session_id is not None:
        raise ApiError(
            "key_restricted",
            "the API key is bound to a session: its rule session_id does not allow a turn that "
            "is not stored",
        )
    given = _read_given(body)
    answered = _answer(body, [*given, {"role": "user", "content": _PROMPT}])
    summary = "".join(
        part["text"]
        for item in answered["output"] if item["type"] == "message"
        for part in item["content"]
    )  # fmt: skip
    return answer_json(
        {
            "id": answered["id"],
            "object": "response.compaction",
            "created_at": answered["created_at"],
            "output": [
                *map(_show_message, filter(is_of_user, given)),
                {
                    "id": f"cmp_{uuid.uuid4().hex}", "type": "compaction",
                    "encrypted_content": pack(summary),
                },
            ],
            "usage": answered["usage"],
        }
    )  # fmt: skip


def _answer(body: dict[str, Any], given: list[Any]) -> dict[str, Any]:
    """Run an unstored turn with this input, and return its response object."""
    options = {key: value for key, value in body.items() if value or key == "model"}
    whole = OpenAIResponseRequestSchema().load({**options, "input": given, "store": False})
    parameters = read_parameters(whole)
    turn, repeated = read_turn(whole, parameters)
    # The model only writes a summary, so it must not call the config's tools.
    turn = replace(turn, model_fields={**turn.model_fields, "tool_choice": "none"})
    watch = get_state().chat.service.open(turn, find_abort())
    fold = begin_fold(watch.run_id, make_unstored_head(watch.run_id, repeated), parameters)
    fold.hide_events()
    wait_for_answer(watch, fold.add, make_leave(watch, kept=turn.kept))
    answered = fold.to_object(ended=True)
    raise_failure(fold.error, fold.find_fault)
    return answered


def _read_given(body: dict[str, Any]) -> list[Any]:
    """Return the items to compact, as they were sent.

    :raises ApiError: ``invalid_request``.
    """
    given = body["input"]
    if given is None:
        given = []
    elif isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list):
        raise refuse("input must be a string or a list of items")
    if not given and not body["previous_response_id"]:
        raise refuse("the conversation to compact is empty; send input or previous_response_id")
    return given


def _show_message(item: dict[str, Any]) -> dict[str, Any]:
    """Return a user's message in a form that the next input accepts."""
    content = item["content"]
    if isinstance(content, str):
        content = [{"type": "input_text", "text": content}]
    return {
        "id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "user",
        "status": "completed", "content": content,
    }  # fmt: skip

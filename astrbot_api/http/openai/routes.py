"""Routes of ``/openai/models`` and ``/openai/chat/completions``."""

from __future__ import annotations

from typing import Any

from flask import Response

from ...chat.turns.turn import TurnRequest
from ...config.agents import AgentConfig
from ...errors import refuse
from ..auth import get_caller
from ..blueprint import ApiBlueprint
from ..configs.routes import list_own_configs
from ..schemas import event_stream
from ..sse import find_abort, stream_response
from ..state import get_state
from ..usernames import choose_username
from .answering import (
    answer_json,
    find_config,
    make_leave,
    raise_failure,
    read_conversation,
    wait_for_answer,
)
from .files import discard_files_if_rejected
from .parameters import Parameters, read_parameters
from .rendering import Completion
from .schemas import (
    CompletionRequestSchema,
    CompletionSchema,
    ModelListSchema,
    ModelSchema,
    OpenAIErrorSchema,
)

blp = ApiBlueprint(
    "openai",
    __name__,
    tag="OpenAI",
    scope="chat",
    description=(
        "The server's agents for clients of OpenAI's API, with the base URL `…/api/v1/openai`."
    ),
    error_schema=OpenAIErrorSchema(),
    path={
        "model": ("Id of the config.", "default"),
        "response_id": ("The `id` of the response.", "resp_7254cd9a814f498ea2022c1777b1bd2d"),
        "conversation_id": (
            "The `id` of the conversation.",
            "conv_7254cd9a814f498ea2022c1777b1bd2d",
        ),
        "item_id": ("The `id` of the item.", "msg_7254cd9a814f498ea2022c1777b1bd2d8000"),
    },
)

_COMPLETION = event_stream(
    "The completion: one JSON object, or chunks that end with `[DONE]`.",
    example=(
        'data: {"id":"chatcmpl-7254cd9a","object":"chat.completion.chunk","created":1795452257,'
        '"model":"default","choices":[{"index":0,"delta":{"content":"Hello"},'
        '"finish_reason":null}]}\n\ndata: [DONE]\n\n'
    ),
    whole=CompletionSchema(),
)


@blp.get("/openai/models", operation_id="listOpenAIModels")
@blp.answers(ModelListSchema())
def list_models() -> Response:
    """List the configs as models.

    A model here is an agent: a language model with a prompt and tools.
    """
    models = [_describe_model(one) for one in list_own_configs()]
    return answer_json({"object": "list", "data": models})


@blp.get("/openai/models/<model>", operation_id="getOpenAIModel")
@blp.answers(ModelSchema())
@blp.raises("model_not_found")
def get_model(model: str) -> Response:
    """Return a config as a model.

    The response has no data beyond the id.
    """
    config = find_config(model)
    get_caller().rules.check_config(config.id)
    return answer_json(_describe_model(config))


@blp.post("/openai/chat/completions", operation_id="createOpenAIChatCompletion")
@blp.arguments(
    CompletionRequestSchema(),
    example={"model": "default", "messages": [{"role": "user", "content": "Hello"}]},
)
@blp.doc(responses=_COMPLETION)
@blp.raises(
    "missing_field", "message_empty", "username_reserved", "model_not_found",
    "session_of_another_user", "quota_exceeded", "too_many_turns", "too_many_streams",
    "server_busy", "shutting_down", "provider_error", "provider_rate_limited",
    "provider_refused", "context_length_exceeded", "run_interrupted", "turn_timeout",
)  # fmt: skip
def create_completion(body: dict[str, Any], **_path: str) -> Response:
    """Create a chat completion with OpenAI's API.

    The config's tools run on the server, and their calls are not shown. A call of one of the
    request's `tools` ends the turn; send its result in the next request. The request carries the
    whole conversation, and the turn is not stored. A disconnect stops the turn. With `store` or
    `session_id` the turn is stored, and continues after a disconnect.
    """
    parameters = read_parameters(body)
    with discard_files_if_rejected():
        turn = _read_turn(body, parameters)
        watch = get_state().chat.service.open(turn, find_abort())
    completion = Completion(
        watch.run_id,
        body["model"],
        watch.session_id if turn.kept else "",
        include_usage=(body["stream_options"] or {}).get("include_usage") is True,
        check_text=parameters.check_text,
    )
    leave = make_leave(watch, kept=turn.kept)
    if body["stream"]:
        return stream_response(
            watch, completion, leave, lambda: raise_failure(completion.find_early_error(), str)
        )
    wait_for_answer(watch, completion.fold.add, leave, "; set stream to true")
    raise_failure(completion.fold.error, completion.find_fault)
    return answer_json(completion.to_object())


def _read_turn(body: dict[str, Any], parameters: Parameters) -> TurnRequest:
    """Return the turn of a request.

    :raises ApiError: if the request is rejected before the turn is opened.
    """
    caller, rules = get_caller(), get_caller().rules
    username = choose_username("openai", body["user"])
    config = find_config(body["model"])
    session_id = body["session_id"] or _read_session_id(body["metadata"]) or rules.session_id or ""
    segments, context = read_conversation(body["messages"], username, is_context=not session_id)
    if session_id and context.after:
        raise refuse(
            "messages must end with the user's message if session_id is sent: the session has its "
            "own history"
        )
    kept = bool(session_id or body["store"])
    return TurnRequest(
        username=username,
        segments=segments,
        session_id=session_id,
        config_id=config.id,
        key_id=caller.key_id,
        guard=caller.guard,
        context=None if session_id else context,
        caller_tools=parameters.tools,
        model_fields=parameters.fields,
        skip_user_history=not kept,
        kept=kept,
    )


def _describe_model(config: AgentConfig) -> dict[str, Any]:
    return {
        "id": config.id, "object": "model", "created": 0, "owned_by": "astrbot-api",
        # Mistral's client accepts no model without these two.
        "type": "base", "capabilities": {"completion_chat": True, "function_calling": True},
    }  # fmt: skip


def _read_session_id(metadata: dict[str, Any] | None) -> str:
    value = (metadata or {}).get("session_id") or ""
    if not isinstance(value, str) or len(value) > get_state().settings.max_session_id_chars:
        raise refuse("metadata.session_id must be a string, and no longer than a session id may be")
    return value.strip()

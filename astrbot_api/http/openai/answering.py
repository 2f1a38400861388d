"""Shared code of the OpenAI routes: config lookup, waiting for the end of a turn, and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from flask import Response

from ...chat.context.supplied import SuppliedContext
from ...chat.watching.watch import Watch
from ...config.agents import AgentConfig
from ...errors import ApiError
from ...events import Event
from ...messages import Segment
from ..chat.modes import describe_failure, wait_for_end
from ..state import get_state
from .files import SentFiles
from .reading import read_messages

#: OpenAI's SDKs retry a request on any 5xx status, which would repeat the turn and its tools. The
#: server has already retried the model call if that was safe. Source: ``_should_retry`` of
#: openai-python.
_DO_NOT_RETRY = {"X-Should-Retry": "false"}


def find_config(model: str) -> AgentConfig:
    """Return the config for a request's ``model``, which is the config's id or name.

    :raises ApiError: ``model_not_found`` or ``missing_field``.
    """
    configs = get_state().agents.configs
    try:
        found = configs.find_config(model) or configs.choose_config("", model)
    except ApiError as error:
        raise ApiError(
            "model_not_found", f"model not found: {model[:100]}; see /openai/models"
        ) from error
    if found is None:
        raise ApiError("missing_field", "Missing key: model")
    return found


def read_conversation(
    given: Any, username: str, *, is_context: bool
) -> tuple[list[Segment], SuppliedContext]:
    """Return the message to answer, and the messages around it.

    Its files are stored as attachments of the caller.

    :param given: Messages in the format of OpenAI's chat completions.
    :param is_context: Whether the earlier messages are the context of the turn.
    :raises ApiError: the errors of :func:`~.reading.read_messages`, or of storing a file.
    """
    settings, files = get_state().settings, SentFiles(username)
    return read_messages(
        given,
        files.store,
        max_chars=settings.max_message_chars,
        max_segments=settings.max_segments,
        store_earlier=files.store_once if is_context else None,
    )


def make_leave(watch: Watch, *, kept: bool) -> Callable[[], None]:
    """Return a function to call when the client disconnects or has the whole answer.

    It stops an unstored turn and deletes its session.
    """
    chat = get_state().chat

    def leave() -> None:
        if not kept:
            if not watch.ended:
                chat.runs.stop([watch.run_id])
            chat.remover.empty(watch.session)

    return leave


def wait_for_answer(
    watch: Watch, add: Callable[[Event], None], leave: Callable[[], None], remedy: str = ""
) -> None:
    """Wait as :func:`wait_for_end`, with the headers that control the retries of OpenAI's SDKs.

    :param leave: Called at the end, on a timeout, and if the client disconnects.
    """
    try:
        wait_for_end(watch, add, remedy)
    except ApiError as error:
        error.headers.update(_DO_NOT_RETRY)
        raise
    finally:
        leave()


def raise_failure(error: Event | None, find_fault: Callable[[], str]) -> None:
    """Raise the error of a failed turn, if it failed.

    :param find_fault: Returns the fault in the answer's format, or an empty string.
    :raises ApiError: with the status and headers that control the retries of OpenAI's SDKs.
    """
    if error is not None:
        failure = describe_failure(error, {})
        if failure.code in ("provider_error", "internal_error"):
            failure.headers.update(_DO_NOT_RETRY)
        raise failure
    fault = find_fault()
    if fault:
        raise ApiError("provider_error", fault, headers=_DO_NOT_RETRY)


def answer_json(value: Any, status: int = 200) -> Response:
    """Return a JSON response without this API's envelope, as other protocols expect."""
    return Response(orjson.dumps(value), status, mimetype="application/json")

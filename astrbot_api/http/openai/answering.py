"""What every protocol of OpenAI's does alike: the config, the wait for the end, the failure."""

from __future__ import annotations

import time
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
from ..auth import get_caller
from ..chat.modes import describe_failure, iter_batches
from ..state import get_state
from .reading import read_messages

#: OpenAI's SDKs repeat a request on any 5xx, and with it the turn and its tools. What can be
#: repeated, the server has repeated itself. Source: ``_should_retry`` of openai-python.
_DO_NOT_RETRY = {"X-Should-Retry": "false"}


def find_config(model: str) -> AgentConfig:
    """Return the config that a request calls a model, by its id or its name.

    :raises ApiError: ``model_not_found`` or ``missing_field``.
    """
    configs = get_state().agents.configs
    try:
        found = configs.find_config(model) or configs.choose_config("", model)
    except ApiError as error:
        raise ApiError(
            "model_not_found", f"model not found: {model}; see /openai/models"
        ) from error
    if found is None:
        raise ApiError("missing_field", "Missing key: model")
    return found


def read_conversation(given: Any) -> tuple[list[Segment], SuppliedContext]:
    """Return the message that is to be answered, and what was said before.

    Its files become attachments of the caller's.

    :param given: Messages, as OpenAI's chat completions have them.
    :raises ApiError: as :func:`~.reading.read_messages`, or why a file cannot be stored.
    """
    state, caller = get_state(), get_caller()

    def store_file(data: bytes, name: str) -> str:
        row = state.files.store_bytes(data, name, caller.root_id, caller.rules.username)
        return row.attachment_id

    return read_messages(
        given,
        store_file,
        max_chars=state.settings.max_message_chars,
        max_segments=state.settings.max_segments,
    )


def leave_unkept(watch: Watch, *, kept: bool) -> Callable[[], None]:
    """Return what is done when a client is gone, or has all of its answer.

    The session of a turn that is not kept goes with it.
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
    """Add every event of a turn, to its end.

    :param leave: Called at the end, and when there is none in time.
    :param remedy: How the error for a turn that takes too long ends.
    :raises ApiError: ``turn_timeout`` or ``shutting_down``.
    """
    settings = get_state().settings
    until = time.monotonic() + settings.max_blocking_s
    try:
        for batch in iter_batches(watch, settings.heartbeat_s):
            for event in batch:
                add(event)
            if time.monotonic() > until and not watch.ended:
                late = f"the turn takes longer than {settings.max_blocking_s:g} s{remedy}"
                raise ApiError("turn_timeout", late)
    except ApiError as error:
        error.headers.update(_DO_NOT_RETRY)
        raise
    finally:
        leave()


def raise_failure(error: Event | None, find_fault: Callable[[], str]) -> None:
    """Raise what made a turn fail; nothing where it did not.

    :param error: Its ``error`` event.
    :param find_fault: Returns what is wrong with the form of its answer.
    :raises ApiError: with the status and headers by which the SDKs decide to send it again.
    """
    if error is not None:
        failure = describe_failure(error, {})
        if failure.code in ("provider_error", "internal_error"):
            failure.headers.update(_DO_NOT_RETRY)
        raise failure
    fault = find_fault()
    if fault:
        raise ApiError("provider_error", fault, headers=_DO_NOT_RETRY)


def answer_json(value: dict[str, Any]) -> Response:
    """Return an answer without the envelope, as OpenAI's clients read it."""
    return Response(orjson.dumps(value), mimetype="application/json")

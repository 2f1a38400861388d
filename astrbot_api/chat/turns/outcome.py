"""Outcomes of runs: of completed, stopped and failed turns, and of those another worker ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...agent.abandonable import CallTimedOut, TooManyAbandoned
from ...db.messages import MessageRow
from ...db.runs import RunRow
from ...errors import (
    EVENT_CODES,
    ApiError,
    AstrBotError,
    OutcomeUnknown,
    ProviderError,
    StorageError,
)

log = logging.getLogger(__name__)

LOST = "This worker's lease expired, and another worker took over the turn."


class RunLost(AstrBotError):
    """Raised if the run ended or another worker took it over after this worker's lease expired."""


class CommandFailed(Exception):
    """Raised when a command fails unexpectedly. The message is the command's name."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a run. A failed run always has a message, marked as an error.

    :param status: ``completed``, ``stopped``, ``failed`` or ``interrupted``.
    :param code: Error code of a failure or interruption, empty otherwise.
    :param reason: A code with more detail than ``code``, or empty.
    :param retry_after_s: Seconds to wait, as requested by the model's endpoint.
    :param content: The bot's message without its error, or None if there is nothing to store.
    :param direct: Whether the server wrote the message itself, without the model.
    :param title: Name for an unnamed session, or empty.
    :param steps: The model's steps, stored with the message; see ``MessageRow.steps``.
    """

    status: str
    code: str = ""
    message: str = ""
    content: Mapping[str, Any] | None = None
    direct: bool = False
    title: str = ""
    reason: str = ""
    retry_after_s: float | None = None
    steps: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of_failure(
        cls, error: Exception, run_id: str, content: Mapping[str, Any] | None
    ) -> Outcome:
        """Return the outcome of a turn that an exception ended, and log an unexpected one."""
        code, reason, retry_after_s = "internal_error", "", None
        if isinstance(error, ProviderError):
            code, message = error.code, error.message
            reason, retry_after_s = error.reason, error.retry_after_s
        elif isinstance(error, StorageError):
            code, message = "storage_error", describe_lost_reply(error)
        elif isinstance(error, ApiError):
            code, message = error.code, error.message
        elif isinstance(error, (CallTimedOut, TooManyAbandoned)):
            message = str(error)
        elif isinstance(error, CommandFailed):
            log.error("command /%s failed in run %s", error, run_id, exc_info=error)
            message = f"The command /{error} failed; the server's log has the details."
        else:
            log.error("run %s failed", run_id, exc_info=error)
            message = f"The server failed; its log has the details under run {run_id}."
        message = message or EVENT_CODES.get(code, code)  # an own agent may have given none
        return cls("failed", code, message, content, reason=reason, retry_after_s=retry_after_s)

    def to_content(self) -> dict[str, Any] | None:
        """Return the message to store, or None if there is none."""
        if not self.code:
            return None if self.content is None else dict(self.content)
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.reason:
            error["reason"] = self.reason
        if self.retry_after_s:
            error["retry_after_s"] = self.retry_after_s
        return {**(self.content or {"type": "bot", "message": []}), "error": error}

    def fail(self, status: str, code: str, message: str) -> Outcome:
        """Return the outcome to use if this one cannot be stored."""
        content = self.content and {**self.content, **({"message": []} if self.direct else {})}
        return Outcome(status, code, message, content, title=self.title)


def read_outcome(run: RunRow, reply: MessageRow | None) -> tuple[Outcome, tuple[int, int] | None]:
    """Return the stored outcome of an ended run, and its reply's number and time."""
    outcome = Outcome(run.status, content=None if reply is None else reply.content)
    failure = reply.content.get("error") if reply else None
    if failure is not None:
        known = ("code", "message", "reason", "retry_after_s")
        outcome = replace(outcome, **{key: failure[key] for key in known if key in failure})
    elif reply is None and run.error_code:
        message = EVENT_CODES.get(run.error_code, run.error_code)
        outcome = replace(outcome, code=run.error_code, message=message)
    return outcome, None if reply is None else (reply.id, reply.created_at)


def describe_lost_reply(error: StorageError) -> str:
    """Return the error message for a turn whose reply could not be stored.

    The database's own message says that nothing was stored. That would be wrong here, since the
    user's message was stored.
    """
    return str(error) if isinstance(error, OutcomeUnknown) else EVENT_CODES["storage_error"]

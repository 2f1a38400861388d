"""Types of arguments and results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Union

#: A text, or a list of the API's message segments.
Message = Union[str, "list[dict[str, Any]]"]

#: Called with the transferred bytes and the total, or None if the total is unknown.
Progress = Callable[[int, Optional[int]], None]


@dataclass
class Reply:
    """The agent's reply so far."""

    session_id: str = ""
    run_id: str = ""
    text: str = ""
    reasoning: str = ""
    #: Number of the stored reply.
    message_id: int | None = None
    #: Number of the stored question.
    user_message_id: int | None = None
    #: ``{"id", "name", "arguments", "result"}`` of each call.
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    #: ``{"attachment_id", "type", "filename"}`` of each file.
    attachments: list[dict[str, Any]] = field(default_factory=list)
    stats: dict[str, Any] | None = None
    #: ``{"id", "name", "arguments"}`` of each pending tool call.
    waiting: list[dict[str, Any]] = field(default_factory=list)
    #: ``(code, message)`` if the turn failed.
    error: tuple[str, str] | None = None

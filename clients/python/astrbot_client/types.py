"""What the methods take and return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Union

#: A text, or segments as the API has them.
Message = Union[str, "list[dict[str, Any]]"]

#: Called with the bytes done and the bytes in all; the second is None where it is unknown.
Progress = Callable[[int, Optional[int]], None]


@dataclass
class Reply:
    """The agent's answer, as far as it has arrived."""

    session_id: str = ""
    run_id: str = ""
    text: str = ""
    reasoning: str = ""
    #: Number of the stored answer.
    message_id: int | None = None
    #: Number of the stored question.
    user_message_id: int | None = None
    #: ``{"id", "name", "arguments", "result"}`` of each call.
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    #: ``{"attachment_id", "type", "filename"}`` of each file.
    attachments: list[dict[str, Any]] = field(default_factory=list)
    stats: dict[str, Any] | None = None
    #: ``{"id", "name", "arguments"}`` of each call that waits for a person.
    waiting: list[dict[str, Any]] = field(default_factory=list)
    #: ``(code, message)`` where the turn failed.
    error: tuple[str, str] | None = None

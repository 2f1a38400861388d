"""Unified message origins: ``platform_id:message_type:session_id``."""

from __future__ import annotations

from dataclasses import dataclass

from ..db.sessions import WEBCHAT
from ..errors import ApiError, refuse
from ..messages import check_text
from .adapter import MESSAGE_TYPES, MessageType

MAX_UMO_CHARS = 1024


@dataclass(frozen=True, slots=True)
class Umo:
    """The address of a conversation.

    :param platform_id: ``webchat``, or a bot's id.
    :param session_id: The platform's name of the conversation. It may contain colons.
    """

    platform_id: str
    message_type: MessageType
    session_id: str

    def __str__(self) -> str:
        return f"{self.platform_id}:{self.message_type}:{self.session_id}"


def parse_umo(text: str) -> Umo:
    """Split a UMO at its first two colons.

    :raises ApiError: ``invalid_request``.
    """
    check_text("umo", text)
    if len(text) > MAX_UMO_CHARS:
        raise _invalid(f"it has {len(text)} characters; at most {MAX_UMO_CHARS} are allowed")
    parts = text.split(":", 2)
    if len(parts) < 3:
        raise _invalid("expected platform_id:message_type:session_id")
    platform_id, kind, session_id = (part.strip() for part in parts)
    if kind not in MESSAGE_TYPES:
        raise _invalid(f"'{kind}' is not a valid MessageType")
    if not platform_id or not session_id:
        missing = "session_id" if platform_id else "platform_id"
        raise _invalid(f"{missing} is empty")
    return Umo(platform_id, kind, session_id)


def split_webchat(session_id: str) -> tuple[str, str]:
    """Split the third part of a web chat's UMO into username and session.

    ``webchat!USER!SESSION`` contains both. The session starts after the last ``!``. Any other
    value is only a session, and the username is empty.

    :raises ApiError: ``invalid_request``.
    """
    if not session_id.startswith(f"{WEBCHAT}!"):
        return "", session_id
    username, _, session = session_id.removeprefix(f"{WEBCHAT}!").rpartition("!")
    username, session = username.strip(), session.strip()
    if not username or not session:
        raise _invalid("expected webchat!USERNAME!SESSION_ID after the second colon")
    return username, session


def _invalid(what: str) -> ApiError:
    return refuse(f"Invalid umo: {what}")

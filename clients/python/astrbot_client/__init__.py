"""A client of the AstrBot HTTP API.

``Client`` and ``AsyncClient`` have the same methods. Both send each turn once, resume interrupted
streams, and respect ``Retry-After``.
"""

from ._async_client import AsyncChatStream, AsyncClient
from ._sync_client import ChatStream, Client
from .errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    ClientError,
    ConflictError,
    ConnectionLost,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    StreamLost,
    TurnFailed,
    UnsupportedError,
)
from .events import (
    AgentStats,
    ApprovalRequired,
    AttachmentSaved,
    Complete,
    End,
    Event,
    InboxMessage,
    InboxOpened,
    Media,
    MessageSaved,
    ReasoningDelta,
    Rewind,
    RunSnapshot,
    RunStarted,
    SessionStarted,
    TextDelta,
    ToolCall,
    ToolResult,
    TurnError,
    UnknownEvent,
    UserMessageSaved,
)
from .types import Reply

__version__ = "0.1.0"

__all__ = [
    "AgentStats",
    "ApiError",
    "ApprovalRequired",
    "AsyncChatStream",
    "AsyncClient",
    "AttachmentSaved",
    "AuthenticationError",
    "BadRequestError",
    "ChatStream",
    "Client",
    "ClientError",
    "Complete",
    "ConflictError",
    "ConnectionLost",
    "End",
    "Event",
    "InboxMessage",
    "InboxOpened",
    "Media",
    "MessageSaved",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitedError",
    "ReasoningDelta",
    "Reply",
    "Rewind",
    "RunSnapshot",
    "RunStarted",
    "ServerError",
    "SessionStarted",
    "StreamLost",
    "TextDelta",
    "ToolCall",
    "ToolResult",
    "TurnError",
    "TurnFailed",
    "UnknownEvent",
    "UnsupportedError",
    "UserMessageSaved",
]

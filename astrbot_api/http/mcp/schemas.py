"""What the document says of MCP: its own schemas are in the protocol's specification."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ..fields import asked
from ..schemas import RequestSchema, member, object_with

_EXAMPLE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "chat", "arguments": {"message": "Hello"}},
}

_MESSAGE = object_with(
    ("jsonrpc", "method"),
    {
        "jsonrpc": {"type": "string", "enum": ["2.0"], "description": "Always `2.0`."},
        "id": member(
            ["string", "integer"],
            "The client's name of the request. A notification has none.",
            1,
            maxLength=255,
        ),
        "method": member(
            "string", "Such as `tools/call`, `tools/list`, `resources/read`.", "tools/call"
        ),
        "params": member(["object", "null"], "What the method needs.", _EXAMPLE["params"]),
    },
)

DOCUMENTED_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [_MESSAGE, {"type": "array", "items": {}, "minItems": 1, "maxItems": 20}],
                "description": "A message of JSON-RPC; in version 2025-03-26 also up to 20.",
            },
            "example": _EXAMPLE,
        }
    },
}

_ANSWER = object_with(
    ("jsonrpc", "id"),
    {
        "jsonrpc": member("string", "Always `2.0`.", "2.0"),
        "id": member(["string", "integer", "null"], "That of the request.", 1),
        "result": member("object", "The answer.", {}),
        "error": member(
            "object",
            "`code` and `message`, in place of `result`.",
            {"code": -32601, "message": "Method not found: x"},
        ),
    },
)

DOCUMENTED_RESPONSES: dict[int, Any] = {
    200: {
        "description": "The answer; of `tools/call` an event stream where that is accepted.",
        "content": {
            "application/json": {
                "schema": {"anyOf": [_ANSWER, {"type": "array", "items": _ANSWER}]},
                "example": {
                    "jsonrpc": "2.0",
                    "id": 1,
                    "result": {"content": [{"type": "text", "text": "Hello!"}]},
                },
            },
            "text/event-stream": {
                "schema": {"description": "Server-sent events."},
                "example": (
                    'data: {"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text",'
                    '"text":"Hello!"}]}}\n\n'
                ),
            },
        },
    },
    202: {"description": "A notification, or an answer of the client's."},
    400: {
        "description": "What was sent is no message, or one of another version.",
        "content": {
            "application/json": {
                "schema": _ANSWER,
                "example": {
                    "jsonrpc": "2.0",
                    "id": None,
                    "error": {"code": -32600, "message": "method must be a string"},
                },
            }
        },
    },
}


_USERNAME = "Whose sessions they are. Absent: the key's, or `mcp:` and the beginning of the key."

#: The query, beside the headers of a route: its schema would take their place.
DOCUMENTED_QUERY: dict[str, Any] = {
    "in": "query",
    "name": "username",
    "schema": {"type": "string", "maxLength": 255},
    "description": _USERNAME,
    "example": "alice",
}


class McpQuerySchema(RequestSchema):
    """Who asks."""

    # Checked by the view, whose errors are the protocol's.
    username = asked(ma.fields.String, _USERNAME, "alice", load_default="")

"""What the document says of MCP: its own schemas are in the protocol's specification."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

_EXAMPLE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "chat", "arguments": {"message": "Hello"}},
}

_MESSAGE: dict[str, Any] = {
    "type": "object",
    "required": ["jsonrpc", "method"],
    "properties": {
        "jsonrpc": {"type": "string", "enum": ["2.0"], "description": "Always `2.0`."},
        "id": {
            "type": ["string", "integer"],
            "maxLength": 255,
            "description": "The client's name of the request. A notification has none.",
            "example": 1,
        },
        "method": {
            "type": "string",
            "description": "Such as `tools/call`, `tools/list`, `resources/read`.",
            "example": "tools/call",
        },
        "params": {
            "type": ["object", "null"],
            "description": "What the method needs.",
            "example": {"name": "chat", "arguments": {"message": "Hello"}},
        },
    },
}

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

_ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["jsonrpc", "id"],
    "properties": {
        "jsonrpc": {"type": "string", "description": "Always `2.0`.", "example": "2.0"},
        "id": {
            "type": ["string", "integer", "null"],
            "description": "That of the request.",
            "example": 1,
        },
        "result": {"type": "object", "description": "The answer.", "example": {}},
        "error": {
            "type": "object",
            "description": "`code` and `message`, in place of `result`.",
            "example": {"code": -32601, "message": "Method not found: x"},
        },
    },
}

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


class McpQuerySchema(ma.Schema):
    """Who asks."""

    class Meta:
        unknown = ma.EXCLUDE

    # Checked by the view, whose errors are the protocol's.
    username = ma.fields.String(
        load_default="", metadata={"description": _USERNAME, "example": "alice"}
    )

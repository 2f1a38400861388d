"""OpenAPI descriptions of the MCP route. The protocol's specification has the full schemas."""

from __future__ import annotations

from typing import Any

from ..schemas import member, object_schema

_EXAMPLE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "chat", "arguments": {"message": "Hello"}},
}

_MESSAGE = object_schema(
    ("jsonrpc", "method"),
    {
        "jsonrpc": {"type": "string", "enum": ["2.0"], "description": "Always `2.0`."},
        "id": member(
            ["string", "integer"],
            "The client's id of the request. A notification has none.",
            1,
            maxLength=255,
        ),
        "method": member(
            "string",
            "The method, for example `tools/call`, `tools/list` or `resources/read`.",
            "tools/call",
        ),
        "params": member(["object", "null"], "Parameters of the method.", _EXAMPLE["params"]),
    },
)

DOCUMENTED_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [_MESSAGE, {"type": "array", "items": {}, "minItems": 1, "maxItems": 20}],
                "description": "A JSON-RPC message. In version 2025-03-26 also a list of up to 20.",
            },
            "example": _EXAMPLE,
        }
    },
}

_ANSWER = object_schema(
    ("jsonrpc", "id"),
    {
        "jsonrpc": member("string", "Always `2.0`.", "2.0"),
        "id": member(["string", "integer", "null"], "Id of the request.", 1),
        "result": member("object", "Result of the method.", {}),
        "error": member(
            "object",
            "The error, with `code` and `message`, instead of `result`.",
            {"code": -32601, "message": "Method not found: x"},
        ),
    },
)

DOCUMENTED_RESPONSES: dict[int, Any] = {
    200: {
        "description": "The response. For `tools/call` an event stream, if the client accepts one.",
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
    202: {"description": "The message was a notification or a response of the client."},
    400: {
        "description": "The message is invalid, or its protocol version is not supported.",
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


#: The query parameter. The view validates it, because its errors are errors of the protocol.
DOCUMENTED_QUERY: dict[str, Any] = {
    "in": "query",
    "name": "username",
    "schema": {"type": "string", "maxLength": 255},
    "description": (
        "The username of the sessions. By default the key's username, or `mcp:` and the beginning "
        "of the key."
    ),
    "example": "alice",
}

"""JSON-RPC messages of MCP: parsing, validation and responses.

Source: https://modelcontextprotocol.io/specification, the versions of :data:`VERSIONS`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...runtime.version import find_version

#: Versions that start with ``initialize``, oldest first.
HANDSHAKE_VERSIONS = ("2025-03-26", "2025-06-18", "2025-11-25")

#: The version without a handshake: each request carries its version and capabilities.
_STATELESS_VERSION = "2026-07-28"

VERSIONS = (*HANDSHAKE_VERSIONS, _STATELESS_VERSION)

#: The only version with batches, and the default of a request without a version.
BATCH_VERSION = "2025-03-26"

MAX_BATCH = 20

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
RESOURCE_NOT_FOUND = -32002
REFUSED = -32000  # for the server to define
HEADER_MISMATCH = -32020
UNSUPPORTED_VERSION = -32022

#: HTTP status of an error code in the stateless version. Other versions use 200.
_STATUSES = {
    INVALID_REQUEST: 400, INVALID_PARAMS: 400, HEADER_MISMATCH: 400, METHOD_NOT_FOUND: 404,
    UNSUPPORTED_VERSION: 400,
}  # fmt: skip

#: Prefix of the keys in ``_meta`` of the stateless version.
_META = "io.modelcontextprotocol/"

#: Method -> parameter that the header ``Mcp-Name`` repeats.
_NAMED_BY = {"tools/call": "name", "resources/read": "uri"}

#: Maximum length of an id and of a progress token, in characters. Each response repeats them.
_MAX_ID_CHARS = 255

_ENCODED = re.compile(r"=\?base64\?(.*)\?=")


class RpcError(Exception):
    """An error response to a request.

    :param status: HTTP status, if it differs from the error code's status.
    """

    def __init__(self, code: int, message: str, data: Any = None, status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
        self.status = status


@dataclass(frozen=True, slots=True)
class Call:
    """A request. ``call_id`` is None for a notification, which gets no response."""

    method: str
    params: Mapping[str, Any]
    call_id: str | int | None
    version: str

    @property
    def is_stateless(self) -> bool:
        """Whether the request has the version without a handshake."""
        return self.version == _STATELESS_VERSION

    @property
    def progress_token(self) -> str | int | None:
        """Token for progress notifications, or None if the client wants none."""
        meta = self.params.get("_meta")
        token = meta.get("progressToken") if isinstance(meta, dict) else None
        return token if is_id(token) else None

    def answer(self, result: Mapping[str, Any], *, listed: bool = False) -> dict[str, Any]:
        """Return the response.

        :param listed: Whether the stateless version requires cache fields in the result.
        """
        shown = dict(result)
        if self.is_stateless:
            shown |= {"resultType": "complete", "_meta": {_META + "serverInfo": describe_server()}}
            if listed:
                shown |= {"ttlMs": 0, "cacheScope": "private"}
        return {"jsonrpc": "2.0", "id": self.call_id, "result": shown}


def read_call(value: Any, version: str) -> Call | None:
    """Return the request in a message, or None if the message is a response of the client.

    :raises RpcError: for an invalid message.
    """
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        raise _wrong('a message must be an object with "jsonrpc": "2.0"')
    method = value.get("method")
    if method is None and ("result" in value or "error" in value):
        return None
    if not isinstance(method, str):
        raise _wrong("method must be a string")
    call_id, params = value.get("id"), value.get("params")
    if "id" in value and not is_id(call_id):
        raise _wrong(f"id must be an integer or a string of at most {_MAX_ID_CHARS} characters")
    if not isinstance(params, dict | None):
        raise _wrong("params must be an object", INVALID_PARAMS)
    return Call(method, params or {}, call_id, version)


def _wrong(message: str, code: int = INVALID_REQUEST) -> RpcError:
    return RpcError(code, message, status=400)


def find_id(value: Any) -> str | int | None:
    """Return the id of a possibly invalid message, for the error response."""
    call_id = value.get("id") if isinstance(value, dict) else None
    return call_id if is_id(call_id) else None


def check_stateless(call: Call, find_header: Callable[[str], str | None]) -> None:
    """Validate ``_meta`` and the headers of a request of the stateless version.

    :raises RpcError: if a value is missing, or a header differs from the body.
    """
    meta = call.params.get("_meta")
    for name in ("protocolVersion", "clientCapabilities"):
        if not isinstance(meta, dict) or meta.get(_META + name) is None:
            raise RpcError(INVALID_PARAMS, f"params._meta must have {_META}{name}")
    if meta[_META + "protocolVersion"] != call.version:  # type: ignore[index]
        raise RpcError(HEADER_MISMATCH, "MCP-Protocol-Version must be the version in params._meta")
    if find_header("Mcp-Method") != call.method:
        raise RpcError(HEADER_MISMATCH, "Mcp-Method must be the method of the body")
    parameter = _NAMED_BY.get(call.method)
    named = call.params.get(parameter) if parameter else None
    if named is not None and _decode(find_header("Mcp-Name") or "") != named:
        raise RpcError(HEADER_MISMATCH, f"Mcp-Name must be the {parameter} of the body")


def describe_server() -> dict[str, str]:
    """Return the name and the version of this server."""
    return {"name": "astrbot-api", "title": "AstrBot", "version": find_version()}


def describe_error(error: RpcError, call_id: str | int | None) -> dict[str, Any]:
    described = {"code": error.code, "message": error.message}
    if error.data is not None:
        described["data"] = error.data
    return {"jsonrpc": "2.0", "id": call_id, "error": described}


def find_status(error: RpcError, version: str) -> int:
    if error.status:
        return error.status
    return _STATUSES.get(error.code, 200) if version == _STATELESS_VERSION else 200


def is_id(value: Any) -> bool:
    """Return whether a value is a valid id of a request."""
    if isinstance(value, str):
        return len(value) <= _MAX_ID_CHARS
    return isinstance(value, int) and not isinstance(value, bool)


def _decode(value: str) -> str | None:
    """Return a header's value, decoded if it is base64, or None for invalid base64."""
    encoded = _ENCODED.fullmatch(value)
    if encoded is None:
        return value
    try:
        return base64.b64decode(encoded[1], validate=True).decode()
    except ValueError:
        return None

"""Errors as clients of OpenAI's API read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Request

from ..errors import ApiError

#: What OpenAI's paths begin with, below ``/api/v1``.
OPENAI_RULE = "/openai/"

#: What the paths have that these errors are for.
OPENAI_PATH = f"/api/v1{OPENAI_RULE}"

#: What the endpoints begin with that have such a path, or an alias of it.
_ENDPOINTS = "astrbot_api.openai."


def list_aliases(base: str, at_root: bool) -> Iterator[str]:
    """Yield what OpenAI's paths may begin with besides.

    :param base: What stands before :data:`OPENAI_RULE`.
    :param at_root: Whether they are at the root of the host, too.
    """
    yield f"{base}{OPENAI_RULE}v1/"  # some clients add it to whatever they are given
    if at_root:
        yield "/v1/"


def speaks_openai(request: Request) -> bool:
    """Return whether the client of a request reads OpenAI's errors."""
    return OPENAI_PATH in request.path or (request.endpoint or "").startswith(_ENDPOINTS)


#: HTTP status -> ``type``; the rest of 4xx is ``invalid_request_error``.
#: Source: the error types of https://platform.openai.com/docs/guides/error-codes
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def describe_error(error: ApiError) -> dict[str, Any]:
    """Return ``{"message","type","param","code"}``."""
    return describe_failure(error.code, error.message, error.status)


def describe_failure(code: str, message: str, status: int) -> dict[str, Any]:
    """Return the same for a turn that failed after its stream had begun."""
    other = "server_error" if status >= 500 else "invalid_request_error"
    return {
        "message": message.encode("utf-8", "replace").decode(),
        "type": _TYPES.get(status, other),
        "param": None,
        "code": code,
    }

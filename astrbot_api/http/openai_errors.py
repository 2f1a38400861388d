"""Errors as clients of OpenAI's API read them."""

from __future__ import annotations

from typing import Any

from ..errors import ApiError

#: What the paths have that these errors are for.
OPENAI_PATH = "/api/v1/openai/"

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

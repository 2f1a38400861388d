"""Errors in the format of the OpenAI API."""

from __future__ import annotations

from typing import Any

from flask import Request

#: Prefix of the OpenAI routes below ``/api/v1``.
OPENAI_RULE = "/openai/"

#: Paths that contain this get OpenAI's error format.
_OPENAI_PATH = f"/api/v1{OPENAI_RULE}"

#: Prefix of the endpoint names of the OpenAI routes and their aliases.
_ENDPOINTS = "astrbot_api.openai."

#: Name of the fallback for all other paths below ``/v1``, if the OpenAI routes exist there.
ROOT_FALLBACK = "astrbot_api_fallback_openai"


def expects_openai_errors(request: Request) -> bool:
    """Return whether a request expects OpenAI's error format."""
    endpoint = request.endpoint or ""
    return _OPENAI_PATH in request.path or endpoint.startswith((_ENDPOINTS, ROOT_FALLBACK))


#: HTTP status -> ``type``. Other 4xx statuses are ``invalid_request_error``.
#: Source: the error types of https://platform.openai.com/docs/guides/error-codes
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def describe_error(code: str, message: str, status: int) -> dict[str, Any]:
    """Return ``{"message","type","param","code"}``."""
    other = "server_error" if status >= 500 else "invalid_request_error"
    return {
        "message": message.encode("utf-8", "replace").decode(),
        "type": _TYPES.get(status, other),
        "param": None,
        "code": code,
    }

"""JSON bodies of requests: their size, encoding and depth are limited."""

from __future__ import annotations

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from typing import Any

import orjson
from flask import Request

from ..errors import ApiError, refuse
from ..runtime.bounded_json import JsonDepthError, JsonLimitError, load_json
from .request_body import MESSAGE_REMEDY, read_body
from .state import get_state

#: Maximum size of a JSON body without a message, in bytes.
SMALL_JSON_BYTES = 256 * 1024

#: Accepted charset names. ASCII is a subset of UTF-8.
_UTF8_NAMES = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


def read_json_object(
    req: Request,
    *,
    carries_message: bool = False,
    max_bytes: int = SMALL_JSON_BYTES,
    keep: bool = False,
) -> dict[str, Any]:
    """Return the JSON object of the body, or an empty one if there is no body.

    :param carries_message: Whether the body may be as large as a message.
    :param max_bytes: Maximum size of a body without a message.
    :param keep: Whether the view reads the body again.
    :raises ApiError: like :func:`read_json`, or ``invalid_request``.
    """
    limit = get_state().settings.max_json_bytes
    if carries_message:
        value = read_json(req, limit, keep=keep, remedy=MESSAGE_REMEDY)
    else:
        value = read_json(req, min(max_bytes, limit), keep=keep)
    # The recorded server treats null and false as an empty object.
    if value is None or value is False:
        return {}
    if not isinstance(value, dict):
        raise refuse("the request body must be a JSON object")
    return value


def read_json(req: Request, max_bytes: int, *, keep: bool = False, remedy: str = "") -> Any:
    """Return the parsed JSON body, or None if there is no body.

    :param keep: Whether the view reads the body again.
    :param remedy: Advice appended to the error for a body that is too large.
    :raises ApiError: ``body_too_large``, ``unsupported_media_type``,
        ``malformed_json`` or ``invalid_request``.
    """
    body = read_body(req, max_bytes, keep=keep, remedy=remedy)
    if not body.removeprefix(BOM_UTF8).strip():
        return None
    if req.mimetype != "application/json" and not req.mimetype.endswith("+json"):
        raise ApiError("unsupported_media_type", "Content-Type must be application/json")
    check_coding(req)
    _check_charset(req, body)
    try:
        return load_json(body)
    except (JsonDepthError, orjson.JSONDecodeError) as error:
        raise ApiError("malformed_json", _explain(body, error)) from error
    except JsonLimitError as error:
        raise refuse(f"the request body is refused: {error}") from error


def _explain(body: bytes, error: ValueError) -> str:
    """Return why a body could not be parsed."""
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        # Consoles of Windows send the code page of their language.
        return f"the request body is not UTF-8: byte {wrong.start} is invalid; send UTF-8"
    return f"the request body is not valid JSON: {error}"


def check_coding(req: Request) -> None:
    """Reject compressed bodies.

    :raises ApiError: ``unsupported_media_type``, which names the encoding.
    """
    coding = req.headers.get("Content-Encoding", "").strip()
    if coding and coding.lower() != "identity":
        raise ApiError(
            "unsupported_media_type",
            f"Content-Encoding {coding[:100]} is not supported; send the body uncompressed",
        )


def _check_charset(req: Request, body: bytes) -> None:
    """Reject JSON that is not UTF-8 according to its header or its first bytes.

    :raises ApiError: ``unsupported_media_type``, which names the charset.
    """
    if body.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise ApiError("unsupported_media_type", "the body is UTF-16 or UTF-32; send UTF-8")
    charset = req.mimetype_params.get("charset", "").strip().strip("'\"")
    if charset and charset.lower() not in _UTF8_NAMES:
        raise ApiError(
            "unsupported_media_type",
            f"charset {charset[:100]} in Content-Type is not supported; send UTF-8",
        )

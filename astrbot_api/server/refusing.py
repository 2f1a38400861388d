"""Responses to requests that gunicorn rejects before the application, in the API's format."""

from __future__ import annotations

import socket
import uuid

import orjson

#: Status -> what the caller can do.
_REMEDIES = {
    414: "Shorten the URL, or send the parameters in the body.",
    431: "Send fewer or shorter headers.",
    501: "Transfer-Encoding can only be chunked.",
}


def use_json_errors() -> None:
    """Make gunicorn send its own errors in JSON. It would send HTML."""
    from gunicorn import util

    util.write_error = _write_error


def _write_error(sock: socket.socket, status: int, reason: str, text: str) -> None:
    """Send an error response. The connection is closed afterwards.

    :param reason: Reason phrase of the status line.
    :param text: What is wrong with the request.
    """
    from gunicorn.util import write_nonblock

    request_id = uuid.uuid4().hex[:24]
    if status == 501:  # gunicorn's reason phrase is that of 400
        reason = "Not Implemented"
    message = f"The request is not valid HTTP: {text}" if status == 400 else f"{reason}: {text}"
    if status == 500:
        message = f"{reason}. Try again later."
    body = orjson.dumps(
        {
            "status": "error",
            "message": " ".join(filter(None, (message, _REMEDIES.get(status)))),
            "data": None,
            "code": "internal_error" if status == 500 else "invalid_request",
            "request_id": request_id,
        }
    )
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nX-Request-ID: {request_id}\r\n\r\n"
    )
    write_nonblock(sock, head.encode("latin-1") + body)

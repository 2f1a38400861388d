"""A small client of the API, for the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..errors import AstrBotError
from ..providers.sse import SSEParser
from ..runtime.outbound import Outbound, OutboundError

_MAX_REFUSAL_BYTES = 65536


class ClientError(AstrBotError):
    """The server refused, failed or could not be reached."""


def ask(base_url: str, secret: str, body: dict[str, Any]) -> Iterator[str]:
    """Send a chat message and yield the pieces of the answer's text.

    :param base_url: ``http://127.0.0.1:6185``; the path is added.
    :param secret: The API key.
    :param body: The JSON body of ``POST /api/v1/chat``.
    :raises ClientError: with the server's own words.
    """
    outbound, parser = Outbound(), SSEParser()
    try:
        answer = outbound.send(
            "POST", base_url.rstrip("/") + "/api/v1/chat", body=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
            connect_timeout_s=10, read_timeout_s=120,
        )  # fmt: skip
        if answer.status != 200:
            raise ClientError(_refusal(answer.status, answer.read_all(_MAX_REFUSAL_BYTES)[0]))
        while data := answer.read(65536):
            for event in parser.feed(data):
                yield from _text_of(json.loads(event))
    except OutboundError as error:
        raise ClientError(f"{base_url} {error.words}") from error
    finally:
        outbound.close()


def _text_of(event: dict[str, Any]) -> Iterator[str]:
    if event["type"] == "error":
        raise ClientError(event["data"])
    if event["type"] == "plain" and event["chain_type"] is None:
        yield event["data"]


def _refusal(status: int, body: bytes) -> str:
    try:
        return f"{json.loads(body)['message']} (HTTP {status})"
    except (ValueError, KeyError, TypeError):
        return f"the server answered HTTP {status}"

"""A small client of the API, for the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import urllib3

from ..errors import AstrBotError


class ClientError(AstrBotError):
    """The server refused, failed or could not be reached."""


def ask(base_url: str, secret: str, body: dict[str, Any]) -> Iterator[str]:
    """Send a chat message and yield the pieces of the answer's text.

    :param base_url: ``http://127.0.0.1:6185``; the path is added.
    :param secret: The API key.
    :param body: The JSON body of ``POST /api/v1/chat``.
    :raises ClientError: with the server's own words.
    """
    http = urllib3.PoolManager(timeout=urllib3.Timeout(connect=10, read=120), retries=False)
    try:
        response = http.request(
            "POST",
            base_url.rstrip("/") + "/api/v1/chat",
            json=body,
            headers={"Authorization": f"Bearer {secret}"},
            preload_content=False,
        )
        if response.status != 200:
            raise ClientError(_refusal(response.status, response.data))
        for line in response:
            if line.startswith(b"data: "):
                yield from _text_of(json.loads(line[6:]))
    except urllib3.exceptions.HTTPError as error:
        raise ClientError(f"{base_url} cannot be reached: {type(error).__name__}") from error


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

"""Texts about servers for the log and for the model, without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

#: Minimum length of a secret to redact. Shorter values such as "true" occur in normal text.
_SHORTEST_SECRET = 6


def redact(text: str, definition: Mapping[str, Any]) -> str:
    """Remove the values of variables and headers, OAuth secrets and the URL's query.

    :param definition: The server that the text is about.
    """
    secrets = [*definition.get("env", {}).values()]
    secrets += definition.get("headers", {}).values()
    secrets += [one.removeprefix("Bearer ") for one in secrets]
    secrets.append(definition.get("oauth", {}).get("client_secret", ""))
    secrets.append(urlsplit(definition.get("url", "")).query)
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


def describe(error: BaseException) -> str:
    """Return one line about an error, or about the first error of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

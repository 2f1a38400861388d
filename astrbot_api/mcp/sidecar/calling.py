"""Execution of one worker request by an MCP server: progress, errors and their texts."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ..wire import MAX_FIELD_CHARS
from .content import to_parts, to_prompt_parts, to_resource_parts

#: Minimum time between two progress reports of a call, in seconds.
_PROGRESS_PAUSE_S = 0.25

#: ``progress``, ``total`` and ``message`` of a call.
Progress = Mapping[str, Any]

#: Whether the tool reported an error, and the parts of its result.
Parts = tuple[bool, list[dict[str, Any]]]

#: Error for the model when a server asks for input during a call.
UNSUPPORTED = (
    "the MCP server asks for input in the middle of a call (elicitation, sampling or roots), "
    "which is not possible here; give all it needs in the arguments, or ask the user yourself"
)


#: Requests of a server to its client that this client does not support.
QUESTIONS = ("elicitation/create", "sampling/createMessage", "roots/list")

#: Error code of a server that requires a capability that this client lacks.
#: Source: Model Context Protocol 2026-07-28, MissingRequiredClientCapability.
_MISSING_CAPABILITY = -32021


#: Beginnings of the SDK's error texts for a lost connection. Their code does not suffice: servers
#: use it for errors of any kind.
_ENDED = ("Connection closed", "SSE stream ended")


class CallFailed(Exception):
    """Raised when a call has no result. The text is for the model."""


class SessionLost(CallFailed):
    """Raised when the server rejects a call because it does not know the session."""


def find_unsupported(error: Any) -> str:
    """Return the unsupported request that made a call fail, or an empty string.

    :param error: The SDK's ``MCPError``.
    """
    if error.code == _MISSING_CAPABILITY:
        return "a capability of clients"
    return next((one for one in QUESTIONS if one in error.message), "")


def ends_session(error: Any) -> bool:
    """Return whether an error means that the server's session has ended.

    :param error: The SDK's ``MCPError``.
    """
    return bool(error.message.startswith(_ENDED))


async def make_call(
    client: Any, request: Mapping[str, Any], report: Callable[[Progress], Awaitable[None]]
) -> Parts:
    """Send a worker's request to the server and return the parts of its result."""
    if "uri" in request:
        return False, to_resource_parts(await client.read_resource(request["uri"]))
    if "prompt" in request:
        prompt = await client.get_prompt(request["prompt"], request["arguments"])
        return False, to_prompt_parts(prompt)
    result = await client.call_tool(
        request["tool"], request["arguments"], progress_callback=_pace(report)
    )
    return bool(result.is_error), to_parts(result)


def _pace(
    report: Callable[[Progress], Awaitable[None]],
) -> Callable[[float, float | None, str | None], Awaitable[None]]:
    """Return a progress callback that drops NaN, and reports in quick succession."""
    soonest = 0.0

    async def take(progress: float, total: float | None, message: str | None) -> None:
        nonlocal soonest
        now = time.monotonic()
        if now >= soonest and math.isfinite(progress):
            soonest = now + _PROGRESS_PAUSE_S
            cut = message[:MAX_FIELD_CHARS] if message else None
            await report({"progress": progress, "total": total, "message": cut})

    return take


#: Minimum length of a secret to redact. Shorter values such as "true" occur in normal text, and
#: shorter names such as "streamable" in the path of a URL.
_SHORTEST_SECRET = 6
_SHORTEST_IN_PATH = 16


def redact(text: str, definition: Mapping[str, Any]) -> str:
    """Remove the values of variables and headers, OAuth secrets and the secrets of the URL.

    :param definition: The server that the text is about.
    """
    secrets = [*definition.get("env", {}).values()]
    secrets += definition.get("headers", {}).values()
    secrets += [one.removeprefix("Bearer ") for one in secrets]
    secrets.append(definition.get("oauth", {}).get("client_secret", ""))
    url = urlsplit(definition.get("url", ""))
    secrets += [url.query, url.password or ""]
    secrets += [one for one in url.path.split("/") if len(one) >= _SHORTEST_IN_PATH]
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


def label_server(definition: Mapping[str, Any]) -> str:
    """Return a server's name for the log, with the first three of its configs."""
    configs = definition.get("configs", ())
    more = ", …" if len(configs) > 3 else ""
    shown = f" ({', '.join(configs[:3])}{more})" if configs else ""
    return f"{definition['name']}{shown}"


def find_cause(error: BaseException) -> BaseException:
    """Return the first error of a group, or an error that is no group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def describe(error: BaseException) -> str:
    """Return one line about an error, or about the first error of a group."""
    error = find_cause(error)
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

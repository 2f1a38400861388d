"""One request of a worker to a server, and its progress."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..wire import MAX_FIELD_CHARS
from .content import to_parts, to_prompt_parts, to_resource_parts

#: Shortest time between two reports of a call's progress, in seconds.
_PROGRESS_PAUSE_S = 0.25

#: ``progress``, ``total`` and ``message`` of a call.
Progress = Mapping[str, Any]

#: Whether the tool says that it failed, and the parts of its result.
Parts = tuple[bool, list[dict[str, Any]]]

#: What a model learns of a call that asked the user something in the middle.
NO_QUESTIONS = (
    "the MCP server asks for input in the middle of a call (elicitation, sampling or roots), "
    "which is not possible here; give all it needs in the arguments, or ask the user yourself"
)


#: What a server may ask of a client, and this one does not do.
QUESTIONS = ("elicitation/create", "sampling/createMessage", "roots/list")

#: The error of a server that needs a client to do what this one does not.
#: Source: Model Context Protocol 2026-07-28, MissingRequiredClientCapability.
_MISSING_CAPABILITY = -32021


class CallFailed(Exception):
    """A call has no result; the text says why, to a model."""


def find_question(error: Any) -> str:
    """Return which question of the server a call failed for; empty: for none.

    :param error: The SDK's ``MCPError``.
    """
    if error.code == _MISSING_CAPABILITY:
        return "a capability of clients"
    return next((one for one in QUESTIONS if one in error.message), "")


async def make_call(
    client: Any, request: Mapping[str, Any], report: Callable[[Progress], Awaitable[None]]
) -> Parts:
    """Carry out a worker's request."""
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
    """Return what passes progress on, and leaves out what comes too soon after another."""
    soonest = 0.0

    async def take(progress: float, total: float | None, message: str | None) -> None:
        nonlocal soonest
        now = time.monotonic()
        if now >= soonest:
            soonest = now + _PROGRESS_PAUSE_S
            cut = message[:MAX_FIELD_CHARS] if message else None
            await report({"progress": progress, "total": total, "message": cut})

    return take

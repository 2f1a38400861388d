"""Lists of a server's tools, resources and prompts, with pagination."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from mcp import MCPError

from ..wire import MAX_FIELD_CHARS, MAX_LISTED
from .content import describe_tool, keep_small

log = logging.getLogger(__name__)

#: Maximum number of pages of a list.
_MAX_PAGES = 100

#: Takes a cursor and returns a page.
_Fetch = Callable[..., Awaitable[Any]]


async def list_offers(name: str, client: Any) -> dict[str, Any]:
    """Return descriptions of a server's ``tools``, ``resources`` and ``prompts``.

    Resources or prompts that cannot be listed are logged and left empty.

    :param name: The server's name, for the log.
    :raises MCPError: when the tools cannot be listed.
    """
    can = client.server_capabilities
    tools = await _list_pages(client.list_tools, "tools") if can.tools is not None else []
    resources: list[Any] = []
    if can.resources is not None:
        resources = await _try_pages(name, client.list_resources, "resources")
        resources += await _try_pages(
            name, client.list_resource_templates, "resource_templates", quiet=True
        )
    prompts: list[Any] = []
    if can.prompts is not None:
        prompts = await _try_pages(name, client.list_prompts, "prompts")
    return {
        "tools": keep_small(name, "tool", map(describe_tool, tools)),
        "resources": keep_small(name, "resource", map(_describe_resource, resources[:MAX_LISTED])),
        "prompts": keep_small(name, "prompt", map(_describe_prompt, prompts[:MAX_LISTED])),
    }


async def _list_pages(fetch: _Fetch, field: str) -> list[Any]:
    """Return the entries of all pages. Stop if a cursor repeats."""
    entries: list[Any] = []
    cursor, seen = None, set()
    for _ in range(_MAX_PAGES):
        page = await fetch(cursor=cursor)
        entries += getattr(page, field)
        cursor = page.next_cursor
        if not cursor or cursor in seen:
            break
        seen.add(cursor)
    return entries


async def _try_pages(name: str, fetch: _Fetch, field: str, *, quiet: bool = False) -> list[Any]:
    try:
        return await _list_pages(fetch, field)
    except (MCPError, ValueError) as error:
        # Many servers with resources do not implement templates.
        level = logging.DEBUG if quiet else logging.WARNING
        log.log(level, "MCP server %s does not list its %s: %.200s", name, field, error)
        return []


def _describe_resource(one: Any) -> dict[str, Any]:
    template = getattr(one, "uri_template", None)
    described = {
        "uri": str(template or one.uri),
        "name": _cut(one.title or one.name),
        "description": _cut(one.description),
    }
    return {**described, "template": True} if template else described


def _describe_prompt(one: Any) -> dict[str, Any]:
    return {
        "name": one.name,
        "description": _cut(one.description or one.title),
        "arguments": [
            {
                "name": argument.name,
                "description": _cut(argument.description),
                "required": bool(argument.required),
            }
            for argument in (one.arguments or [])[:MAX_LISTED]
        ],
    }


def _cut(text: str | None) -> str:
    return (text or "")[:MAX_FIELD_CHARS]

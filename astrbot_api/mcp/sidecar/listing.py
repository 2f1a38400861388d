"""Lists of a server's tools, resources and prompts, with pagination."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from mcp import MCPError

from ..wire import MAX_FIELD_CHARS, MAX_LISTED
from .content import Kept, describe_tool

log = logging.getLogger(__name__)

_MAX_PAGES = 100

#: Takes a cursor and returns a page.
_Fetch = Callable[..., Awaitable[Any]]

#: Takes an entry and returns its description.
_Describe = Callable[[Any], dict[str, Any]]


async def list_offers(name: str, client: Any) -> dict[str, Any]:
    """Return descriptions of a server's ``tools``, ``resources`` and ``prompts``.

    Resources or prompts that cannot be listed are logged and left empty.

    :raises MCPError: when the tools cannot be listed.
    """
    can = client.server_capabilities
    tools, prompts = Kept(name, "tool"), Kept(name, "prompt", MAX_LISTED)
    resources = Kept(name, "resource", MAX_LISTED)
    if can.tools is not None:
        await _keep_pages(client.list_tools, "tools", describe_tool, tools)
    elif can.resources is None and can.prompts is None:  # hand-written servers name nothing
        await _try_pages(name, client.list_tools, "tools", describe_tool, tools)
    if can.resources is not None:
        for fetch, field in (
            (client.list_resources, "resources"),
            (client.list_resource_templates, "resource_templates"),
        ):
            await _try_pages(name, fetch, field, _describe_resource, resources)
    if can.prompts is not None:
        await _try_pages(name, client.list_prompts, "prompts", _describe_prompt, prompts)
    return {
        "tools": tools.entries, "resources": resources.entries, "prompts": prompts.entries,
    }  # fmt: skip


async def _keep_pages(fetch: _Fetch, field: str, describe: _Describe, kept: Kept) -> None:
    """Describe the entries of all pages. Stop if a cursor repeats or the list is too long."""
    cursor, seen = None, set()
    for _ in range(_MAX_PAGES):
        page = await fetch(cursor=cursor)
        kept.add(map(describe, getattr(page, field)))
        cursor = page.next_cursor
        if not cursor or cursor in seen or kept.full:
            return
        seen.add(cursor)


async def _try_pages(name: str, fetch: _Fetch, field: str, describe: _Describe, kept: Kept) -> None:
    try:
        await _keep_pages(fetch, field, describe, kept)
    except (MCPError, ValueError) as error:
        # Many servers with resources do not implement templates.
        level = logging.DEBUG if field == "resource_templates" else logging.WARNING
        log.log(level, "MCP server %s does not list its %s: %.200s", name, field, error)


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

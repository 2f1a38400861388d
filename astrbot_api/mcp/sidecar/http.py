"""MCP over streamable HTTP, with a bound on what a server may answer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
from mcp.client.streamable_http import streamable_http_client

from ...runtime.addresses import find_proxy
from .stdio import MAX_LINE_BYTES

_CONNECT_TIMEOUT_S = 10.0

#: Silence after which a stream is given up. Calls have time-outs of their own.
_READ_TIMEOUT_S = 3600.0


@contextlib.asynccontextmanager
async def connect_http(definition: Mapping[str, Any]) -> AsyncIterator[Any]:
    """Reach a server by its URL: a transport of the SDK's ``Client``.

    :param definition: ``url`` and ``headers``. Redirects are followed within
        the URL's own origin only, so the headers stay there.
    """
    # One whole answer counts as much as a line; what is packed could be endless.
    headers = {"Accept-Encoding": "identity", **definition["headers"]}
    timeout = httpx2.Timeout(_CONNECT_TIMEOUT_S, read=_READ_TIMEOUT_S)
    transport = _Bounded(httpx2.AsyncHTTPTransport(proxy=find_proxy(definition["url"])))
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, transport=transport) as client,
        streamable_http_client(
            definition["url"], http_client=client, max_sse_event_size=MAX_LINE_BYTES
        ) as streams,
    ):
        yield streams


class _Bounded(httpx2.AsyncBaseTransport):
    """Breaks off an answer that is not a stream of events and too large."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            response.stream = _BoundedStream(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        room = MAX_LINE_BYTES
        async for chunk in self._inner:
            room -= len(chunk)
            if room < 0:
                raise httpx2.RemoteProtocolError(f"an answer of more than {MAX_LINE_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()

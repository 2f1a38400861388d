"""MCP over streamable HTTP and HTTP+SSE, with a limit on the size of responses."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx2
import mcp_types
import orjson
from mcp.client import sse, streamable_http

from ...runtime.addresses import SOCKET_OPTIONS, find_proxy
from .oauth import make_auth
from .repairing import read_messages
from .stdio import MAX_LINE_BYTES

_CONNECT_TIMEOUT_S = 10.0

#: Read timeout of a stream, in seconds. Calls have their own timeouts.
_READ_TIMEOUT_S = 3600.0

#: Timeout of the request that ends a session, in seconds. No new session begins before.
_END_TIMEOUT_S = 2.0

#: Statuses with which a server of the older transport rejects a POST to its URL. Source: Model
#: Context Protocol 2025-11-25, transports, backwards compatibility.
_OLDER_STATUSES = frozenset({400, 404, 405})

#: Statuses for a session that the server no longer knows. The specification wants 404, and the
#: servers of the TypeScript SDK's examples respond with 400.
_LOST_STATUSES = frozenset({400, 404})

#: Types with which hand-written servers send JSON. The SDK would not read it.
_UNTYPED = ("", "text/plain", "text/json", "application/octet-stream")

#: Error text of the SDK for a failed request without an error of the protocol.
_HIDDEN = "Server returned an error response"

#: Beginning of the SDK's error text for an invalid message. All faults of the message follow.
_UNREADABLE = "Failed to parse"


#: The SDK's function that opens a stream of HTTP+SSE. It is internal, so it may be gone one day.
_OPEN_SSE: Any = getattr(sse, "sse_within_origin", None)


#: Id of the request that this task has sent.
_sent_id: ContextVar[Any] = ContextVar("sent_id")


class _Lenient:
    """Parser of messages for the SDK's clients, whose own one loses a list for half an emoji.

    It takes one message. Of a batch, the response is returned. A JSON body, which is bytes, is the
    response to the request that this task has sent, even if its id is null or another one.
    """

    @staticmethod
    def validate_json(data: str | bytes, **options: Any) -> Any:
        try:
            line = data.encode("utf-8", "replace") if isinstance(data, str) else data
            found = read_messages(line)
            message = next((one for one in found if not hasattr(one, "method")), found[0])
            if isinstance(data, bytes) and not hasattr(message, "method"):
                message.id = _sent_id.get()
            return message
        except ValueError:  # the SDK expects the error of its own parser
            return mcp_types.jsonrpc_message_adapter.validate_json(data, **options)


def _adapt_sdk() -> None:
    """Replace what the SDK's clients have no parameter for, in this process only."""
    streamable_http.jsonrpc_message_adapter = _Lenient  # type: ignore[assignment,attr-defined]
    sse.types = SimpleNamespace(jsonrpc_message_adapter=_Lenient)  # type: ignore[assignment,attr-defined]
    if _OPEN_SSE is not None:
        # The limit of an event is 1 MiB by default, less than a screenshot.
        sse.sse_within_origin = partial(_OPEN_SSE, max_event_size=MAX_LINE_BYTES)  # type: ignore[attr-defined]


class UrlServer:
    """A server with a URL. Detects the transport of the server.

    :param definition: ``url`` and ``headers``, optionally ``transport`` (``http`` or ``sse``)
        and ``oauth``.
    """

    def __init__(self, definition: Mapping[str, Any]) -> None:
        self._definition = definition
        self._fixed: str = definition.get("transport", "")
        self._sse = self._fixed == "sse"
        self._statuses: set[int] = set()
        #: Status of the last failed request, and whether the session's last message was rejected.
        self._failed, self._rejected = 0, False
        self._auth: httpx2.Auth | None = None

    def connect(self, on_fault: Callable[[str], None]) -> Any:
        """Return a transport for one session of the SDK's ``Client``.

        :param on_fault: Called with the reason when the session must end.
        :raises OSError: when a file of the OAuth settings cannot be read.
        """
        _adapt_sdk()
        self._statuses, self._failed, self._rejected = set(), 0, False
        if "oauth" in self._definition and self._auth is None:
            self._auth = make_auth(self._definition)
        client = partial(_make_client, self._definition, self._note, self._auth)
        url = self._definition["url"]
        return _connect_sse(url, client, on_fault) if self._sse else _connect_http(url, client)

    def switch_transport(self) -> bool:
        """Switch to the other transport if the failed session suggests it.

        :returns: Whether the next session uses HTTP+SSE instead of streamable HTTP.
        """
        older = bool(self._statuses) and self._statuses <= _OLDER_STATUSES
        if self._fixed or not (self._sse or older):
            return False
        self._sse = not self._sse
        return bool(self._sse)

    def has_lost_session(self, message: str) -> bool:
        """Return whether the server no longer knows the session, for example after its restart.

        :param message: Error text of a request.
        """
        return self._rejected and (message == _HIDDEN or "session" in message.lower())

    def explain(self, message: str) -> str:
        """Return an error text of the SDK in one line, with the HTTP status if it has none."""
        if message.startswith(_UNREADABLE):
            return message.partition("\n")[0]
        hides = self._failed and message.endswith(_HIDDEN)
        return f"{message}: HTTP {self._failed}" if hides else message

    def _note(self, request: httpx2.Request, status: int) -> None:
        self._statuses.add(status)
        if status >= 400:
            self._failed = status
        if request.method == "POST" and "mcp-session-id" in request.headers:
            self._rejected = status in _LOST_STATUSES


@contextlib.asynccontextmanager
async def _connect_sse(
    url: str, make_client: Callable[[], httpx2.AsyncClient], on_fault: Callable[[str], None]
) -> AsyncIterator[Any]:
    """Connect to a server with the HTTP+SSE transport of 2024-11-05.

    After a message that cannot be sent, the SDK sends no more, but keeps the stream open.
    """

    def make(*_: Any, **options: Any) -> httpx2.AsyncClient:
        client = make_client()
        client.send = partial(_send, client.send, on_fault)  # type: ignore[method-assign]
        return client

    async with sse.sse_client(url, httpx_client_factory=make) as streams:
        yield streams


async def _send(
    send: Callable[..., Any],
    on_fault: Callable[[str], None],
    request: httpx2.Request,
    **options: Any,
) -> httpx2.Response:
    """Send a request, and report a message that the server has not accepted."""
    fault = ""
    try:
        response: httpx2.Response = await send(request, **options)
        if response.status_code >= 400:
            fault = f"rejected a message: HTTP {response.status_code}"
        return response
    except Exception:
        fault = "cannot be reached"
        raise
    finally:
        if fault and request.method == "POST":
            on_fault(fault)


@contextlib.asynccontextmanager
async def _connect_http(
    url: str, make_client: Callable[[], httpx2.AsyncClient]
) -> AsyncIterator[Any]:
    """Connect to a server with streamable HTTP.

    Redirects are followed only within the URL's origin, so that the headers are not sent elsewhere.
    """
    async with (
        make_client() as client,
        streamable_http.streamable_http_client(
            url, http_client=client, max_sse_event_size=MAX_LINE_BYTES
        ) as streams,
    ):
        yield streams


def _make_client(
    definition: Mapping[str, Any],
    note: Callable[[httpx2.Request, int], None],
    auth: httpx2.Auth | None,
) -> httpx2.AsyncClient:
    # The size limit counts received bytes, and compressed data could expand without limit.
    headers = {"Accept-Encoding": "identity", **definition["headers"]}
    timeout = httpx2.Timeout(_CONNECT_TIMEOUT_S, read=_READ_TIMEOUT_S)
    inner = httpx2.AsyncHTTPTransport(
        proxy=find_proxy(definition["url"]), socket_options=SOCKET_OPTIONS
    )
    return httpx2.AsyncClient(
        headers=headers, timeout=timeout, transport=_Bounded(inner, note), auth=auth
    )


class _Bounded(httpx2.AsyncBaseTransport):
    """Aborts responses that are too large, except event streams, or that are compressed."""

    def __init__(
        self, inner: httpx2.AsyncBaseTransport, note: Callable[[httpx2.Request, int], None]
    ) -> None:
        self._inner = inner
        self._note = note

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST" and request.headers.get("content-type") == "application/json":
            with contextlib.suppress(httpx2.RequestNotRead):  # redirected, so the id is set
                _sent_id.set(orjson.loads(request.content).get("id"))
        if request.method == "DELETE":
            request.extensions["timeout"] = httpx2.Timeout(_END_TIMEOUT_S).as_dict()
        response = await self._inner.handle_async_request(request)
        self._note(request, response.status_code)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise httpx2.RemoteProtocolError("a compressed response, which was not accepted")
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in _UNTYPED:
            response.headers["content-type"] = "application/json"
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
                # Of all exceptions, only this one fails the call instead of the session.
                raise httpx2.StreamError(f"a response of more than {MAX_LINE_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()

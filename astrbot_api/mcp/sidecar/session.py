"""Session of one MCP server: start, restart, lists and calls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..wire import DOWN, RUNNING, STARTING
from .calling import (
    UNSUPPORTED,
    CallFailed,
    Parts,
    Progress,
    SessionLost,
    describe,
    ends_session,
    find_cause,
    find_unsupported,
    label_server,
    make_call,
    redact,
)

try:
    import mcp_types
    from mcp import Client, MCPError
    from mcp.client.subscriptions import SubscriptionLost
    from mcp_types.version import MODERN_PROTOCOL_VERSIONS

    from .http import UrlServer
    from .listing import list_offers
    from .repairing import repair_transport
    from .stdio import StdioServer
except ImportError as error:
    #: Error text if the SDK is not installed, else None.
    missing: str | None = f"{error}; pip install 'astrbot-api[mcp]'"
else:
    missing = None
    _CHANGES = (
        mcp_types.ToolListChangedNotification,
        mcp_types.ResourceListChangedNotification,
        mcp_types.PromptListChangedNotification,
    )

log = logging.getLogger(__name__)

#: First and longest pause before a server is started again, in seconds.
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 30.0

#: Seconds of running after which the restart pause is reset.
_STEADY_S = 60.0

#: Start timeout in seconds. The command may download the server first.
_START_TIMEOUT_S = 120.0

_LIST_TIMEOUT_S = 30.0

#: Pause before a new subscription to changes, and before listing after a change, in seconds.
_LISTEN_PAUSE_S = 5.0
_CHANGE_PAUSE_S = 0.1

#: End of a session with a server that only has the older transport.
SWITCHED = "rejects streamable HTTP; trying HTTP+SSE"

#: Maximum length of a server's error text, in characters.
_MAX_REASON_CHARS = 2000

#: Maximum wait of a call for a new session, in seconds, if the server no longer knows the old one,
#: and time before the old one is closed.
_REOPEN_S = 5.0
_REJECTION_S = 0.3


class ServerSession:
    """Keeps one server running with an open session, and executes calls.

    :param definition: ``name``, and the command or URL of the server.
    :param on_change: Called when :attr:`status` or :attr:`offers` have changed.
    """

    def __init__(self, definition: Mapping[str, Any], on_change: Callable[[], None]) -> None:
        self.name: str = definition["name"]
        self.label = label_server(definition)
        self.status = STARTING
        #: Last known ``tools``, ``resources`` and ``prompts``, or None before the first list.
        self.offers: dict[str, Any] = {"tools": None, "resources": None, "prompts": None}
        #: Text about the end of the last session, or empty.
        self.ending = ""
        self._definition = definition
        self._on_change = on_change
        #: Number of requests of the server that this client does not support.
        self._unsupported = 0
        self._client: Any = None
        self._url_server: Any = None
        self._stdio: Any = None
        #: Limit of the current start or list.
        self._limit = asyncio.timeout(None)
        #: Reason why a running server is unusable, or empty.
        self._fault = ""
        self._lost = asyncio.Event()
        self._listed = asyncio.Event()
        self._running = asyncio.Event()
        self._task = asyncio.create_task(self._keep_running(), name=f"mcp {self.name}")

    async def stop(self) -> None:
        """Close the session and stop the server."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def execute(
        self, request: Mapping[str, Any], report: Callable[[Progress], Awaitable[None]]
    ) -> Parts:
        """Call a tool, read a resource, or render a prompt.

        :param request: It has ``tool``, ``uri`` or ``prompt``, see :mod:`..wire`.
        :returns: Whether the tool reported an error, and the parts of its result.
        :raises CallFailed: when the call has no result.
        """
        try:
            return await self._execute(request, report)
        except SessionLost:  # the server has not executed the call
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._running.wait(), _REOPEN_S)
            return await self._execute(request, report)

    async def _execute(
        self, request: Mapping[str, Any], report: Callable[[Progress], Awaitable[None]]
    ) -> Parts:
        client, lost = self._client, self._lost
        if client is None or lost.is_set():
            raise CallFailed(f"the MCP server {self.name} {self._explain_state()}")
        asked = self._unsupported
        try:
            is_error, parts = await self._wait(make_call(client, request, report), lost)
        except CallFailed as error:
            if self._unsupported > asked:
                raise CallFailed(f"{error} ({UNSUPPORTED})") from error
            raise
        if is_error and self._unsupported > asked:
            parts = [*parts, {"type": "text", "text": UNSUPPORTED}]
        return is_error, parts

    async def _wait(self, call: Awaitable[Parts], lost: asyncio.Event) -> Parts:
        work = asyncio.ensure_future(call)
        ending = asyncio.ensure_future(lost.wait())
        try:
            await asyncio.wait((work, ending), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise CallFailed(self._explain_end())
            return work.result()
        except MCPError as error:
            reason = self._redact(self._explain(error.message)[:_MAX_REASON_CHARS])
            refused = f"the MCP server {self.name} refused: {reason}"
            # Nothing else detects the end of the session with a server with a URL.
            unknown = self._url_server and self._url_server.has_lost_session(error.message)
            if unknown:
                # Not at once, so that other calls get their own rejection and are repeated, too.
                asyncio.get_running_loop().call_later(_REJECTION_S, lost.set)
                self._running.clear()
                raise SessionLost(refused) from error
            if lost.is_set() or ends_session(error):
                lost.set()
                raise CallFailed(self._explain_end()) from error
            if method := find_unsupported(error):
                self._note_unsupported(method)
            raise CallFailed(refused) from error
        except CallFailed:
            raise
        except Exception as error:
            kind = type(error).__name__  # the text may contain user data
            log.error("MCP server %s: a call failed: %s", self.label, kind)
            raise CallFailed(f"the call of the MCP server {self.name} failed: {kind}") from error
        finally:
            await _cancel(work, ending)

    def _note_unsupported(self, method: str) -> None:
        """Count and log a request of the server that this client does not support."""
        self._unsupported += 1
        log.warning("MCP server %s requests %s, which is not supported", self.label, method)

    def _explain_state(self) -> str:
        if missing:
            return f"cannot be used: {missing}"
        if self.status == STARTING:
            return "is still being started; try again later"
        return "is not running; it is being restarted"

    def _explain(self, text: str) -> str:
        """Return an error text with the HTTP status of a server with a URL, if it lacks it."""
        return self._url_server.explain(text) if self._url_server else text

    def _explain_end(self) -> str:
        return (
            f"the MCP server {self.name} {self._fault or 'ended during the call'}; "
            "it is being restarted"
        )

    async def _keep_running(self) -> None:
        if missing:
            log.error("MCP server %s %s", self.label, self._explain_state())
            self._change(DOWN)
            return
        pause_s, before = _FIRST_PAUSE_S, ""
        while True:
            started = time.monotonic()
            ending = await self._run_once()
            if self._task.cancelling():  # the SDK may swallow it while the session is closed
                return
            if time.monotonic() - started >= _STEADY_S:
                pause_s, before = _FIRST_PAUSE_S, ""
            ending = self.ending = self._redact(ending)
            level = logging.DEBUG if ending == before else logging.WARNING
            wait_s = _FIRST_PAUSE_S if ending == SWITCHED else pause_s
            log.log(level, "MCP server %s %s; restarting in %g s", self.label, ending, wait_s)
            before = ending
            self._change(DOWN)
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    async def _run_once(self) -> str:
        """Start the server and keep its session until it ends.

        :returns: Text about the end of the session.
        """
        self._lost, self._listed, self._fault = asyncio.Event(), asyncio.Event(), ""
        if "command" in self._definition:
            self._stdio = StdioServer(self._definition, self._redact)
        elif self._url_server is None:
            self._url_server = UrlServer(self._definition)
        opened = False
        try:
            inner = (self._stdio or self._url_server).connect(self._fail)
            transport = repair_transport(self.label, inner, self._note_unsupported, self._lost.set)
            client = Client(transport, message_handler=self._handle, cache=None)
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(_START_TIMEOUT_S) as self._limit:
                    await stack.enter_async_context(client)
                opened = True
                await self._serve(client)
        except TimeoutError:
            return self._fault or "did not respond in time"
        except Exception as error:
            if self._stdio is None and not opened and self._url_server.switch_transport():
                return SWITCHED
            # The SDK ends a program whose answer it refuses, so its exit code is not the reason.
            refused = isinstance(find_cause(error), (RuntimeError, ValueError))
            ended = self._fault or (not refused and self._stdio and self._stdio.ending)
            return ended or f"cannot be used: {self._explain(describe(error))}"
        finally:
            self._lost.set()
        return self._fault or (self._stdio and self._stdio.ending) or "was lost"

    def _fail(self, fault: str) -> None:
        """End the session for a reason, also its start or a list."""
        self._fault = fault
        self._lost.set()
        with contextlib.suppress(RuntimeError):  # it is no longer waited for
            self._limit.reschedule(0)

    async def _serve(self, client: Any) -> None:
        """List tools, resources and prompts now and after each change, until the session ends."""
        listener = asyncio.create_task(self._listen(client))
        try:
            while not self._lost.is_set():
                self._listed.clear()
                self.offers = await self._list(client)
                if self._client is None:
                    counts = ", ".join(f"{len(one)} {kind}" for kind, one in self.offers.items())
                    log.info("MCP server %s is running with %s", self.label, counts)
                self._client = client
                self._change(RUNNING)
                await self._wait_for_change()
        finally:
            self._client = None
            self._lost.set()
            self._change(DOWN)
            await _cancel(listener)

    async def _list(self, client: Any) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_LIST_TIMEOUT_S) as self._limit:
                return await list_offers(self.label, client)
        except Exception as error:
            if not self._lost.is_set():
                self._fault = f"cannot be used: {self._explain(describe(error))}"
            raise

    async def _wait_for_change(self) -> None:
        """Wait until the lists may have changed, or the session ends."""
        tasks = [asyncio.create_task(one.wait()) for one in (self._lost, self._listed)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(*tasks)
        if not self._lost.is_set():
            await asyncio.sleep(_CHANGE_PAUSE_S)

    async def _handle(self, message: Any) -> None:
        """Handle a change notification, which servers before 2026-07-28 send unsolicited."""
        if isinstance(message, _CHANGES):
            self._listed.set()

    async def _listen(self, client: Any) -> None:
        """Subscribe to changes of a newer server.

        After a broken subscription, request new lists. If a server with a URL is
        gone, this request fails and ends the session.
        """
        while client.protocol_version in MODERN_PROTOCOL_VERSIONS:
            try:
                async with client.listen(
                    tools_list_changed=True, prompts_list_changed=True, resources_list_changed=True
                ) as changes:
                    async for _ in changes:
                        self._listed.set()
            except MCPError as error:
                if not ends_session(error):
                    return  # the server does not support subscriptions
            except SubscriptionLost:
                pass
            await asyncio.sleep(_LISTEN_PAUSE_S)
            self._listed.set()

    def _change(self, status: str) -> None:
        self.status = status
        if status == RUNNING:
            self._running.set()
        else:
            self._running.clear()
        self._on_change()

    def _redact(self, text: str) -> str:
        return redact(text, self._definition)


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

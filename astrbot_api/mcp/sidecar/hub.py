"""Connections of the workers, and sessions of the servers that they use."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from ..wire import MAX_REPLY_BYTES, RUNNING, VERSION, encode
from .calling import CallFailed, Progress
from .session import SWITCHED, ServerSession

log = logging.getLogger(__name__)

#: Seconds before an unused server is stopped: workers restart, and reload a
#: changed config at different times.
_LINGER_S = 30.0

#: Maximum number of concurrent calls of one worker.
_MAX_CALLS = 2000


async def check_server(definition: Mapping[str, Any], limit_s: float) -> str:
    """Start a server, list its tools, and stop it.

    :returns: Why the server cannot be used, or an empty text.
    """
    changed = asyncio.Event()
    session = ServerSession(definition, changed.set)
    try:
        async with asyncio.timeout(limit_s):
            while session.status != RUNNING and session.ending in ("", SWITCHED):
                await changed.wait()
                changed.clear()
        return "" if session.status == RUNNING else session.ending
    except TimeoutError:
        return "did not respond in time"
    finally:
        await session.stop()


class Hub:
    """Connections and sessions of one sidecar."""

    def __init__(self) -> None:
        #: The sessions of the used servers, by key.
        self.sessions: dict[str, ServerSession] = {}
        self._links: set[_Link] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one worker until it disconnects."""
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            self._update_timers()

    def set_servers(self, definitions: Mapping[str, Any]) -> None:
        """Start the servers that are not running yet."""
        for key, definition in definitions.items():
            if key not in self.sessions:
                self.sessions[key] = ServerSession(definition, partial(self._notify_links, key))
        self._update_timers()

    def _update_timers(self) -> None:
        """Start a stop timer for each unused server, and cancel the timers of the others."""
        wanted = {key for link in self._links for key in link.wanted}
        for key in wanted & self._timers.keys():
            self._timers.pop(key).cancel()
        for key in self.sessions.keys() - wanted - self._timers.keys():
            loop = asyncio.get_running_loop()
            self._timers[key] = loop.call_later(_LINGER_S, self._drop, key)

    async def close(self) -> None:
        """Close all connections and stop all servers."""
        for timer in self._timers.values():
            timer.cancel()
        for link in self._links:
            link.close()
        for key in list(self.sessions):
            self._drop(key)
        await asyncio.gather(*self._stopping)

    def _drop(self, key: str) -> None:
        self._timers.pop(key, None)
        session = self.sessions.pop(key)
        log.info("stopping MCP server %s", session.label)
        task = asyncio.create_task(session.stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    def _notify_links(self, key: str) -> None:
        for link in self._links:
            if key in link.wanted:
                link.notify(key)


class _Link:
    """The connection of one worker."""

    def __init__(
        self, hub: Hub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.wanted: frozenset[str] = frozenset()
        self._hub = hub
        self._reader = reader
        self._writer = writer
        self._sending = asyncio.Lock()
        self._calls: dict[int, asyncio.Task[None]] = {}
        #: Servers with an unsent state. A dict keeps their order.
        self._news: dict[str, None] = {}
        self._has_news = asyncio.Event()

    async def run(self) -> None:
        """Read requests until the worker disconnects or sends an invalid request."""
        sender = asyncio.create_task(self._send_states())
        try:
            await self._send({"type": "hello", "version": VERSION})
            while line := await self._reader.readline():
                self._handle(json.loads(line))
        except (ConnectionError, asyncio.CancelledError):
            pass
        except Exception:  # an overlong line, invalid JSON, a missing field
            log.exception("closing a worker's connection after an invalid request")
        finally:
            tasks = [sender, *self._calls.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._writer.close()

    def close(self) -> None:
        self._writer.close()

    def notify(self, key: str) -> None:
        """Queue the state of a server for sending. Several changes are sent once."""
        self._news[key] = None
        self._has_news.set()

    def _handle(self, request: dict[str, Any]) -> None:
        kind = request["type"]
        if kind == "want":
            self.wanted = frozenset(request["servers"])
            self._hub.set_servers(request["servers"])
            for key in request["servers"]:
                self.notify(key)
        elif kind == "call":
            number = request["id"]
            task = asyncio.create_task(self._call(request))
            self._calls[number] = task
            task.add_done_callback(lambda _: self._calls.pop(number, None))
        elif kind == "cancel" and (call := self._calls.get(request["id"])):
            call.cancel()

    async def _call(self, request: dict[str, Any]) -> None:
        answer = {"type": "result", "id": request["id"]}
        session = self._hub.sessions.get(request["server"])
        try:
            if session is None:
                raise CallFailed("this MCP server is no longer configured")
            if len(self._calls) > _MAX_CALLS:
                raise CallFailed("too many MCP calls are running; try again later")
            is_error, parts = await session.execute(request, partial(self._report, request["id"]))
            await self._send({**answer, "is_error": is_error, "content": parts})
        except CallFailed as error:
            await self._send({**answer, "failure": str(error)})

    async def _report(self, number: int, progress: Progress) -> None:
        """Send a call's progress, unless the worker reads too slowly."""
        if not self._sending.locked() and number in self._calls:
            await self._send({"type": "progress", "id": number, **progress})

    async def _send_states(self) -> None:
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            news, self._news = self._news, {}
            for key in news:
                if session := self._hub.sessions.get(key):
                    state = {"type": "state", "server": key, "status": session.status}
                    await self._send({**state, **session.offers})

    async def _send(self, message: dict[str, Any]) -> None:
        line = encode(message) + b"\n"
        if len(line) > MAX_REPLY_BYTES:
            failure = "the result is too large"
            line = encode({"type": "result", "id": message["id"], "failure": failure}) + b"\n"
        async with self._sending:
            self._writer.write(line)
            await self._writer.drain()

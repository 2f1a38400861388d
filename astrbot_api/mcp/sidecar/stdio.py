"""MCP over the standard input and output of a child process.

The SDK's own ``stdio_client`` does not limit the length of a line, and
writes the standard error to a file instead of a log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage

from ...runtime.supervise import describe_status
from .calling import label_server
from .repairing import read_messages

log = logging.getLogger(__name__)

#: Maximum line of a server, for example a result with a large file.
MAX_LINE_BYTES = 16 * 1024 * 1024

#: Seconds to wait for a server's exit after its standard input is closed, and
#: again after SIGTERM.
_STOP_TIMEOUT_S = 1.5

#: Maximum length of a line of a server's standard error.
_MAX_LOG_CHARS = 1000


class StdioServer:
    """One process of a server.

    :param definition: ``name``, ``command``, ``env`` and ``cwd``.
    :param redact: Removes secrets from a line for the log.
    """

    def __init__(self, definition: Mapping[str, Any], redact: Callable[[str], str]) -> None:
        self._definition = definition
        self._redact = redact
        #: Text about the process's end, or empty if unknown.
        self.ending = ""

    @contextlib.asynccontextmanager
    async def connect(self, on_fault: Callable[[str], None]) -> AsyncIterator[Any]:
        """Start the process, and stop it at the end. A transport of the SDK's ``Client``.

        :param on_fault: Called with the reason when this client must stop the process.
        """
        process = await asyncio.create_subprocess_exec(
            *self._definition["command"],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**get_default_environment(), **self._definition["env"]},
            cwd=self._definition["cwd"] or None,
            limit=MAX_LINE_BYTES,
            # A new process group, so that its children can be stopped with it.
            start_new_session=True,
        )
        to_session, from_server = anyio.create_memory_object_stream[Any](0)
        to_server, from_session = anyio.create_memory_object_stream[Any](0)
        logger = asyncio.create_task(self._log_errors(process))
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, process, to_session, on_fault)
                tasks.start_soon(self._write, process, from_session)
                try:
                    yield from_server, to_server
                finally:
                    with anyio.CancelScope(shield=True):
                        self.ending = await stop_process(process)
                    tasks.cancel_scope.cancel()
        finally:
            logger.cancel()
            for stream in (to_session, from_server, to_server, from_session):
                stream.close()

    async def _read(
        self,
        process: asyncio.subprocess.Process,
        to_session: Any,
        on_fault: Callable[[str], None],
    ) -> None:
        """Forward the server's messages until it exits or writes an overlong line."""
        assert process.stdout is not None
        async with to_session:
            try:
                while line := await process.stdout.readline():
                    if not line.strip():
                        continue
                    try:
                        messages = read_messages(line)
                    except ValueError:
                        self._say("wrote a line that is not an MCP message to its standard output")
                        continue
                    for message in messages:
                        await to_session.send(SessionMessage(message))
            except ValueError:  # longer than the limit
                on_fault(f"was stopped: it wrote a line of more than {MAX_LINE_BYTES} bytes")
            except (anyio.ClosedResourceError, anyio.BrokenResourceError, ConnectionError):
                return

    async def _write(self, process: asyncio.subprocess.Process, from_session: Any) -> None:
        assert process.stdin is not None
        async with from_session:
            with contextlib.suppress(ConnectionError, anyio.ClosedResourceError):
                async for one in from_session:
                    text = one.message.model_dump_json(by_alias=True, exclude_unset=True)
                    process.stdin.write(text.encode() + b"\n")
                    await process.stdin.drain()

    async def _log_errors(self, process: asyncio.subprocess.Process) -> None:
        """Log the server's standard error."""
        assert process.stderr is not None
        async for line in _iter_lines(process.stderr):
            self._say(f"| {line}")

    def _say(self, text: str) -> None:
        log.info("MCP server %s %s", label_server(self._definition), self._redact(text))


async def _iter_lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield the lines of a stream, each truncated to ``_MAX_LOG_CHARS``."""
    rest = b""
    while chunk := await stream.read(4096):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[:_MAX_LOG_CHARS]
        for line in lines:
            yield line[:_MAX_LOG_CHARS].decode(errors="replace").rstrip()
    if rest:
        yield rest.decode(errors="replace").rstrip()


async def stop_process(process: asyncio.subprocess.Process) -> str:
    """Stop a server and its children: close standard input, then SIGTERM, then SIGKILL.

    Source: Model Context Protocol 2025-11-25, lifecycle, shutdown.

    :returns: Text about the server's exit, or an empty string if a signal was needed.
    """
    assert process.stdin is not None
    process.stdin.close()
    ending = ""
    for send in (None, signal.SIGTERM, signal.SIGKILL):
        if send is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, send)
        if await _has_ended(process):
            ending = "" if send else describe_status(process.returncode or 0)
            break
    # Close the pipes, which a child may still hold open.
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()
    return ending


async def _has_ended(process: asyncio.subprocess.Process) -> bool:
    """Wait for the exit of the process. ``wait()`` would also wait for its pipes."""
    until = time.monotonic() + _STOP_TIMEOUT_S
    while process.returncode is None and time.monotonic() < until:
        await asyncio.sleep(0.01)
    return process.returncode is not None

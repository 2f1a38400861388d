"""The MCP sidecar: one plain asyncio process for all workers."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from ..wire import MAX_REQUEST_BYTES, open_listener
from .hub import Hub

log = logging.getLogger(__name__)

#: Loggers that would write URLs, or whole messages, into the log.
_TOO_TALKATIVE = ("mcp", "httpx2", "httpcore2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the workers until asked to end.

    :returns: The exit status.
    """
    options = _parse(arguments)
    level = os.environ.get("ASTRBOT_LOG_LEVEL", "").strip().upper() or "INFO"
    logging.basicConfig(
        format="[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s",
        level=logging.getLevelNamesMapping().get(level, logging.INFO),
    )
    for name in _TOO_TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        listener = _listen(options)
    except OSError as error:
        print(f"cannot listen on {options.socket}: {error.strerror or error}", file=sys.stderr)
        return 1
    with listener:
        asyncio.run(_serve(listener, options.until_eof))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Own the MCP servers' sessions for all workers.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", type=Path, help="Unix socket to listen on; made with mode 0600")
    where.add_argument("--fd", type=int, help="descriptor of a socket that listens already")
    parser.add_argument(
        "--until-eof", action="store_true", help="end with standard input, and not on TERM"
    )
    return parser.parse_args(arguments)


def _listen(options: argparse.Namespace) -> socket.socket:
    if options.fd is not None:
        return socket.socket(fileno=options.fd)
    return open_listener(options.socket)


async def _serve(listener: socket.socket, until_eof: bool) -> None:
    path = Path(listener.getsockname())
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    if until_eof:
        # Nothing is ever written to it: readable means that its writer is gone.
        loop.add_reader(0, ended.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        # systemd and others send TERM to the whole group, but turns that are
        # being brought to their end still need the servers.
        loop.add_signal_handler(number, _ignore if until_eof else ended.set)
    hub = Hub()
    server = await asyncio.start_unix_server(hub.serve, sock=listener, limit=MAX_REQUEST_BYTES)
    print("ready", flush=True)
    await ended.wait()
    server.close()
    await hub.close()
    with contextlib.suppress(OSError):
        path.unlink()


def _ignore() -> None:
    """Do nothing."""

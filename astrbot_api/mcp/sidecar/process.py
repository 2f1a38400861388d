"""Main loop of the MCP sidecar, an asyncio process shared by all workers."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ...runtime.logs import JsonFormatter, LineFormatter
from ..wire import MAX_REQUEST_BYTES, open_listener
from .hub import Hub

log = logging.getLogger(__name__)

#: Maximum number of records of one place in the code about one server, in each period.
_MAX_RECORDS = 100
_PERIOD_S = 10.0

#: Loggers that write URLs or whole messages.
_TOO_TALKATIVE = ("mcp", "httpx2", "httpcore2")


class LogLimit(logging.Filter):
    """Drops records of which servers cause too many: each message of theirs may cause one."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[object] = Counter()
        self._until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to keep a record. Its first argument is the server's name."""
        now = time.monotonic()
        if now >= self._until:
            self._until, self._counts = now + _PERIOD_S, Counter()
        server = record.args[0] if isinstance(record.args, tuple) and record.args else ""
        place = record.pathname, record.lineno, str(server)
        self._counts[place] += 1
        if self._counts[place] == _MAX_RECORDS:
            text = f"{record.getMessage()} (similar lines are dropped for {_PERIOD_S:g} s)"
            record.msg, record.args = text, ()
        return self._counts[place] <= _MAX_RECORDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the workers until a signal or the end of standard input.

    :returns: The exit status.
    """
    options = _parse(arguments)
    level = os.environ.get("ASTRBOT_LOG_LEVEL", "").strip().upper() or "INFO"
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter()
        if os.environ.get("ASTRBOT_LOG_FORMAT", "").strip() == "json"
        else LineFormatter("[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s")
    )
    handler.addFilter(LogLimit())
    logging.basicConfig(
        handlers=[handler], level=logging.getLevelNamesMapping().get(level, logging.INFO)
    )
    for name in _TOO_TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        by_number = options.fd is not None
        listener = socket.socket(fileno=options.fd) if by_number else open_listener(options.socket)
    except OSError as error:
        print(f"cannot listen on {options.socket}: {error.strerror or error}", file=sys.stderr)
        return 1
    with listener:
        asyncio.run(_serve(listener, options.until_eof))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the MCP servers' sessions for all workers.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", type=Path, help="Unix socket to create, with mode 0600")
    where.add_argument("--fd", type=int, help="file descriptor of a listening socket")
    parser.add_argument(
        "--until-eof", action="store_true", help="exit at the end of standard input, not on SIGTERM"
    )
    return parser.parse_args(arguments)


async def _serve(listener: socket.socket, until_eof: bool) -> None:
    path = Path(listener.getsockname())
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    if until_eof:
        # Nothing is written to standard input, so it becomes readable only at its end.
        loop.add_reader(0, ended.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        # systemd sends SIGTERM to the whole process group, but unfinished
        # turns still need the servers.
        loop.add_signal_handler(number, (lambda: None) if until_eof else ended.set)
    hub = Hub()
    server = await asyncio.start_unix_server(hub.serve, sock=listener, limit=MAX_REQUEST_BYTES)
    print("ready", flush=True)
    await ended.wait()
    server.close()
    await hub.close()
    with contextlib.suppress(OSError):
        path.unlink()

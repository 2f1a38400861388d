"""An MCP server whose tools echo, wait, fail or die.

::

    python odd.py            # over standard input and output
    python odd.py --http     # streamable HTTP; prints its URL
    python odd.py --http --json    # without event streams
    python odd.py --http --sse     # the older transport HTTP+SSE

``--mark PATH``: each call of ``wait`` writes its process id there when it starts. ``--prefix
TEXT``: a prefix for the results of ``echo``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

#: A picture of one pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Sure(BaseModel):
    """The form of a question to the user."""

    sure: bool


def make_server(prefix: str, mark: Path | None) -> MCPServer[Any]:
    """Create the server with its tools."""
    server: MCPServer[Any] = MCPServer("odd")
    called = {"count": 0}

    @server.tool()
    def echo(text: str) -> str:
        """Say the text again."""
        called["count"] += 1
        return f"{prefix}{text}"

    @server.tool()
    def env(name: str) -> str:
        """Return the value of a variable."""
        return os.environ.get(name, "(unset)")

    @server.tool()
    async def wait(seconds: float = 600) -> str:
        """Wait, then say so."""
        if mark is not None:
            with mark.open("a") as file:
                file.write(f"{os.getpid()}\n")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            if mark is not None:
                with mark.open("a") as file:
                    file.write("cancelled\n")
            raise
        return "waited"

    notes: list[str] = []
    reading: list[asyncio.Event] = []

    @server.tool()
    async def note(text: str) -> str:
        """Add a note, like a server that rewrites a file."""
        before = list(notes)
        await asyncio.sleep(0.1)
        notes[:] = [*before, text]
        return "noted"

    @server.tool(annotations=types.ToolAnnotations(read_only_hint=True))
    async def read() -> str:
        """Return the notes as soon as a second call reads them."""
        reading.append(asyncio.Event())
        if len(reading) == 2:
            for one in reading:
                one.set()
        await reading[-1].wait()
        return " ".join(notes)

    @server.tool()
    def picture() -> types.CallToolResult:
        """Return a picture, with words before and after it."""
        image = types.ImageContent(data=base64.b64encode(PNG).decode(), mime_type="image/png")
        before, after = types.TextContent(text="before"), types.TextContent(text="after")
        return types.CallToolResult(content=[before, image, after])

    @server.tool()
    def long(chars: int) -> types.CallToolResult:
        """Return a long text."""
        return types.CallToolResult(content=[types.TextContent(text="x" * chars)])

    @server.tool()
    def fail() -> str:
        """Fail as a tool does."""
        raise ToolError("it went wrong")

    @server.tool()
    def die() -> str:
        """End the server in the middle of the call."""
        print("dying with the secret swordfish\x1b[31m", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        return "never"

    @server.tool()
    async def count(to: int, context: Context) -> str:
        """Count, and say how far it is."""
        for number in range(1, to + 1):
            await context.report_progress(number, to, f"at {number}")
        return f"counted to {to}"

    @server.tool()
    async def ask(context: Context) -> str:
        """Ask the user something in the middle of the call."""
        answer = await context.elicit("Are you sure?", Sure)
        return f"the user said {answer.action}"

    @server.resource("note://today", name="today", description="What is to be done.")
    def today() -> str:
        """Return a note."""
        return "water the plants"

    @server.resource("note://{day}", name="day")
    def day(day: str) -> str:
        """Return the note of a day."""
        return f"the note of {day}"

    @server.prompt()
    def greet(name: str, style: str = "warm") -> str:
        """Greet somebody."""
        return f"Write a {style} greeting for {name}."

    @server.tool()
    async def grow(context: Context) -> str:
        """Get one more tool."""

        def grown() -> str:
            """Be new."""
            return "grown"

        server.add_tool(grown)
        await context.notify_tools_changed()
        await context.session.send_tool_list_changed()
        return "grew"

    return server


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sse", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--mark", type=Path)
    options = parser.parse_args()
    server = make_server(options.prefix, options.mark)
    print("odd is here", file=sys.stderr, flush=True)
    if not options.http:
        server.run("stdio")
        return
    listener = socket.create_server(("127.0.0.1", options.port))
    path = "sse" if options.sse else "mcp"
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/{path}", flush=True)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    streamable = server.streamable_http_app(json_response=options.json)
    app = server.sse_app() if options.sse else streamable
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


def _end_with_stdin() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()

"""Fake OpenAI-compatible endpoint with scripted answers.

As a program::

    python -m astrbot_api.testing.fake_openai [--host H] [--port 0] [--log FILE]

The first line of its output is its address. In a test::

    with FakeOpenAI() as endpoint:
        config = ProviderConfig("fake", "openai", base_url=endpoint.base_url)

Keywords in the last user message select the answer, see
:mod:`astrbot_api.providers.mock`. Paths: ``POST /v1/chat/completions``
(streamed or whole), ``GET /v1/models``, and for tests ``GET /stats``,
``GET /requests`` and ``POST /reset``.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import http.client
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from ..providers.mock import FailOnce, parse_script
from .scripted_answer import CREATED, ScriptedAnswer, send_json

#: Maximum number of request bodies for ``/requests``.
_MAX_LOGGED = 5000

#: Maximum size of request headers, and the backlog of the listening socket.
_MAX_HEAD_BYTES = 1024 * 1024
_BACKLOG = 4096

_START_TIMEOUT_S = 60.0
_ASK_TIMEOUT_S = 30.0


class FakeEndpoint:
    """The endpoint of the program: answers, counters and request log.

    :param log: File to which each request body is written as a JSON line.
    """

    def __init__(self, log: IO[str] | None = None) -> None:
        self._log = log
        self._fail_once = FailOnce()
        self._bodies: collections.deque[Any] = collections.deque(maxlen=_MAX_LOGGED)
        self._stats = dict.fromkeys(("requests", "open", "max_open", "done", "client_gone"), 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the requests of one connection in sequence."""
        try:
            while request := await _read_request(reader):
                if not await self._answer(writer, *request):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, writer: asyncio.StreamWriter, method: str, path: str, content: bytes
    ) -> bool:
        """Respond to one request.

        :returns: Whether the connection can be reused.
        """
        if method == "POST" and path == "/v1/chat/completions":
            return await self._complete(writer, json.loads(content or b"{}"))
        if path == "/v1/models":
            model = {"id": "mock", "object": "model", "created": CREATED, "owned_by": "mock"}
            await send_json(writer, 200, {"object": "list", "data": [model]})
        elif path == "/stats":
            await send_json(writer, 200, self._stats)
        elif path == "/requests":
            await send_json(writer, 200, list(self._bodies))
        elif path == "/reset":
            self._stats.update(dict.fromkeys(self._stats, 0))
            self._bodies.clear()
            await send_json(writer, 200, {})
        else:
            error = {"message": "no such path", "type": "invalid_request_error"}
            await send_json(writer, 404, {"error": error})
        return True

    async def _complete(self, writer: asyncio.StreamWriter, body: dict[str, Any]) -> bool:
        self._bodies.append(body)
        if self._log is not None:
            self._log.write(json.dumps({"body": body}) + "\n")
            self._log.flush()
        stats = self._stats
        stats["requests"] += 1
        stats["open"] += 1
        stats["max_open"] = max(stats["max_open"], stats["open"])
        try:
            kept = await self._play(writer, body)
            stats["done"] += 1
        except ConnectionError:
            stats["client_gone"] += 1
            return False
        finally:
            stats["open"] -= 1
        return kept

    async def _play(self, writer: asyncio.StreamWriter, body: dict[str, Any]) -> bool:
        script = parse_script(body.get("messages") or [], body.get("tools") or [])
        answer = ScriptedAnswer(writer, body, script)
        status = self._fail_once.choose_status(script)
        if status:
            words = f"mock failure {status}"
            error = {"message": words, "type": "mock_error", "param": None, "code": "mock"}
            await send_json(writer, status, {"error": error})
            return True
        if body.get("stream"):
            return await answer.stream()
        await answer.send_whole()
        return True


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, bytes] | None:
    """Read one request.

    :returns: Method, path and body, or None if the client has disconnected.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = request_line.split(" ", 2)
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    return method, target.partition("?")[0], content


class FakeOpenAI:
    """The fake endpoint in a separate process, on a free loopback port.

    The process stops at the end of the ``with`` block or of its parent process.
    """

    def __init__(self) -> None:
        #: Base URL of the API, ending in ``/v1``, or empty before the start.
        self.base_url = ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> FakeOpenAI:
        # The package may be run from a checkout, in any working directory.
        root = str(Path(__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "--port", "0", "--until-eof"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        self.base_url = self._read_address(self._process)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the process. Another call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        # Also closes the pipes.
        process.communicate()

    def stats(self) -> dict[str, int]:
        """Return the counters of completions.

        :returns: ``requests``, ``open``, ``max_open``, ``done``,
            ``client_gone`` (the client disconnected before the end).
        """
        counters: dict[str, int] = self._ask("GET", "/stats")
        return counters

    def requests(self) -> list[dict[str, Any]]:
        """Return the bodies of the completion requests, oldest first."""
        bodies: list[dict[str, Any]] = self._ask("GET", "/requests")
        return bodies

    def reset(self) -> None:
        """Reset the counters and delete the recorded bodies."""
        self._ask("POST", "/reset")

    def _ask(self, method: str, path: str) -> Any:
        connection = http.client.HTTPConnection(
            urlsplit(self.base_url).netloc, timeout=_ASK_TIMEOUT_S
        )
        with contextlib.closing(connection):
            connection.request(method, path)
            return json.loads(connection.getresponse().read())

    def _read_address(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], _START_TIMEOUT_S)
        address = process.stdout.readline().strip() if ready else ""
        if not address:
            self.stop()
            raise RuntimeError("the fake endpoint did not start; its error is on stderr")
        return address


def _raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(host: str, port: int, log: IO[str] | None, until_eof: bool) -> None:
    endpoint = FakeEndpoint(log)
    server = await asyncio.start_server(
        endpoint.serve, host, port, limit=_MAX_HEAD_BYTES, backlog=_BACKLOG
    )
    ended = asyncio.Event()
    if until_eof:
        # Nothing is written to standard input, so it becomes readable only at its end.
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    print(f"http://{host}:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    # "async with" would wait until all clients disconnect.
    await ended.wait()
    server.close()


def main() -> None:
    """Serve until a signal arrives."""
    parser = argparse.ArgumentParser(description="A fake OpenAI-compatible endpoint.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=18080, help="0: any free port")
    parser.add_argument("--log", help="append every request body to this file")
    parser.add_argument(
        "--until-eof", action="store_true", help="exit at the end of standard input"
    )
    options = parser.parse_args()
    _raise_file_limit()
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        log = options.log and stack.enter_context(open(options.log, "a", encoding="utf-8"))
        asyncio.run(_serve(options.host, options.port, log or None, options.until_eof))


if __name__ == "__main__":
    main()

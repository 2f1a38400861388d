"""An MCP server without the SDK, which starts fast and follows a script.

::

    python raw.py [--mark PATH] [--prefix TEXT] [SCRIPT]

It has those tools of ``odd.py`` that tests of a server's life cycle need. ``SCRIPT`` is a JSON
object:

- ``tools``, ``resources``, ``resourceTemplates``, ``prompts``: lists, sent unchanged
- ``results``: result of each tool, by name, or an object with an ``error``; other tools are those
  of :data:`TOOLS`
- ``read``, ``prompt``: responses to these requests
- ``first``: text that is written before everything else
- ``page``: number of entries per page
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: A picture of one pixel.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)


class RawServer:
    """One server over standard input and output.

    :param script: See the module.
    :param mark: Each call of ``wait`` writes its process id there when it has begun.
    """

    def __init__(self, script: dict[str, Any], prefix: str = "", mark: Path | None = None) -> None:
        self.script = script
        self.prefix = prefix
        self.mark = mark
        self._lock = threading.Lock()
        self._answers: dict[str, Any] = {}
        self._answered = threading.Condition()
        self._cancelled: set[Any] = set()

    def send(self, **message: Any) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")

    def write(self, text: str) -> None:
        with self._lock:
            sys.stdout.write(text)
            sys.stdout.flush()

    def serve(self) -> None:
        """Respond until standard input ends."""
        self.write(self.script.get("first", ""))
        for line in sys.stdin:
            message = json.loads(line)
            if "method" not in message:
                with self._answered:
                    self._answers[message["id"]] = message
                    self._answered.notify_all()
            elif "id" in message:
                threading.Thread(target=self._answer, args=(message,), daemon=True).start()
            elif message["method"] == "notifications/cancelled":
                with self._answered:
                    self._cancelled.add(message["params"]["requestId"])
                    self._answered.notify_all()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request to the client and return its response."""
        self.send(id="question", method=method, params=params)
        with self._answered:
            self._answered.wait_for(lambda: "question" in self._answers)
            answer: dict[str, Any] = self._answers.pop("question")
            return answer

    def wait(self, number: Any, seconds: float) -> str:
        with self._answered:
            if self._answered.wait_for(lambda: number in self._cancelled, seconds):
                self.note("cancelled")
        return "waited"

    def note(self, text: str) -> None:
        if self.mark is not None:
            with self.mark.open("a") as file:
                file.write(f"{text}\n")

    def _answer(self, message: dict[str, Any]) -> None:
        number, params = message["id"], message.get("params") or {}
        try:
            result = self._find_result(message["method"], params, number)
            failed = isinstance(result, dict) and "error" in result
            self.send(id=number, **(result if failed else {"result": result}))
        except LookupError:
            self.send(id=number, error={"code": -32601, "message": "there is no such method"})

    def _find_result(self, method: str, params: dict[str, Any], number: Any) -> Any:
        if method == "initialize":
            named = ("tools", "resources", "prompts")
            usual = {one: {} for one in named if one == "tools" or one in self.script}
            return {
                "protocolVersion": "2025-06-18",
                "capabilities": self.script.get("capabilities", usual),
                "serverInfo": {"name": "raw", "version": "1"},
            }
        if method == "server/discover" and method in self.script:
            return self.script[method]
        if method in _LISTS:
            return self._list(_LISTS[method], params.get("cursor"))
        if method == "resources/read":
            return self.script["read"]
        if method == "prompts/get":
            return self.script["prompt"]
        if method != "tools/call":
            raise LookupError(method)
        name = params["name"]
        if name in self.script.get("results", {}):
            return self.script["results"][name]
        result = TOOLS[name](self, params.get("arguments") or {}, number, params)
        return result if isinstance(result, dict) else {"content": [_text(result)]}

    def _list(self, key: str, cursor: str | None) -> dict[str, Any]:
        known = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
        entries = self.script.get(key, known if key == "tools" else [])
        size, begin = self.script.get("page", len(entries) or 1), int(cursor or 0)
        more = {"nextCursor": str(begin + size)} if begin + size < len(entries) else {}
        return {key: entries[begin : begin + size], **more}


_LISTS = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def echo(server: RawServer, arguments: Any, number: Any, params: Any) -> str:
    return f"{server.prefix}{arguments['text']}"


def env(server: RawServer, arguments: Any, number: Any, params: Any) -> str:
    return os.environ.get(arguments["name"], "(unset)")


def wait(server: RawServer, arguments: Any, number: Any, params: Any) -> str:
    server.note(str(os.getpid()))
    return server.wait(number, arguments.get("seconds", 600))


def picture(server: RawServer, arguments: Any, number: Any, params: Any) -> dict[str, Any]:
    image = {"type": "image", "data": PNG, "mimeType": "image/png"}
    return {"content": [_text("before"), image, _text("after")]}


def count(server: RawServer, arguments: Any, number: Any, params: Any) -> str:
    """Report the progress of the call, first the number in ``odd``, then wait for its end."""
    token = params["_meta"]["progressToken"]
    odd = [float(arguments["odd"])] if "odd" in arguments else []
    for at in (*odd, *range(1, arguments["to"] + 1)):
        reported = {"progressToken": token, "progress": at, "total": arguments["to"]}
        server.send(method="notifications/progress", params={**reported, "message": f"at {at}"})
    return f"counted to {arguments['to']}"


def ask(server: RawServer, arguments: Any, number: Any, params: Any) -> dict[str, Any]:
    """Ask the user a question, like servers before 2026-07-28."""
    asked = {"message": "Sure?", "requestedSchema": {"type": "object", "properties": {}}}
    answer = server.ask(arguments.get("method", "elicitation/create"), **asked)
    return {"content": [_text(json.dumps(answer["error"]))], "isError": True}


def change(server: RawServer, arguments: Any, number: Any, params: Any) -> str:
    """Change the list of tools."""
    server.script["tools"] = [{"name": "echo", "inputSchema": {}}, {"name": "fresh"}]
    server.script["results"] = {"fresh": {"content": [_text("fresh indeed")]}}
    server.send(method="notifications/tools/list_changed")
    return "changed"


def noise(server: RawServer, arguments: Any, number: Any, params: Any) -> str:
    """Write invalid lines to standard output."""
    server.write('DEBUG: starting\n\n{"half": \n[]\n\x00\ufffd\n{"jsonrpc": "2.0"}\n')
    return "after the noise"


def die(server: RawServer, arguments: Any, number: Any, params: Any) -> str:
    print("dying with the secret swordfish\x1b[31m", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)
    return "never"


def huge(server: RawServer, arguments: Any, number: Any, params: Any) -> dict[str, Any]:
    return {"content": [_text("x" * arguments["chars"])]}


#: Function of each tool. Its arguments are the server, the arguments, the call's id and all
#: parameters.
TOOLS: dict[str, Callable[[RawServer, Any, Any, Any], Any]] = {
    one.__name__: one  # type: ignore[attr-defined]
    for one in (echo, env, wait, picture, count, ask, change, noise, die, huge)
}


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prefix", default="")
    parser.add_argument("--mark", type=Path)
    parser.add_argument("script", nargs="?", default="{}")
    options = parser.parse_args()
    print("raw is here", file=sys.stderr, flush=True)
    RawServer(json.loads(options.script), options.prefix, options.mark).serve()


if __name__ == "__main__":
    main()

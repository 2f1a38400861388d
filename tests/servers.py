"""Real servers for the tests, on free loopback ports."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import urllib3
from werkzeug.serving import make_server

from astrbot_api.config.settings import Settings
from astrbot_api.db import keys
from astrbot_api.db.store import open_store

from .waiting import wait_for

ROOT = Path(__file__).parent.parent

#: Keeps idle connections open for a minute. A busy machine needs more than the usual 5 seconds
#: between two requests.
KEEP_CONNECTIONS = {"GUNICORN_CMD_ARGS": "--keep-alive=60"}

_DEFAULT_CONFIG = """\
name = "default"
[provider]
id = "mocksrc/mock"
type = "openai"
base_url = "{base_url}"
model = "mock"
api_key = "sk-secret-of-the-provider"
{provider}
[agent]
system_prompt = "You are a helpful assistant."
{agent}
"""


@contextmanager
def serve(app: Any, **options: Any) -> Iterator[str]:
    """Serve a WSGI application from a thread of this process and yield its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True, **options)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


#: A config that answers without a model.
MOCK_CONFIG = 'name = "default"\n[provider]\ntype = "mock"\n[agent]\ntitles = false\n'


def add_config(data_dir: Path, text: str, name: str = "default") -> Path:
    """Write a config file."""
    folder = data_dir / "configs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def write_config(
    data_dir: Path, base_url: str, *, name: str = "default", provider: str = "", agent: str = ""
) -> Path:
    """Write a config whose model is at ``base_url``, with additional lines in its tables."""
    text = _DEFAULT_CONFIG.format(base_url=base_url, provider=provider, agent=agent)
    return add_config(data_dir, text, name)


def create_key(data_dir: Path, *scopes: str, name: str = "test", database_url: str = "") -> str:
    """Create a key and return its secret."""
    row = create_key_row(data_dir, *scopes, name=name, database_url=database_url)
    return str(row["api_key"])


def create_key_row(
    data_dir: Path, *scopes: str, name: str = "test", database_url: str = ""
) -> dict[str, Any]:
    """Create a key by the command line and return the output of ``keys create --json``."""
    url = database_url or os.environ.get("ASTRBOT_DATABASE_URL", "")
    store = open_store(Settings(data_dir=data_dir, database_url=url))
    store.upgrade()
    row, secret = store.write(lambda db: keys.create_key(db, name, scopes, created_by="test"))
    store.close()
    return {**row, "api_key": secret}


def run_cli(*arguments: str, data_dir: Path) -> str:
    """Run ``astrbot-api`` and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", "astrbot_api", *arguments, "--data-dir", str(data_dir)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout


class Server:
    """gunicorn with this project's configuration, by default with two gevent workers.

    The listening socket is opened here and passed on, so the port is free. Requests may be sent at
    once and wait until a worker runs.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        workers: int = 2,
        app: str = "astrbot_api.app:create_app()",
        **environ: str,
    ) -> None:
        self.data_dir = data_dir
        self.log_path = data_dir / "server.log"
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        # As in gunicorn, but also for connections that are opened before it runs.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        conf = ROOT / "astrbot_api" / "server" / "gunicorn_conf.py"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "-c", str(conf)),
                    *("-b", f"fd://{listener.fileno()}", app),
                ],
                pass_fds=(listener.fileno(),),
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={
                    **os.environ,
                    "ASTRBOT_DATA_DIR": str(data_dir),
                    "WEB_CONCURRENCY": str(workers),
                    **environ,
                },
            )
        # Now only the server has the socket: if it dies, requests fail at once.
        listener.close()
        self.http = urllib3.PoolManager(
            maxsize=100, retries=False, timeout=urllib3.Timeout(connect=10, read=60)
        )

    def connect(self) -> socket.socket:
        """Open a raw connection, for requests that client libraries cannot send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def request(
        self, method: str, path: str, key: str = "", **options: Any
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and return its response with the body."""
        headers = {**({"X-API-Key": key} if key else {}), **options.pop("headers", {})}
        return self.http.request(method, self.url + path, headers=headers, **options)

    def open_chat(self, key: str, body: dict[str, Any]) -> urllib3.BaseHTTPResponse:
        """Send a chat request and return its unread stream."""
        return self.request("POST", "/api/v1/chat", key, json=body, preload_content=False)

    def chat(self, key: str, **body: Any) -> list[dict[str, Any]]:
        """Run a turn and return all its events."""
        answer = self.request("POST", "/api/v1/chat", key, json={"username": "alice", **body})
        assert answer.status == 200, answer.data
        return parse_events(answer.data)

    def find_worker(self, opened: Any) -> int:
        """Return the worker process of an open connection."""
        return self.find_workers([opened])[0]

    def find_workers(self, opened: Sequence[Any]) -> list[int]:
        """Return the worker process of each open connection, at one moment."""
        shown = subprocess.run(
            ["ss", "-tnpH", "src", "127.0.0.1", "and", "sport", f"= :{self.port}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        pids = dict(re.findall(r":(\d+) +users:.*?pid=(\d+)", shown))
        return [int(pids[str(one._connection.sock.getsockname()[1])]) for one in opened]

    def connect_to_each_worker(self, key: str, count: int = 2) -> list[http.client.HTTPConnection]:
        """Return open connections, half of them to each of the two workers.

        To use them later, start the server with ``**KEEP_CONNECTIONS``.
        """
        workers = wait_for(lambda: len(found := self.list_workers()) == 2 and found)
        made = []
        for frozen in workers:
            os.kill(frozen, signal.SIGSTOP)  # so that the other one accepts the next connections
            try:
                for _ in range(count // 2):
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                    connection.request("GET", "/api/v1/im/bots", headers={"X-API-Key": key})
                    assert connection.getresponse().read()
                    made.append(connection)
            finally:
                os.kill(frozen, signal.SIGCONT)
        return made

    def list_workers(self) -> list[int]:
        """Return the processes of the workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def stop(self) -> int:
        """Stop the server like an operator and return its exit code."""
        # Otherwise a worker waits some seconds for another request on an idle connection.
        self.http.clear()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def read_log(self) -> str:
        """Return the server's log."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


#: Types of the last events of a turn, and of a failed one.
ENDED = ["agent_stats", "complete", "message_saved", "end"]
FAILED = ["error", "complete", "message_saved", "end"]


def shown_text(events: Sequence[dict[str, Any]]) -> str:
    """Return the text in a client that applies rewinds."""
    text = ""
    for event in events:
        if event["type"] == "plain" and event["chain_type"] is None:
            text += event["data"]
        elif event["type"] == "rewind":
            text = text[: len(text) - event["data"]["chars"]]
    return text


def parse_events(stream: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream, parsed like existing clients parse it.

    The parser is strict: ``data: `` with its space, only JSON, and otherwise only comments and ids.
    """
    events = []
    for line in stream.decode().split("\n"):
        if line.startswith("data: "):
            assert len(line.encode()) < 256 * 1024
            events.append(orjson.loads(line[6:]))
        else:
            assert line == "" or line.startswith((":", "id: ", "retry: ")), line
    return events


def iter_events(response: urllib3.BaseHTTPResponse) -> Any:
    """Yield the events of an open stream as they arrive."""
    buffer = b""
    while chunk := response.read1():
        buffer += chunk
        *frames, buffer = buffer.split(b"\n\n")
        for frame in frames:
            yield from parse_events(frame)

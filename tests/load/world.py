"""The servers of a scenario, with their data, keys and external state."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import urllib3

from astrbot_api.config.settings import Settings
from astrbot_api.db.keys import PUBLIC_SCOPES
from astrbot_api.db.store import Store, open_store
from astrbot_api.testing.fake_openai import FakeOpenAI

from ..postgres import Postgres, find_postgres
from ..redis_server import RedisServer
from ..servers import Server, create_key, write_config

PASSWORD = "correct horse battery"

#: Short, so that runs of dead workers end quickly.
LEASE_S = 3.0

_AGENT = "titles = false\n"

#: Timeout of a probe after a restart, in seconds.
_PROBE_TIMEOUT_S = 10.0


class Skipped(Exception):
    """The machine lacks a requirement of a scenario, which the text names."""


class World:
    """Everything that one scenario starts. :meth:`close` stops all of it.

    :param shared: Whether state is in PostgreSQL and events are in Redis.
    :param data_dir: Data directory of the server, or None for a temporary one.
    :param hosts: Number of servers. Several servers need a shared state.
    :param configs: Further configs, by id.
    """

    def __init__(
        self,
        *,
        shared: bool = False,
        workers: int = 2,
        data_dir: Path | None = None,
        hosts: int = 1,
        configs: Mapping[str, str] | None = None,
        model_url: str = "",
        provider: str = "",
        app: str = "",
        **environ: str,
    ) -> None:
        self._stack = ExitStack()
        self._workers, self._app = workers, app
        self.postgres: Postgres | None = None
        self.redis: RedisServer | None = None
        try:
            self.data_dir = data_dir or self._make_folder()
            if not model_url:
                model_url = self._stack.enter_context(FakeOpenAI()).base_url
            folders = [self.data_dir, *(self._make_folder() for _ in range(hosts - 1))]
            for folder in folders:
                write_config(folder, model_url, provider=provider, agent=_AGENT)
                for name, text in (configs or {}).items():
                    (folder / "configs" / f"{name}.toml").write_text(text, encoding="utf-8")
            #: Calls of the tool of ``steps_app.py``, one per line.
            self.calls_path = self.data_dir / "calls"
            self._environ = {
                "ASTRBOT_WORKER_LEASE_S": str(LEASE_S),
                "ASTRBOT_ACCESS_LOG": "0",
                "ASTRBOT_MAX_GROWTH_BYTES_PER_KEY": "0",
                "ASTRBOT_MAX_GROWTH_BYTES": "0",
                "ASTRBOT_ADMIN_PASSWORD": PASSWORD,
                "ASTRBOT_GRACEFUL_TIMEOUT_S": "8",
                "ASTRBOT_TEST_CALLS": str(self.calls_path),
                **(self._start_shared() if shared else {}),
                **environ,
            }
            self.database_url = self._environ.get("ASTRBOT_DATABASE_URL", "")
            self.key = create_key(self.data_dir, *PUBLIC_SCOPES, database_url=self.database_url)
            self.server = self.start_server()
            self._others = [self._start(folder) for folder in folders[1:]]
        except BaseException:
            self._stack.close()
            raise
        self._stack.callback(lambda: [host.stop() for host in self.hosts])
        self._token = ""

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if kind is not None:
            print(f"the server's log is kept as {self.keep_log()}")
        self._stack.close()

    def keep_log(self) -> str:
        """Copy the server's log to a permanent place and return the path."""
        descriptor, path = tempfile.mkstemp(prefix="astrbot-torture-", suffix=".log")
        with open(descriptor, "w", encoding="utf-8") as kept:
            kept.write(self.server.read_log())
        return path

    @property
    def hosts(self) -> list[Server]:
        """All servers, beginning with the first one."""
        return [self.server, *self._others]

    def start_server(self) -> Server:
        """Start the first server with this world's state, on a new port."""
        self.server = self._start(self.data_dir)
        return self.server

    def _start(self, data_dir: Path) -> Server:
        more = {"app": self._app} if self._app else {}
        return Server(data_dir, workers=self._workers, **more, **self._environ)

    def kill_server(self) -> None:
        """Kill the master and the workers at once."""
        for process in (self.server.process.pid, *self.server.list_workers()):
            _kill(process)
        self.server.process.wait()
        self.server.http.clear()

    def kill_worker(self, choose: Callable[[list[int]], int]) -> None:
        """Kill a worker at any point. gunicorn starts another one."""
        workers = [one for host in self.hosts for one in host.list_workers()]
        if workers:
            _kill(choose(workers))

    def open_store(self) -> Store:
        """Open the server's state to inspect it."""
        return open_store(Settings(data_dir=self.data_dir, database_url=self.database_url))

    def log_in(self) -> str:
        """Return a token of the owner. An existing token is reused."""
        if not self._token:
            answer = self.server.request(
                "POST", "/api/auth/login", json={"username": "astrbot", "password": PASSWORD}
            )
            assert answer.status == 200, answer.data
            self._token = answer.json()["data"]["token"]
        return self._token

    def administer(self, action: str, body: dict[str, Any]) -> urllib3.BaseHTTPResponse:
        """Send a key management request as the owner."""
        headers = {"Authorization": f"Bearer {self.log_in()}"}
        return self.server.request("POST", f"/api/apikey/{action}", json=body, headers=headers)

    def wait_until_it_serves(self, limit_s: float = 60.0) -> float:
        """Return the seconds until a turn, an upload and a push work again.

        :raises AssertionError: if they do not work in time.
        """
        began = time.monotonic()
        while True:
            said = self._probe()
            if not said:
                return time.monotonic() - began
            assert time.monotonic() - began < limit_s, f"not serving after {limit_s} s: {said}"
            time.sleep(0.1)

    def _probe(self) -> str:
        """Run one turn, one upload and one push. Return the errors."""
        name = secrets.token_hex(8)
        chat = {"username": "probe", "message": f"ECHO {name}", "response_mode": "blocking"}
        umo = f"webchat:FriendMessage:webchat!probe!probe-{name}"
        try:
            for path, options in (
                ("chat", {"json": chat}),
                ("file", {"fields": {"file": ("probe.txt", name.encode())}}),
                ("im/message", {"json": {"umo": umo, "message": name}}),
            ):
                answer = self.server.request(
                    "POST", f"/api/v1/{path}", self.key, timeout=_PROBE_TIMEOUT_S, **options
                )
                if answer.status != 200:
                    return f"{path}: {answer.status} {answer.data[:200]!r}"
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return str(error)
        return ""

    def _make_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="astrbot-torture-"))
        self._stack.callback(lambda: shutil.rmtree(folder, ignore_errors=True))
        return folder

    def _start_shared(self) -> dict[str, str]:
        programs, redis = find_postgres(), shutil.which("redis-server")
        if programs is None or redis is None:
            raise Skipped("there is no PostgreSQL or no Redis (see .ci/install-tools)")
        self.postgres = Postgres(programs)
        self._stack.callback(self.postgres.close)
        self.redis = RedisServer(redis)
        self._stack.callback(self.redis.close)
        return {
            "ASTRBOT_DATABASE_URL": self.postgres.create_database(migrated=False),
            "ASTRBOT_REDIS_URL": self.redis.url,
        }


def parse_json(data: bytes) -> Any:
    """Return the parsed JSON, or None if it is invalid."""
    try:
        return json.loads(data)
    except ValueError:
        return None


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return

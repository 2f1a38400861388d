"""Fixtures for an application in this process with a scripted model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import peewee
import pytest
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.test import TestResponse

from astrbot_api import create_app
from astrbot_api.db import migrating
from astrbot_api.http.state import HttpState, get_http_state
from astrbot_api.owner import passwords
from astrbot_api.testing import ScriptedApp, ScriptedModel, make_app
from astrbot_api.testing.fake_openai import FakeOpenAI
from astrbot_api.testing.scripted_model import Script

from ..astrbot_data import AstrBotData
from ..servers import add_config, parse_events

_MOCK_CONFIG = 'name = "default"\n[provider]\ntype = "mock"\n'


class Api(ScriptedApp):
    """An application with helpers for tests."""

    @property
    def http(self) -> HttpState:
        """The application's objects of the HTTP layer."""
        return get_http_state(self.app)

    def get(self, path: str, **options: Any) -> TestResponse:
        """GET a path with the key, and with further headers if there are any."""
        return self._open("GET", path, **options)

    def post(self, path: str, **options: Any) -> TestResponse:
        """POST to a path with the key."""
        return self._open("POST", path, **options)

    def put(self, path: str, **options: Any) -> TestResponse:
        """PUT to a path with the key."""
        return self._open("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> TestResponse:
        """PATCH a path with the key."""
        return self._open("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        """DELETE a path with the key."""
        return self._open("DELETE", path, **options)

    def _open(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **options: Any
    ) -> TestResponse:
        named = {"X-API-Key": self.key, **(headers or {})}
        return self.client.open(path, method=method, headers=named, **options)

    def post_raw(
        self, body: bytes, content_type: str = "application/json", path: str = "/api/v1/chat"
    ) -> TestResponse:
        """Send bytes as the body of a request."""
        return self.post(path, data=body, content_type=content_type)

    def chat(self, message: Any = "Hello", **body: Any) -> list[dict[str, Any]]:
        """Run one turn and return its events, parsed strictly."""
        answer = self.post_chat(**{"username": "alice", "message": message, **body})
        assert answer.status_code == 200, answer.get_data()
        return parse_events(answer.get_data())

    def count_rows(self, table: str) -> int:
        """Count the rows of a table."""
        with self.state.db.read() as db:
            return int(db.execute_sql(f"SELECT COUNT(*) FROM {table}").fetchone()[0])


@cache
def _make_tables() -> tuple[peewee.SqliteDatabase, list[str]]:
    """Return a database in memory with all tables, and the names of the migrations."""
    db = peewee.SqliteDatabase(":memory:", thread_safe=False, check_same_thread=False)
    db.connect()
    return db, migrating.upgrade(db)


@pytest.fixture(scope="module", autouse=True)
def _copied_tables() -> Iterator[None]:
    """Copy the tables of a new SQLite file: creating them takes a third of an app's start."""
    tables, names = _make_tables()
    real = migrating.upgrade

    def upgrade(db: peewee.Database) -> list[str]:
        if not isinstance(db, peewee.SqliteDatabase) or db.get_tables():
            return real(db)
        tables.connection().backup(db.connection())
        return list(names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrating, "upgrade", upgrade)
        yield


@pytest.fixture
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash with one round, because the tests do not test argon2."""
    cheap = passwords.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(passwords, "_HASHER", cheap)


@pytest.fixture
def new_database() -> Callable[[], dict[str, Any]]:
    """Return the settings of a new database for one application: a SQLite file."""
    return dict


@pytest.fixture
def make_api(
    tmp_path: Path, new_database: Callable[[], dict[str, Any]]
) -> Iterator[Callable[..., Api]]:
    """Create applications with the test's settings. They are closed at its end."""
    made: list[Api] = []

    def make(config: str = _MOCK_CONFIG, **settings: Any) -> Api:
        folder = tmp_path / f"app{len(made)}"
        add_config(folder, config)
        database = {f"ASTRBOT_{name.upper()}": value for name, value in new_database().items()}
        made.append(Api(create_app({"ASTRBOT_DATA_DIR": str(folder), **database, **settings})))
        return made[-1]

    yield make
    for api in made:
        api.close()


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    """An application with the default settings and the scripted model."""
    return make_api()


@pytest.fixture
def make_scripted(
    tmp_path: Any, new_database: Callable[[], dict[str, Any]]
) -> Iterator[Callable[..., tuple[Api, ScriptedModel]]]:
    """Create an application whose model is scripted, usually by a function."""
    made: list[Api] = []

    def make(
        answer: Script,
        *,
        agent: str = "titles = false",
        provider: str = "",
        **options: Any,
    ) -> tuple[Api, ScriptedModel]:
        app = make_app(
            answer,
            config=f"{provider}\n[agent]\n{agent}\n",
            data_dir=tmp_path,
            **new_database(),
            **options,
        )
        made.append(Api(app.app, app.model, app.key))
        return made[-1], app.model

    yield make
    for api in made:
        api.close()


@pytest.fixture
def data(tmp_path: Path) -> Iterator[AstrBotData]:
    """An empty data directory of an AstrBot."""
    made = AstrBotData(tmp_path / "astrbot")
    yield made
    made.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Api], int]]:
    """Serve an application with Flask's threaded server and return its port."""
    servers: list[tuple[BaseWSGIServer, threading.Thread]] = []

    def start(api: Api) -> int:
        server = make_server("127.0.0.1", 0, api.app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return int(server.server_port)

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def passing(make_api: Callable[..., Api], fake_model: FakeOpenAI) -> Api:
    """An application whose model endpoint records its requests."""
    fake_model.reset()
    return make_api(
        f'[provider]\ntype = "openai"\nbase_url = "{fake_model.base_url}"\nmodel = "m"\n'
        'max_retries = 0\napi_key = "k"\nextra = {max_tokens = 50, temperature = 1.5}\n'
        "[agent]\ntitles = false\n[tools]\nallow = []\n"
    )

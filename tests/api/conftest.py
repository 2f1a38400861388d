"""An application in this process, with a model that is a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from astrbot_api import AstrBotAPI, Tool, create_app
from astrbot_api.agent.provider import Delta, ModelMessage, ModelOptions, ToolSpec
from astrbot_api.db import keys
from astrbot_api.http.state import HttpState, get_http_state
from astrbot_api.state import AppState

from ..servers import parse_events

_MOCK_CONFIG = 'name = "default"\n[provider]\ntype = "mock"\n'


@dataclass
class Api:
    """A running application and a key with all public scopes."""

    app: Flask
    state: AppState
    client: FlaskClient
    key: str

    @property
    def http(self) -> HttpState:
        """What only HTTP has."""
        return get_http_state(self.app)

    def create_key(self, *scopes: str) -> str:
        """Make one more key."""
        _, secret = self.state.db.write(
            lambda db: keys.create_key(db, "test", scopes, created_by="test")
        )
        return secret

    def get(self, path: str, **options: Any) -> TestResponse:
        """GET with the key."""
        return self.client.get(path, headers={"X-API-Key": self.key}, **options)

    def post_chat(self, key: str = "", **body: Any) -> TestResponse:
        """Send a chat request; a stream is read to its end."""
        headers = {"X-API-Key": key or self.key}
        return self.client.post("/api/v1/chat", headers=headers, json=body)

    def post_raw(self, body: bytes, content_type: str = "application/json") -> TestResponse:
        """Send bytes as the body of a chat request."""
        headers = {"X-API-Key": self.key}
        return self.client.post(
            "/api/v1/chat", headers=headers, data=body, content_type=content_type
        )

    def chat(self, message: Any = "Hello", **body: Any) -> list[dict[str, Any]]:
        """Have one turn and return its events."""
        answer = self.post_chat(**{"username": "alice", "message": message, **body})
        assert answer.status_code == 200, answer.get_data()
        return parse_events(answer.get_data())

    def count_rows(self, table: str) -> int:
        """Count the rows of a table."""
        with self.state.db.read() as db:
            return int(db.execute_sql(f"SELECT COUNT(*) FROM {table}").fetchone()[0])


@pytest.fixture
def new_database() -> Callable[[], dict[str, Any]]:
    """Return the settings of a database for one application: its own SQLite file."""
    return dict


@pytest.fixture
def make_api(
    tmp_path: Path, new_database: Callable[[], dict[str, Any]]
) -> Iterator[Callable[..., Api]]:
    """Make applications with settings of the test's own; they are closed at its end."""
    made: list[Api] = []

    def make(config: str = _MOCK_CONFIG, **settings: Any) -> Api:
        folder = tmp_path / f"app{len(made)}"
        (folder / "configs").mkdir(parents=True)
        (folder / "configs" / "default.toml").write_text(config, encoding="utf-8")
        database = {f"ASTRBOT_{name.upper()}": value for name, value in new_database().items()}
        app = create_app({"ASTRBOT_DATA_DIR": str(folder), **database, **settings})
        state: AppState = app.extensions["astrbot_api"]
        api = Api(app, state, app.test_client(), "")
        api.key = api.create_key(*keys.PUBLIC_SCOPES)
        made.append(api)
        return api

    yield make
    for api in made:
        api.state.close()


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    """An application with the default settings and the scripted model."""
    return make_api()


_SCRIPTED = 'name = "default"\n[provider]\nid = "scripted"\ntype = "mock"\n'


class Scripted:
    """A model that says what a test tells it to, and notes what it was given."""

    def __init__(self, answer: Callable[[list[ModelMessage]], Iterator[Delta]]) -> None:
        self.answer = answer
        self.seen: list[list[ModelMessage]] = []

    def stream(
        self,
        messages: Sequence[ModelMessage],
        tools: Sequence[ToolSpec],
        options: ModelOptions,
    ) -> Iterator[Delta]:
        self.seen.append(list(messages))
        yield from self.answer(list(messages))


@pytest.fixture
def make_scripted(
    tmp_path: Any, new_database: Callable[[], dict[str, Any]]
) -> Iterator[Callable[..., tuple[Api, Scripted]]]:
    """Make an application whose model is a Python function."""
    made: list[Api] = []

    def make(
        answer: Callable[[list[ModelMessage]], Iterator[Delta]],
        *,
        agent: str = "titles = false",
        provider: str = "",
        tools: Sequence[Tool] = (),
        **settings: Any,
    ) -> tuple[Api, Scripted]:
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs" / "default.toml").write_text(
            f"{_SCRIPTED}{provider}\n[agent]\n{agent}\n"
        )
        model = Scripted(answer)
        extension = AstrBotAPI(
            providers={"scripted": model},
            tools=tools,
            data_dir=tmp_path,
            **new_database(),
            **settings,
        )
        app = create_app(api=extension)
        api = Api(app, app.extensions["astrbot_api"], app.test_client(), "")
        api.key = api.create_key(*keys.PUBLIC_SCOPES)
        made.append(api)
        return api, model

    yield make
    for api in made:
        api.state.close()

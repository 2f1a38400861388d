"""Application with a scripted model, for tests."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Self

import orjson
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ..app import create_app
from ..db import keys
from ..extension import AstrBotAPI
from ..http.state import EXTENSION
from ..state import AppState
from .scripted_model import Script, ScriptedModel

_PROVIDER = 'name = "default"\n[provider]\nid = "scripted"\ntype = "mock"\n'


class ScriptedApp:
    """An application and a key with all public scopes, created by :func:`make_app`.

    As a context manager it ends the turns and closes the database on exit.
    """

    def __init__(
        self,
        app: Flask,
        model: ScriptedModel | None = None,
        key: str = "",
        folder: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        self.app = app
        self._folder = folder
        self.client: FlaskClient = app.test_client()
        self.state: AppState = app.extensions[EXTENSION]
        #: The scripted model, which records its calls.
        self.model = model or ScriptedModel()
        #: The secret of the key.
        self.key = key or self.create_key(*keys.PUBLIC_SCOPES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the turns, close the database, remove a temporary data directory."""
        self.state.close()
        if self._folder is not None:
            self._folder.cleanup()

    def create_key(self, *scopes: str) -> str:
        """Create another key and return its secret."""
        _, secret = self.state.db.write(
            lambda db: keys.create_key(db, "test", scopes, created_by="test")
        )
        return secret

    def get(self, path: str, **options: Any) -> TestResponse:
        """GET a path with the key."""
        return self.client.get(path, headers={"X-API-Key": self.key}, **options)

    def post_chat(self, key: str = "", **body: Any) -> TestResponse:
        """POST a body to ``/api/v1/chat`` with the key."""
        headers = {"X-API-Key": key or self.key}
        return self.client.post("/api/v1/chat", headers=headers, json=body)

    def chat(self, message: Any = "Hello", **body: Any) -> list[dict[str, Any]]:
        """Run one turn and return the events of its stream.

        :param message: Text or segments.
        :param body: Further fields of the request. ``username`` is ``alice`` by default.
        :raises AssertionError: when the response is an error.
        """
        answer = self.post_chat(**{"username": "alice", "message": message, **body})
        content = answer.get_data()
        if answer.status_code != 200:
            raise AssertionError(f"/api/v1/chat returned {answer.status}: {content.decode()}")
        lines = content.split(b"\n")
        return [orjson.loads(line[6:]) for line in lines if line.startswith(b"data: ")]


def make_app(
    model: ScriptedModel | Script = "Hello",
    *,
    config: str = "[agent]\ntitles = false\n",
    data_dir: Path | None = None,
    **options: Any,
) -> ScriptedApp:
    """Create an application with a scripted model.

    ::

        with make_app("Four.") as app:
            events = app.chat("What is two and two?")
            assert app.model.seen[0][-1]["content"] == "What is two and two?"

    :param model: The model, or its only script.
    :param config: Text after ``[provider]`` in ``configs/default.toml``. Session titles
        are off by default, because they are calls to the model too.
    :param data_dir: The data directory. An existing ``configs/default.toml`` is kept.
        By default a temporary directory, removed with the application.
    :param options: Arguments of :class:`~astrbot_api.AstrBotAPI`: tools, plugins, settings.
    """
    if not isinstance(model, ScriptedModel):
        model = ScriptedModel(model)
    folder = None
    if data_dir is None:
        folder = tempfile.TemporaryDirectory(prefix="astrbot-api-")
        data_dir = Path(folder.name)
    path = data_dir / "configs" / "default.toml"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_PROVIDER + config, encoding="utf-8")
    api = AstrBotAPI(data_dir=data_dir, **{"providers": {"scripted": model}, **options})
    return ScriptedApp(create_app(api=api), model, folder=folder)

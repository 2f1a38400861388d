"""A real AstrBot, in an environment of its own, for tests that stand in front of it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import urllib3

from ..waiting import wait_for


class RealAstrBot:
    """An AstrBot whose model is an endpoint of the tests.

    :param program: The command ``astrbot``; needs Python 3.12.
    """

    def __init__(self, program: str, home: Path, model_url: str) -> None:
        self._home = home
        self.port = _find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environ = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
        }
        self._command = [program]
        self._run_once("init", "--yes")
        with self._start():
            self.password = self._find_password()
        self._configure(model_url)
        self._process = self._start()
        self._find_started()
        self.key = self._make_key()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)

    def send(self, method: str, path: str, token: str, **options: Any) -> Any:
        """Send a request and return the envelope's ``data``."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = urllib3.request(method, self.url + path, headers=headers, timeout=60, **options)
        return answer.json()["data"]

    def _run_once(self, *arguments: str) -> None:
        subprocess.run(
            [*self._command, *arguments], cwd=self._home, env=self._environ, timeout=120,
            check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def _start(self) -> subprocess.Popen[bytes]:
        self._log = self._home / "log.txt"
        with self._log.open("wb") as log:
            return _Ended(
                [*self._command, "run", "--port", str(self.port)],
                cwd=self._home, env=self._environ, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def _find_started(self) -> None:
        wait_for(lambda: "Running on" in self._log.read_text(errors="replace"))

    def _find_password(self) -> str:
        self._find_started()
        said = self._log.read_text(errors="replace")
        return re.findall(r"Initial password: (\S+)", said)[0]

    def _configure(self, model_url: str) -> None:
        path = self._home / "data" / "cmd_config.json"
        config = json.loads(path.read_text(encoding="utf-8-sig"))
        config["provider_sources"] = [{
            "id": "fake", "provider": "openai", "type": "openai_chat_completion",
            "provider_type": "chat_completion", "key": ["sk-fake"], "api_base": model_url,
            "timeout": 120,
        }]  # fmt: skip
        config["provider"] = [{
            "id": "fake/mock", "enable": True, "provider_source_id": "fake", "model": "mock",
            "modalities": ["text", "image", "tool_use"],
        }]  # fmt: skip
        config["provider_settings"]["default_provider_id"] = "fake/mock"
        path.write_text(json.dumps(config), encoding="utf-8")

    def _make_key(self) -> str:
        login = {"username": "astrbot", "password": self.password}
        token = self.send("POST", "/api/v1/auth/login", "", json=login)["token"]
        body = {"name": "gateway", "scopes": ["chat", "config", "file", "im"]}
        return str(self.send("POST", "/api/v1/api-keys", token, json=body)["api_key"])


class _Ended(subprocess.Popen[bytes]):
    """A process that ends with its block."""

    def __exit__(self, *error: Any) -> None:
        self.terminate()
        super().__exit__(*error)


def _find_free_port() -> int:
    """Return a port for a program that makes its socket itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

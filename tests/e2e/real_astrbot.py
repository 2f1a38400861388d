"""A real AstrBot in its own environment, for tests of the gateway."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import urllib3

from ..servers import parse_events
from ..waiting import wait_for


class RealAstrBot:
    """An AstrBot whose model is a test endpoint.

    :param program: The command ``astrbot``. It needs Python 3.12.
    """

    def __init__(self, program: str, home: Path, model_url: str) -> None:
        self._home = home
        self.port = _find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environ = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
        }
        self._command = [program]
        # 4.25 would download its pages, which the tests do not use.
        version = subprocess.check_output([program, "--version"], env=self._environ, text=True)
        self.version = version.split()[-1].removeprefix("v")
        pages = home / "data" / "dist" / "assets"
        pages.mkdir(parents=True)
        (pages / "version").write_text(f"v{self.version}")
        (home / ".astrbot").touch()
        self.password = ""
        with self._start():
            self._find_started()
        self._configure(model_url)
        self._process = self._start()
        try:
            self._find_started()
            self.key = self._make_key()
        except BaseException:
            self.close()
            raise

    @property
    def is_old(self) -> bool:
        """Whether it is the recorded version, which has fewer features."""
        return self.version.startswith("4.25")

    def close(self) -> None:
        """Stop the AstrBot."""
        self._process.terminate()
        self._process.wait(30)

    def send(self, method: str, path: str, token: str, **options: Any) -> Any:
        """Send a request and return the envelope's ``data``."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = urllib3.request(method, self.url + path, headers=headers, timeout=60, **options)
        return answer.json()["data"]

    def send_chat(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Send a message without the gateway and return the events."""
        headers = {"X-API-Key": self.key}
        url = f"{self.url}/api/v1/chat"
        answer = urllib3.request("POST", url, headers=headers, json=body, timeout=60)
        return parse_events(answer.data)

    def _start(self) -> subprocess.Popen[bytes]:
        self._log = self._home / "log.txt"
        with self._log.open("wb") as log:
            return _Ended(
                [*self._command, "run", "--port", str(self.port)],
                cwd=self._home, env=self._environ, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def _find_started(self) -> None:
        wait_for(lambda: "Running on" in self._log.read_text(errors="replace"))
        # 4.25 generates a new one at each start until the owner changes it.
        said = re.findall(r"Initial password: (\S+)", self._log.read_text(errors="replace"))
        self.password = said[-1] if said else self.password

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
        token = self.send("POST", "/api/auth/login", "", json=login)["token"]
        scopes = ["chat", "config", "file", "im", *([] if self.is_old else ["data"])]
        body = {"name": "gateway", "scopes": scopes}
        path = "/api/apikey/create" if self.is_old else "/api/v1/api-keys"
        return str(self.send("POST", path, token, json=body)["api_key"])


class _Ended(subprocess.Popen[bytes]):
    """A process that ends with its block."""

    def __exit__(self, *error: Any) -> None:
        self.terminate()
        super().__exit__(*error)


def _find_free_port() -> int:
    """Return a free port for a program that opens its own socket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

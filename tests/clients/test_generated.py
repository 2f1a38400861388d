"""Clients that are generated from the OpenAPI document work, and cause no warnings."""

from __future__ import annotations

import compileall
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..servers import MOCK_CONFIG, Server, add_config, create_key
from .npm_packages import NPM, find_node

pytestmark = pytest.mark.e2e

#: Includes this environment's programs, because a generator formats its code with ruff.
_PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

#: CommonJS, because the generated modules import each other without an extension.
_TSCONFIG = {
    "compilerOptions": {
        "strict": True, "target": "es2022", "module": "commonjs", "moduleResolution": "node10",
        "lib": ["es2023", "dom", "dom.iterable", "dom.asynciterable"], "outDir": "out",
    },
    "include": ["types.ts", "sdk"],
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("generated")
    add_config(data_dir, MOCK_CONFIG)
    with Server(data_dir) as made:
        yield made


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    return create_key(server.data_dir, "chat", "file")


@pytest.fixture(scope="module")
def folder(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the document."""
    made = tmp_path_factory.mktemp("clients")
    document = server.request("GET", "/api/v1/openapi.json").data
    (made / "openapi.json").write_bytes(document)
    return made


@pytest.fixture
def npm(folder: Path) -> Path:
    """Link the installed npm packages into the folder."""
    find_node("typescript")
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(NPM / "node_modules")
    return folder


def run(folder: Path, *command: str) -> str:
    """Run a program in the folder and return its output."""
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=120, check=False, env={**os.environ, "NO_COLOR": "1", "PATH": _PATH},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def run_npm(folder: Path, program: str, *arguments: str) -> str:
    return run(folder, str(folder / "node_modules" / ".bin" / program), *arguments)


def test_redocly_finds_no_fault_in_the_document(npm: Path) -> None:
    # The rule does not know status 101 of an upgrade.
    found = run_npm(npm, "redocly", "lint", "openapi.json", "--skip-rule=operation-2xx-response")
    assert "Your API description is valid" in found
    assert "You have" not in found, found  # warnings


def test_generated_typescript_compiles_strictly_and_works(
    npm: Path, server: Server, key: str
) -> None:
    run_npm(npm, "openapi-typescript", "openapi.json", "-o", "types.ts")
    arguments = ("-i", "openapi.json", "-o", "sdk", "-c", "@hey-api/client-fetch")
    assert "warn" not in run_npm(npm, "openapi-ts", *arguments).lower()
    (npm / "tsconfig.json").write_text(json.dumps(_TSCONFIG), encoding="utf-8")
    run_npm(npm, "tsc", "-p", ".")
    (npm / "out" / "package.json").write_text('{"type": "commonjs"}', encoding="utf-8")
    job = json.dumps({"url": server.url, "key": key, "folder": str(npm / "out" / "sdk")})
    done = json.loads(run(npm, "node", str(NPM / "generated.mjs"), job))
    assert done["fetchChat"] == "Hello from mock."
    assert done["fetchSessions"] == 1
    assert done["file"] == "Hello"
    assert (done["types"][0], done["types"][-1]) == ("session_id", "end")
    assert done["text"] == "Hello from mock."


_PYTHON = """
from client import AuthenticatedClient
from client.api.chat import send_chat_message
from client.api.sessions import list_chat_sessions
from client.models import ChatRequest

asked = {{"username": "bob", "message": "Hello", "response_mode": "blocking"}}
with AuthenticatedClient(base_url="{url}", token="{key}") as client:
    print(send_chat_message.sync(client=client, body=ChatRequest.from_dict(asked)).data.message)
    print(len(list_chat_sessions.sync(client=client, username="bob").data.sessions))
"""


def test_a_generated_python_client_works(folder: Path, server: Server, key: str) -> None:
    pytest.importorskip("openapi_python_client")
    printed = run(
        folder, sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json",
        "--output-path", "client", "--meta", "none", "--overwrite", "--fail-on-warning",
    )  # fmt: skip
    assert "warning" not in printed.lower()
    assert compileall.compile_dir(folder / "client", quiet=1)
    (folder / "ask.py").write_text(_PYTHON.format(url=server.url, key=key), encoding="utf-8")
    assert run(folder, sys.executable, "ask.py").splitlines() == ["Hello from mock.", "1"]

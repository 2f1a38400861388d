"""pytest plugin: options and fixtures for tests of servers and clients.

pytest loads it whenever this package is installed, so it imports little. It is documented in
``docs/client-authors.rst``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class AstrBotTarget:
    """A server and its key."""

    url: str
    key: str
    #: Whether errors must have HTTP error statuses. AstrBot responds with 200.
    strict: bool = False


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that select the server for ``astrbot_api.testing.contract``."""
    group = parser.getgroup("astrbot")
    group.addoption("--astrbot-url", help="Address of the server, without /api/v1.")
    group.addoption("--astrbot-key", help="A key with the scopes chat, config, file and im.")
    group.addoption(
        "--astrbot-strict", action="store_true", help="Errors must have HTTP statuses, not 200."
    )


@pytest.fixture(scope="session")
def astrbot_target(request: pytest.FixtureRequest) -> AstrBotTarget:
    """The server selected by the options. Without them, the test is skipped."""
    url, key = request.config.getoption("--astrbot-url"), request.config.getoption("--astrbot-key")
    if not url or not key:
        pytest.skip("give --astrbot-url and --astrbot-key")
    strict = bool(request.config.getoption("--astrbot-strict"))
    return AstrBotTarget(str(url).rstrip("/"), str(key), strict)


@pytest.fixture(scope="session")
def astrbot_mock_server() -> Iterator[AstrBotTarget]:
    """A server in this process with the mock model, for tests of a client."""
    from werkzeug.serving import make_server

    from .application import make_app

    with make_app(config='model = "mock"\n[agent]\ntitles = false\n', providers={}) as app:
        server = make_server("127.0.0.1", 0, app.app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield AstrBotTarget(f"http://127.0.0.1:{server.port}", app.key)
        server.shutdown()
        thread.join()
        server.server_close()

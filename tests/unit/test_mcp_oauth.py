"""Servers with OAuth: the session gets tokens with the config's client."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

pytest.importorskip("mcp", reason="the extra mcp is not installed: make test")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from astrbot_api.mcp.sidecar.session import ServerSession

from ..waiting import LIMIT_S


class _Handler(BaseHTTPRequestHandler):
    """An MCP server and its authorization server, at one address."""

    protocol_version = "HTTP/1.1"
    server: _Site

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def answer(self, value: Any = None, status: int = 200, **headers: str) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        url = self.server.url
        if self.path.startswith("/.well-known/oauth-protected-resource"):
            self.answer(
                {"resource": f"{url}/mcp", "authorization_servers": [self.server.named_issuer]}
            )
        elif self.path.startswith("/.well-known/oauth-authorization-server"):
            self.answer(
                {
                    "issuer": self.server.named_issuer,
                    "authorization_endpoint": f"{url}/authorize",
                    "token_endpoint": f"{url}/token",
                    "response_types_supported": ["code"],
                    "grant_types_supported": ["client_credentials", "refresh_token"],
                    "token_endpoint_auth_methods_supported": ["client_secret_basic"],
                }
            )
        else:
            self.answer(status=405)

    def do_DELETE(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/token":
            form = {key: value[0] for key, value in parse_qs(body.decode()).items()}
            self.server.asked.append((form, self.headers.get("Authorization", "")))
            self.answer(*self.server.give_token(form))
        elif self.headers.get("Authorization") != f"Bearer {self.server.token}":
            where = f"{self.server.url}/.well-known/oauth-protected-resource"
            self.answer(status=401, WWW_Authenticate=f'Bearer resource_metadata="{where}"')
        else:
            self.speak(json.loads(body))

    def speak(self, message: dict[str, Any]) -> None:
        """Respond to an MCP message."""
        results: dict[str, Any] = {
            "initialize": {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "x", "version": "1"},
            },
            "tools/list": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]},
        }
        answer = {"jsonrpc": "2.0", "id": message.get("id")}
        if "id" not in message:
            self.answer(status=202)
        elif message["method"] in results:
            self.answer({**answer, "result": results[message["method"]]})
        else:
            self.answer({**answer, "error": {"code": -32601, "message": "no such method"}})


class _Site(ThreadingHTTPServer):
    """Shared state of the handler's instances.

    :ivar asked: Form and authorization of each token request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.named_issuer = self.url
        self.token = "fresh"
        self.asked: list[tuple[dict[str, str], str]] = []
        self.refusing = False

    def give_token(self, form: Mapping[str, str]) -> tuple[Any, int]:
        if self.refusing:
            return {"error": "invalid_grant"}, 400
        token = {"access_token": self.token, "token_type": "Bearer", "expires_in": 3600}
        return token, 200


@pytest.fixture
def site() -> Iterator[_Site]:
    site = _Site()
    thread = threading.Thread(target=site.serve_forever, args=(0.01,))
    thread.start()
    yield site
    site.shutdown()
    thread.join()
    site.server_close()


def run(site: _Site, **oauth: str) -> ServerSession:
    """Run a session until it is up, or down for the first time."""
    table = {"issuer": site.url, "client_id": "us", "client_secret": "", **oauth}
    definition = {"name": "odd", "url": f"{site.url}/mcp", "headers": {}, "oauth": table}

    async def scenario() -> ServerSession:
        known = asyncio.Event()
        session = ServerSession(definition, known.set)
        try:
            await asyncio.wait_for(known.wait(), LIMIT_S)
            session.seen = session.status  # type: ignore[attr-defined]
        finally:
            await session.stop()
        return session

    return asyncio.run(scenario())


def is_up(session: ServerSession) -> bool:
    return session.seen == "running" and len(session.offers["tools"]) == 1  # type: ignore[attr-defined]


def test_a_client_with_a_secret_gets_a_token(site: _Site) -> None:
    assert is_up(run(site, client_secret="s3cret-word", scope="read"))
    ((form, authorization),) = site.asked
    assert form["grant_type"] == "client_credentials"
    assert authorization == "Basic " + base64.b64encode(b"us:s3cret-word").decode()


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_client_with_a_key_signs(site: _Site, tmp_path: Path, key: Any, algorithm: str) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    assert is_up(run(site, private_key_file=str(path)))
    form, _ = site.asked[0]
    head, said = (
        json.loads(base64.urlsafe_b64decode(part + "=="))
        for part in form["client_assertion"].split(".")[:2]
    )
    assert head["alg"] == algorithm
    assert (said["iss"], said["aud"]) == ("us", site.url)


def test_stored_tokens_are_used_and_renewed(site: _Site, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text('{"access_token": "fresh", "refresh_token": "again"}')
    assert is_up(run(site, token_file=str(path)))
    assert site.asked == []
    site.token = "newer"
    assert is_up(run(site, token_file=str(path)))
    ((form, _),) = site.asked
    assert (form["grant_type"], form["refresh_token"]) == ("refresh_token", "again")
    kept = json.loads(path.read_text())
    # The response has no new refresh token, so the old one is kept.
    assert (kept["access_token"], kept["refresh_token"]) == ("newer", "again")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"access_token": "old", "refresh_token": "again"}', "cannot be refreshed; sign in again"),
        ('{"access_token": "old"}', "rejected the tokens; sign in again"),
        ("nonsense", "must be the JSON response of a token endpoint"),
        (None, "No such file"),
    ],
)
def test_what_needs_a_person_is_in_the_log(
    site: _Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | None, said: str
) -> None:
    site.refusing = True
    path = tmp_path / "tokens.json"
    if content is not None:
        path.write_text(content)
    assert not is_up(run(site, token_file=str(path)))
    assert said in caplog.text
    assert 'again"' not in caplog.text


@pytest.mark.parametrize("way", ["client_secret", "token_file"])
def test_nothing_secret_goes_to_another_authorization_server(
    site: _Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    site.named_issuer = site.url.replace("127.0.0.1", "localhost")
    path = tmp_path / "tokens.json"
    path.write_text('{"access_token": "old", "refresh_token": "again"}')
    given = {"client_secret": "s3cret-word", "token_file": str(path)}
    assert not is_up(run(site, **{way: given[way]}))
    assert site.asked == []
    assert "issuer" in caplog.text
    assert "s3cret-word" not in caplog.text

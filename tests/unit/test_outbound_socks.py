"""Connections through a SOCKS proxy."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest

from astrbot_api.runtime.addresses import find_proxy

from .loopback_proxy import Relay, pump
from .openai_asking import HELLO, ask, provider_of, text_of
from .raw_endpoint import RawEndpoint, answering


class SocksProxy(Relay):
    """SOCKS 5 without a login (Source: RFC 1928). Forwards every host to one loopback port."""

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client.recv(2 + 255)
            client.sendall(b"\x05\x00")
            _, _, _, kind = client.recv(4)
            size = client.recv(1)[0] if kind == 3 else 4
            host = client.recv(size)
            client.recv(2)
            self.asked.append(host.decode() if kind == 3 else socket.inet_ntoa(host))
            server = socket.create_connection(("127.0.0.1", self.port))
            self._open.append(server)
            client.sendall(struct.pack("!BBBB4sH", 5, 0, 0, 1, bytes(4), 0))
            self._start(pump, server, client)
            pump(client, server)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("scheme", ["socks5h", "socks"])
def test_models_are_asked_through_a_socks_proxy(clean: pytest.MonkeyPatch, scheme: str) -> None:
    with RawEndpoint(answering(*HELLO)) as endpoint:
        port = int(endpoint.base_url.rsplit(":", 1)[1].split("/")[0])
        with SocksProxy(port) as proxy:
            clean.setenv("ALL_PROXY", f"{scheme}://{proxy.host}")
            assert text_of(ask(provider_of("http://model.example.invalid/v1"))) == "Hello"
            assert proxy.asked == ["model.example.invalid"]


def test_the_proxy_of_a_provider_wins_over_the_environments(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with RawEndpoint(answering(*HELLO)) as endpoint:
        port = int(endpoint.base_url.rsplit(":", 1)[1].split("/")[0])
        with SocksProxy(port) as proxy:
            own = f"socks5h://{proxy.host}"
            provider = provider_of("http://model.example.invalid/v1", proxy=own)
            assert text_of(ask(provider)) == "Hello"


def test_which_proxy_a_url_is_asked_through(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("ALL_PROXY", "socks5://p:1")
    assert find_proxy("http://a.test/") == "socks5://p:1"
    clean.setenv("HTTPS_PROXY", "http://q:1")
    assert find_proxy("https://a.test/") == "http://q:1"
    clean.setenv("NO_PROXY", "a.test,10.0.0.0/8")
    assert find_proxy("http://a.test/") is None
    assert find_proxy("http://10.1.2.3/") is None
    assert find_proxy("http://localhost:1/") is None
    assert find_proxy("http://b.test/", "") is None
    assert find_proxy("http://a.test/", "http://r:1") == "http://r:1"

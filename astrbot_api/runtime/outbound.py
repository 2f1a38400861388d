"""HTTP client for other hosts: proxies, address checks, timeouts, cancellation.

Models, messengers, webhooks, ``http_get`` and the command line connect through
:class:`Outbound`. The callers interpret responses and decide about retries.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from http.client import InvalidURL
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import Url, parse_url

from .addresses import find_proxy, resolve
from .calls import Call, OutboundError
from .connections import ROUTE, Pool, Route, TLSPool, split_proxy
from .per_process import PerProcess
from .threads import let_others_run

__all__ = ["ACCEPT_ENCODING", "Answer", "Call", "Outbound", "OutboundError"]

#: Accepted content encodings. A read decompresses no more than it returns.
ACCEPT_ENCODING: str = urllib3.make_headers(accept_encoding=True)["accept-encoding"]

_PIECE_BYTES = 65_536

#: Received bytes after which other greenlets run, and what a read counts beside its bytes. Reading
#: from a fast host, or decompressing, never waits, so it never switches by itself.
_TURN_BYTES = 16_384
_READ_COST_BYTES = 512

#: Maximum number of origins with a cached proxy and connections.
_MAX_ORIGINS = 1000

#: Maximum length of a URL, of which hundreds are cached. Most servers accept 8,000 characters.
MAX_URL_CHARS = 16_000

#: Shared, because urllib3 would create one for each request.
_NO_RETRIES = urllib3.Retry.from_int(False, redirect=False)


# urllib3 takes 70 us to parse a URL, and a model's URL is the same in every turn.
@lru_cache(maxsize=256)
def _read_url(url: str) -> Url:
    return parse_url(url)


@lru_cache(maxsize=256)
def _limit(connect_s: float, read_s: float) -> urllib3.Timeout:
    return urllib3.Timeout(connect=connect_s, read=read_s)


@dataclass(slots=True)
class _Kept:
    """Connections of a process: managers by proxy, and direct pools by proxy and origin."""

    managers: dict[str | None, urllib3.PoolManager] = field(default_factory=dict)
    pools: dict[tuple[str | None, str], HTTPConnectionPool] = field(default_factory=dict)


class Answer:
    """A response of any status, with an unread body.

    :ivar headers: Case-insensitive mapping of headers.
    """

    def __init__(
        self, response: urllib3.BaseHTTPResponse, call: Call, read_timeout_s: float
    ) -> None:
        self._response = response
        self._call = call
        self._read_timeout_s = read_timeout_s
        # Bound methods are cached, because a model's stream reads thousands of times. For the same
        # reason, urllib3's buffer of decoded bytes is only used if there is something to decode.
        self._read = response.read1
        if "Content-Encoding" not in response.headers:
            self._read = partial(response.read1, decode_content=False)
        self._check = call.check
        if call.deadline is None and call.cancel is not None:
            self._check = call.cancel.raise_if_cancelled
        self._unpaused_bytes = 0
        self.status = response.status
        self.headers = response.headers

    def read(self, size_bytes: int) -> bytes:
        """Wait for the next bytes of the decompressed body, and return none at its end.

        :param size_bytes: Maximum number of bytes to return.
        :raises OutboundError: when the read fails or times out.
        """
        if self._call.deadline is not None:
            self._call.limit_wait(self._call.left_s(self._read_timeout_s))
        if self._unpaused_bytes >= _TURN_BYTES:
            self._unpaused_bytes = 0
            let_others_run()
        try:
            data = self._read(size_bytes)
        except (HTTPError, OSError, ValueError) as error:
            self._check()
            raise _explain(error) from error
        self._check()
        self._unpaused_bytes += len(data) + _READ_COST_BYTES
        return data

    def read_all(self, max_bytes: int, limit_s: float | None = None) -> tuple[bytes, bool]:
        """Return the body up to ``max_bytes``, and whether it is longer.

        :param limit_s: Maximum time for the whole body, in seconds. The default is the read
            timeout, since a body that arrives byte by byte is never silent.
        :raises OutboundError: when a read fails or the time limit is exceeded.
        """
        limit_s = self._read_timeout_s if limit_s is None else limit_s
        deadline, body = time.monotonic() + limit_s, bytearray()
        while data := self.read(min(_PIECE_BYTES, max_bytes + 1 - len(body))):
            body += data
            if len(body) > max_bytes:
                return bytes(body[:max_bytes]), True
            if time.monotonic() > deadline:
                raise OutboundError("slow")
        return bytes(body), False

    def close(self) -> None:
        """Close the response. Its connection is kept if the body was read to its end."""
        with suppress(HTTPError, OSError):
            self._response.close()


class Outbound:
    """HTTP client with connection pools, shared by threads and greenlets.

    Connections are opened on first use, and again in a forked process. Redirects
    are not followed, because they would send a key to another address.

    :param proxy: See :func:`~astrbot_api.runtime.addresses.find_proxy`.
    :param may_connect: Returns whether an address is allowed, or None to allow all.
        A host is resolved once, all its addresses are checked, and the
        connection goes to one of them. So DNS rebinding has no effect. A
        proxy gets a tunnel request for a checked address.
    :param pool_size: Maximum number of idle connections per host.
    """

    def __init__(
        self,
        *,
        proxy: str | None = None,
        may_connect: Callable[[str], bool] | None = None,
        find_addresses: Callable[[str, int], list[str]] = resolve,
        pool_size: int = 20,
    ) -> None:
        self._proxy = proxy
        self._may_connect = may_connect
        self._find_addresses = find_addresses
        self._pool_size = pool_size
        self._proxies: dict[str, str | None] = {}
        self._silent_until: dict[str, float] = {}
        # Sockets that a forked child shared with its parent would mix up the answers of both.
        self._kept: PerProcess[_Kept] = PerProcess(_Kept)

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
        call: Call | None = None,
        connect_timeout_s: float,
        read_timeout_s: float,
        stale_tries: int = 0,
    ) -> Answer:
        """Send one request and wait for the response headers.

        :param read_timeout_s: Maximum time without data after the connection, in seconds. Also the
            maximum time to send a long body.
        :param stale_tries: How often the request is sent again if an idle
            connection turns out to be closed or dead.
        :raises OutboundError: when the request fails.
        """
        call = call or Call()
        sent = {**headers, **call.headers}
        opener, target, route = self._find_route(url, call, read_timeout_s)
        if route.tunnel:
            # The tunnel leads to an address, so the Host header must be set.
            sent["Host"] = urlsplit(url).netloc.rpartition("@")[2]
        while True:
            call.check()
            call.reused = False
            token = ROUTE.set(route)
            try:
                response = opener.urlopen(
                    method, target, body=body, headers=sent, preload_content=False,
                    redirect=False, retries=_NO_RETRIES, assert_same_host=False,
                    timeout=_limit(call.left_s(connect_timeout_s), call.left_s(read_timeout_s)),
                )  # fmt: skip
                return Answer(response, call, read_timeout_s)
            except (HTTPError, OSError, ValueError) as error:
                call.check()
                # The host closed an idle connection just before its reuse, or is gone:
                # retry instead of failing.
                failure = _explain(error)
                if not (call.reused and failure.reason == "broken" and stale_tries):
                    raise failure from error
                stale_tries -= 1
            finally:
                ROUTE.reset(token)

    def close(self) -> None:
        """Close idle connections and forget cached proxies."""
        self._proxies.clear()
        kept = self._kept.take()
        if kept is not None:
            for manager in list(kept.managers.values()):
                manager.clear()

    def _find_route(
        self, url: str, call: Call, read_timeout_s: float
    ) -> tuple[urllib3.PoolManager | HTTPConnectionPool, str, Route]:
        """Return the pool or manager for a request, the request target, and how to connect.

        :raises OutboundError: when the address or the proxy is invalid.
        """
        try:
            if len(url) > MAX_URL_CHARS:  # before urlsplit, which caches them, too
                raise ValueError(f"the address has more than {MAX_URL_CHARS} characters")
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("the address must begin with http:// or https://")
            origin = f"{parts.scheme}://{parts.netloc}"
            proxy = self._find_proxy(url, origin)
            opener, target = self._choose_opener(proxy, origin, url)
        except ValueError as error:
            raise OutboundError("address", str(error)) from error
        socks = proxy if proxy and proxy.startswith("socks") else None
        tunnel = proxy if self._may_connect and not socks else None
        return opener, target, Route(
            call, self._find_addresses, self._may_connect, tunnel, socks, self._silent_until,
            call.left_s(read_timeout_s),
        )  # fmt: skip

    def _find_proxy(self, url: str, origin: str) -> str | None:
        """Return the proxy, cached per origin, because reading the environment takes 0.2 ms."""
        if origin not in self._proxies:
            if len(self._proxies) >= _MAX_ORIGINS:
                self._proxies.clear()
            self._proxies[origin] = find_proxy(url, self._proxy)
        return self._proxies[origin]

    def _choose_opener(
        self, proxy: str | None, origin: str, url: str
    ) -> tuple[urllib3.PoolManager | HTTPConnectionPool, str]:
        """Return the pool or manager for a request, and the request target for it.

        :raises ValueError: when the URL is invalid.
        """
        kept = self._kept.get()
        # Two threads may both create a manager. setdefault() keeps one.
        manager = kept.managers.get(proxy) or kept.managers.setdefault(
            proxy, self._make_manager(proxy)
        )
        if isinstance(manager, urllib3.ProxyManager):
            return manager, url
        read = _read_url(url)
        pool = kept.pools.get((proxy, origin))
        if pool is None:
            # A lookup in the manager takes 60 us per request.
            pool = manager.connection_from_host(read.host, read.port, read.scheme)
            if len(kept.pools) >= _MAX_ORIGINS:
                kept.pools.clear()
            kept.pools[proxy, origin] = pool
        return pool, read.request_uri

    def _make_manager(self, proxy: str | None) -> urllib3.PoolManager:
        options: dict[str, Any] = {"num_pools": 50, "maxsize": self._pool_size, "block": False}
        manager: urllib3.PoolManager
        if proxy and self._may_connect is None and not proxy.startswith("socks"):
            address, proxy_headers = split_proxy(proxy)
            manager = urllib3.ProxyManager(address, proxy_headers=proxy_headers, **options)
        else:
            manager = urllib3.PoolManager(**options)
        manager.pool_classes_by_scheme = {"http": Pool, "https": TLSPool}
        return manager


def _explain(error: Exception) -> OutboundError:
    text = str(error)
    # Before version 2.8, urllib3 leaves it to http.client to reject a host with a space.
    if isinstance(error, LocationValueError) or isinstance(error.__context__, InvalidURL):
        return OutboundError("address", text)
    if isinstance(error, UnicodeEncodeError) or text.startswith("Invalid header"):
        return OutboundError("header", "a header has a character that HTTP forbids")
    if _is_dead(error):
        # For example a path MTU below the interface's, behind a firewall that drops ICMP.
        text = "the host acknowledged nothing for 30 s; the network drops its packets or long ones"
        return OutboundError("broken", text)
    if isinstance(error, ReadTimeoutError):
        return OutboundError("silent", text)
    # "EOF occurred": the host, or a firewall, closed the connection.
    if isinstance(error, SSLError) and "EOF occurred" not in text:
        return OutboundError("untrusted" if "CERTIFICATE_VERIFY" in text else "handshake", text)
    # Error text of http.client when a proxy rejects a tunnel.
    refused = "Tunnel connection failed" in text
    if refused or isinstance(error, (ConnectTimeoutError, ProxyError)):
        return OutboundError("unreachable", text)
    return OutboundError("broken", text)


def _is_dead(error: Exception) -> bool:
    """Return whether TCP gave the connection up, because the host acknowledged nothing."""
    if not isinstance(error, (ReadTimeoutError, ProtocolError)):
        return False
    causes = (error.__cause__, *error.args)
    return any(isinstance(one, OSError) and one.errno == errno.ETIMEDOUT for one in causes)

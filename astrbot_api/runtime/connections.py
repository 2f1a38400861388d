"""Connections that register their socket with a call, and their pools.

urllib3 exposes a connection only with its response, and a model may take minutes to respond. So
these connections register their socket with the :class:`~.calls.Call` in advance, which can then
shut it down. They connect to checked addresses, directly or through a proxy.
"""

from __future__ import annotations

import http.client
import select
import socket
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from .addresses import SOCKET_OPTIONS, resolve
from .calls import Call, OutboundError
from .threads import let_others_run, native_poll

#: Maximum size of a request whose headers and body are sent together.
_FIRST_PACKET_BYTES = 65_536

#: Maximum wait for an address, in seconds, if there is another one.
_FIRST_TRY_S = 3.0

#: Seconds for which an address that did not answer is tried last.
_SILENT_S = 600.0

#: Maximum number of silent addresses.
_MAX_SILENT = 1000

#: Maximum number of interim responses (``103 Early Hints``).
_MAX_INTERIM = 20

#: Maximum number of lines after a chunked body, and of bytes of each. Nothing uses them.
_MAX_TRAILERS = 100
_MAX_TRAILER_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Route:
    """How to connect for one request.

    :param may_connect: Returns whether an address is allowed, or None to allow all.
    :param tunnel: HTTP proxy that opens a tunnel to a checked address, or None.
    :param silent_until: Addresses that did not answer, and when to try them first again.
    """

    call: Call
    find_addresses: Callable[[str, int], list[str]]
    may_connect: Callable[[str], bool] | None
    tunnel: str | None
    socks: str | None = None
    silent_until: dict[str, float] = field(default_factory=dict)
    send_timeout_s: float | None = None

    def sort(self, addresses: list[str]) -> list[str]:
        """Return addresses with the silent ones last, such as those of a dead IPv6 route."""
        now = time.monotonic()
        return sorted(addresses, key=lambda one: self.silent_until.get(one, 0.0) > now)

    def note_silent(self, address: str) -> None:
        """Remember that an address did not answer."""
        if len(self.silent_until) >= _MAX_SILENT:
            self.silent_until.clear()
        self.silent_until[address] = time.monotonic() + _SILENT_S


# A context variable is local to threads and greenlets, with or without patching.
ROUTE: ContextVar[Route] = ContextVar("astrbot_api_route")


class _Response(http.client.HTTPResponse):
    """A response that skips interim responses and trailers, up to a limit."""

    _interim = 0
    _is_encoded = False

    def begin(self) -> None:
        """Read the status and headers."""
        super().begin()
        self._is_encoded = "Content-Encoding" in self.headers

    def read1(self, n: int = -1) -> bytes:
        """Read the next bytes of the body."""
        # urllib3 reads on while the decoder returns nothing. A fast host would block the worker.
        if self._is_encoded:
            let_others_run()
        return super().read1(n)

    def _read_status(self) -> tuple[str, int, str]:
        """Read the status. Return 102 and 103 as 100, which http.client skips (RFC 9110, 15.2)."""
        version, status, reason = super()._read_status()  # type: ignore[misc]
        if status == HTTPStatus.CONTINUE or HTTPStatus.PROCESSING <= status < HTTPStatus.OK:
            status = HTTPStatus.CONTINUE
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise http.client.BadStatusLine("too many interim responses")
        return version, status, reason

    def _read_and_discard_trailer(self) -> None:
        for _ in range(_MAX_TRAILERS):
            if self.fp.readline(_MAX_TRAILER_BYTES) in (b"\r\n", b"\n", b""):
                return
        raise http.client.HTTPException("the trailers are too long")


class _Connection(HTTPConnection):
    """A connection that registers its socket with the call that uses it."""

    response_class = _Response
    server_hostname: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owner: Call | None = None
        self._has_served = False
        #: Buffered start of the request, or None if nothing is buffered.
        self._unsent: bytes | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"  # urllib3's errors begin with it

    def _new_conn(self) -> socket.socket:
        """Connect as urllib3 does, but register the socket with the call before waiting."""
        route = ROUTE.get()
        self._has_served = False
        if route.socks and not route.may_connect:
            return self._connect_by_socks(route, self._dns_host)
        try:
            found, port = self._find_addresses(route)
        except (OSError, UnicodeError) as error:
            raise NameResolutionError(self.host, self, socket.gaierror(str(error))) from error
        if route.socks:
            return self._connect_by_socks(route, found[0])
        failure: OSError = OSError("no address")
        found, whole_s = route.sort(found), cast("float", self.timeout)
        for address in found:
            is_last = address == found[-1]
            timeout_s = whole_s if is_last else min(whole_s, _FIRST_TRY_S)
            try:
                return self._connect_to(address, port, route, timeout_s)
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, "timed out") from failure
        raise NewConnectionError(self, str(failure)) from failure

    def _connect_to(self, address: str, port: int, route: Route, timeout_s: float) -> socket.socket:
        """Connect to one address.

        :raises OSError: also if this kernel has no IPv6, or if too many files are open.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            for option in (*(self.socket_options or ()), *SOCKET_OPTIONS):
                sock.setsockopt(*option)
            sock.settimeout(timeout_s)
            route.call.attach(self, sock)
            sock.connect((address, port))
            sock.settimeout(self.timeout)
        except BaseException as error:
            sock.close()
            if isinstance(error, TimeoutError):
                route.note_silent(address)
            raise
        return sock

    def _connect_by_socks(self, route: Route, host: str) -> socket.socket:
        """Connect through a SOCKS proxy."""
        sock: socket.socket = _make_socks_socket(route.socks or "")
        try:
            for option in SOCKET_OPTIONS:
                sock.setsockopt(*option)
            sock.settimeout(self.timeout)
            route.call.attach(self, sock)
            sock.connect((host, self.port))
        except OSError as error:
            sock.close()
            raise NewConnectionError(self, str(error)) from error
        except BaseException:
            sock.close()
            raise
        return sock

    def _find_addresses(self, route: Route) -> tuple[list[str], int]:
        """Return the addresses and the port of the host or its proxy."""
        found, port = route.find_addresses(self._dns_host, self.port), self.port
        # Reject the host if any of its addresses is not allowed.
        if route.may_connect and not (found and all(map(route.may_connect, found))):
            raise OutboundError("forbidden")
        if route.tunnel:
            url, proxy_headers = split_proxy(route.tunnel)
            parts = urlsplit(url)
            if parts.scheme != "http" or not parts.hostname:
                raise OutboundError("address", "checked addresses need an http:// proxy")
            self.set_tunnel(found[0], port, proxy_headers)
            self.server_hostname = self.host
            port = parts.port or 80
            found = resolve(parts.hostname, port)
        return found, port

    @property
    def is_connected(self) -> bool:
        """Whether an idle connection is open. Readable data before a request means its end.

        urllib3's own check uses the gevent hub, which takes ten times as long.
        """
        if self.sock is None:
            return False
        look = native_poll()
        look.register(self.sock, select.POLLIN)
        return not look.poll(0)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request, with headers and a short body in one packet."""
        call = ROUTE.get().call
        if self.sock is not None:
            call.reused = self._has_served
            call.attach(self, self.sock)
        self._unsent = b""
        try:
            super().request(*args, **kwargs)
            self._flush()
        finally:
            self._unsent = None
        self._has_served = True

    def send(self, data: Any) -> None:
        """Send data, or buffer it for the request's first packet.

        Only the first packet has the timeout of the connection. A long body may take longer.
        """
        held = self._unsent
        fits = isinstance(data, bytes) and len(held or b"") + len(data) <= _FIRST_PACKET_BYTES
        if held is not None and fits:
            self._unsent = held + data
            return
        self._flush()
        if self.sock is not None:
            self.sock.settimeout(ROUTE.get().send_timeout_s)
        super().send(data)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, None
        if unsent:
            super().send(unsent)


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class Pool(HTTPConnectionPool):
    """Unencrypted connections to one host or forwarding proxy."""

    ConnectionCls = _Connection


class TLSPool(HTTPSConnectionPool):
    """Connections to one host over TLS."""

    ConnectionCls = _TLSConnection


def _make_socks_socket(proxy: str) -> Any:
    """Return a socket that connects through a SOCKS proxy.

    :raises OutboundError: when PySocks is not installed.
    """
    try:
        import socks
    except ImportError as error:
        message = 'a SOCKS proxy needs `pip install "astrbot-api[socks]"`'
        raise OutboundError("address", message) from error
    parts = urlsplit(proxy)
    sock = socks.socksocket()
    sock.set_proxy(
        socks.SOCKS4 if parts.scheme.startswith("socks4") else socks.SOCKS5,
        parts.hostname,
        parts.port or 1080,
        rdns=parts.scheme in ("socks5h", "socks4a"),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )
    return sock


def split_proxy(proxy: str) -> tuple[str, dict[str, str]]:
    """Return a proxy's URL without credentials, and the headers with its credentials."""
    parts = urlsplit(proxy)
    login, _, host = parts.netloc.rpartition("@")
    headers = urllib3.make_headers(proxy_basic_auth=unquote(login)) if login else {}
    return f"{parts.scheme}://{host}", headers

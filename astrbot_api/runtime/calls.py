"""A wait for another host that can be broken, and the connections that make it possible.

urllib3 shows a connection only when its response is there, and a model may
think for minutes before that. So the connections here show the :class:`Call`
that they work for which socket it waits for.
"""

from __future__ import annotations

import http.client
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from ..errors import AstrBotError
from .addresses import resolve
from .threads import native_poll

Reason = Literal[
    "address", "forbidden", "unreachable", "untrusted", "silent", "slow", "broken"
]  # fmt: skip

#: A request up to this size is sent at once, its head and its body together.
_FIRST_PACKET_BYTES = 65_536

#: Interim answers (``103 Early Hints``) before the one that counts.
_MAX_INTERIM = 20

#: What a host did, behind its name.
_WORDS: dict[Reason, str] = {
    "address": "has an address, or a proxy, that cannot be used",
    "forbidden": "has an address that is not allowed",
    "unreachable": "cannot be reached",
    "untrusted": "has a TLS certificate that is not accepted",
    "silent": "did not answer in time",
    "slow": "took too long",
    "broken": "broke the connection off",
}


class OutboundError(AstrBotError):
    """There is no answer, or not all of it.

    :param text: For the log: it may hold the address and what the library said.
    :ivar words: For the caller: what the host did, without its address.
    """

    def __init__(self, reason: Reason, text: str = "") -> None:
        super().__init__(text or _WORDS[reason])
        self.reason = reason
        self.words = _WORDS[reason]


class Cancellable(Protocol):
    """What may end a call from outside."""

    def raise_if_cancelled(self) -> None:
        """Raise when the call is to end."""

    def wait(self, timeout_s: float) -> bool:
        """Sleep, but no longer than until cancellation."""

    def on_cancel(self, callback: Callable[[], None]) -> AbstractContextManager[None]:
        """Have the callback called on cancellation while the block runs."""


class Call:
    """One exchange, or several in a row: what it waits for, and how to end that.

    As a context manager it ends a blocked read on cancellation and at the limit.

    :param headers: Sent beside those of each request.
    :param limit_s: For all of it, connections included.
    """

    def __init__(
        self,
        cancel: Cancellable | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        limit_s: float | None = None,
    ) -> None:
        self.cancel = cancel
        self.headers = headers or {}
        self.deadline = None if limit_s is None else time.monotonic() + limit_s
        #: Whether the connection had served another request before.
        self.reused = False
        self._connection: _Connection | None = None
        self._sock: Any = None
        self._ending = ExitStack()

    def __enter__(self) -> Call:
        if self.cancel is not None:
            self._ending.enter_context(self.cancel.on_cancel(self.break_off))
        if self.deadline is not None:
            # A head that comes in drops would outlast any limit of one read.
            timer = threading.Timer(self.left_s(), self.break_off)
            timer.daemon = True
            timer.start()
            self._ending.callback(timer.cancel)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def check(self) -> None:
        """:raises OutboundError: when the time is over; cancelled, as that raises."""
        if self.cancel is not None:
            self.cancel.raise_if_cancelled()
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise OutboundError("slow")

    def left_s(self, at_most_s: float = threading.TIMEOUT_MAX) -> float:
        """Return how long one wait may take, in seconds; never 0."""
        if self.deadline is None:
            return at_most_s
        return max(0.001, min(at_most_s, self.deadline - time.monotonic()))

    def sleep(self, pause_s: float) -> None:
        """Wait, but no longer than until cancellation, which raises as :meth:`check` does."""
        if self.cancel is None:
            time.sleep(pause_s)
        else:
            self.cancel.wait(pause_s)
        self.check()

    def attach(self, connection: _Connection, sock: Any) -> None:
        """Take over a socket.

        :raises OutboundError: or as :meth:`check`, when it is too late for it.
        """
        connection.owner = self
        # TLS within TLS, through an https:// proxy, is no socket itself.
        self._connection, self._sock = connection, getattr(sock, "socket", sock)
        self.check()

    def break_off(self) -> None:
        """Shut the socket down, so that the thread that waits for it wakes up.

        Any thread or greenlet may call it. A connection that meanwhile
        serves another call is left alone.
        """
        if self._owns_socket():
            # Not sock.shutdown(): TLS sockets drop their TLS state in it, under
            # the feet of the thread that reads. An error: it is closed already.
            with suppress(OSError):
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def limit_wait(self, timeout_s: float) -> None:
        """Let a read of the rest of this answer wait no longer than that."""
        if self._owns_socket():
            with suppress(OSError):
                self._sock.settimeout(timeout_s)

    def _owns_socket(self) -> bool:
        return self._connection is not None and self._connection.owner is self


@dataclass(frozen=True, slots=True)
class Route:
    """How the connections of one request are made.

    :param may_connect: Says whether an address may be connected to; None: any.
    :param tunnel: The proxy that is asked for a tunnel to such an address.
    :param socks: The SOCKS proxy through which connections are made.
    """

    call: Call
    find_addresses: Callable[[str, int], list[str]]
    may_connect: Callable[[str], bool] | None
    tunnel: str | None
    socks: str | None = None


# A context variable, because it is each thread's and each greenlet's own,
# whether or not anything is patched.
ROUTE: ContextVar[Route] = ContextVar("astrbot_api_route")


class _Response(http.client.HTTPResponse):
    """An answer behind any number of interim ones, up to a limit."""

    _interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        """Read a status; 102 and 103 as 100, whose head is passed over (RFC 9110, 15.2)."""
        version, status, reason = super()._read_status()  # type: ignore[misc]
        if status == HTTPStatus.CONTINUE or HTTPStatus.PROCESSING <= status < HTTPStatus.OK:
            status = HTTPStatus.CONTINUE
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise http.client.BadStatusLine("too many interim answers")
        return version, status, reason


class _Connection(HTTPConnection):
    response_class = _Response
    server_hostname: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owner: Call | None = None
        self._has_served = False
        #: What a request has not sent yet; None: nothing is held back.
        self._unsent: bytes | None = None

    def _new_conn(self) -> socket.socket:
        """Connect as urllib3 does, but show the socket before the wait begins."""
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
        for address in found:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.settimeout(self.timeout)
                route.call.attach(self, sock)
                sock.connect((address, port))
            except OSError as error:
                failure = error
                sock.close()
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, "timed out") from failure
        raise NewConnectionError(self, str(failure)) from failure

    def _connect_by_socks(self, route: Route, host: str) -> socket.socket:
        """Connect through a SOCKS proxy."""
        sock: socket.socket = make_socks_socket(route.socks or "")
        try:
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
        """Return the addresses to connect to, and the port: the host's, or its proxy's."""
        found, port = route.find_addresses(self._dns_host, self.port), self.port
        # One address that is not allowed is enough: which one would be taken
        # is nothing to leave to chance.
        if route.may_connect and not (found and all(map(route.may_connect, found))):
            raise OutboundError("forbidden")
        if route.tunnel:
            url, proxy_headers = split_proxy(route.tunnel)
            parts = urlsplit(url)
            if parts.scheme != "http" or not parts.hostname:
                raise OutboundError("address", "only an http:// proxy leads to checked addresses")
            self.set_tunnel(found[0], port, proxy_headers)
            self.server_hostname = self.host
            port = parts.port or 80
            found = resolve(parts.hostname, port)
        return found, port

    @property
    def is_connected(self) -> bool:
        """Whether a kept connection is open: what comes before a request is its end.

        urllib3's own looks through the hub, whose timers cost ten times the look itself.
        """
        if self.sock is None:
            return False
        look = native_poll()
        look.register(self.sock, select.POLLIN)
        return not look.poll(0)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request: its head and a short body in one packet, which spares both ends one."""
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
        """Send data, or hold it back while a request's first packet has room."""
        held = self._unsent
        fits = isinstance(data, bytes) and len(held or b"") + len(data) <= _FIRST_PACKET_BYTES
        if held is not None and fits:
            self._unsent = held + data
            return
        self._flush()
        super().send(data)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, None
        if unsent:
            super().send(unsent)


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class Pool(HTTPConnectionPool):
    """Connections to one host, in the clear or to a forwarding proxy."""

    ConnectionCls = _Connection


class TLSPool(HTTPSConnectionPool):
    """Connections to one host over TLS."""

    ConnectionCls = _TLSConnection


def make_socks_socket(proxy: str) -> Any:
    """Return a socket whose connections go through a SOCKS proxy.

    :raises OutboundError: when what it takes is not installed.
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
    """Return a proxy's address without name and password, and its headers with them."""
    parts = urlsplit(proxy)
    login, _, host = parts.netloc.rpartition("@")
    headers = urllib3.make_headers(proxy_basic_auth=unquote(login)) if login else {}
    return f"{parts.scheme}://{host}", headers

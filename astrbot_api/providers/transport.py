"""HTTP to a model's endpoint, with a wait that another thread can break.

urllib3 gives no hold of a connection before its response is there, and a
model may think for minutes before that. So the connections here tell the
:class:`Call` on whose behalf they work which socket it waits for.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from ..agent.cancel import Cancellation
from ..errors import ProviderError
from ..runtime.per_process import PerProcess
from . import failures

log = logging.getLogger(__name__)

#: Idle connections that are kept. More may be open at a time.
_POOL_SIZE = 1000

#: How often a kept connection may turn out to be closed before it counts.
_STALE_TRIES = 5


class Call:
    """One exchange with an endpoint: what it waits for, and how to end that.

    :param cancel: Of the run for which the model is asked.
    :param headers: Sent beside the endpoint's own.
    """

    def __init__(self, cancel: Cancellation, headers: Mapping[str, str] | None = None) -> None:
        self.cancel = cancel
        self.headers = headers or {}
        #: Whether the connection had served another request before.
        self.reused = False
        self._connection: _Connection | None = None
        self._sock: socket.socket | None = None

    def attach(self, connection: _Connection, sock: socket.socket) -> None:
        """Take over a socket.

        :raises RunCancelled: when it comes too late to be broken off.
        """
        connection.owner = self
        self._connection, self._sock = connection, sock
        self.cancel.raise_if_cancelled()

    def break_off(self) -> None:
        """Shut the socket down, so that whoever waits for it wakes up.

        Any thread or greenlet may call it. A connection that meanwhile
        serves another call is left alone.
        """
        sock = self._sock
        if sock is None or self._connection is None or self._connection.owner is not self:
            return
        # Not sock.shutdown(): TLS sockets drop their TLS state in it, under
        # the feet of the thread that reads. An error: it is closed already.
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def limit_wait(self, timeout_s: float) -> None:
        """Let a read of the rest of this answer wait no longer than that."""
        if self._sock is not None:
            with suppress(OSError):
                self._sock.settimeout(timeout_s)


# A context variable, because it is each thread's and each greenlet's own,
# whether or not anything is patched.
_CALL: ContextVar[Call] = ContextVar("astrbot_api_model_call")


class _Connection(HTTPConnection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owner: Call | None = None
        self._has_served = False

    def _new_conn(self) -> socket.socket:
        """Connect as urllib3 does, but show the socket before the wait begins."""
        call = _CALL.get()
        self._has_served = False
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self.host, self, socket.gaierror(str(error))) from error
        failure: OSError = OSError("no address")
        for family, kind, protocol, _, address in found:
            call.cancel.raise_if_cancelled()
            sock = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.settimeout(self.timeout)
                call.attach(self, sock)
                sock.connect(address)
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

    def request(self, *args: Any, **kwargs: Any) -> None:
        call = _CALL.get()
        if self.sock is not None:
            call.reused = self._has_served
            call.attach(self, self.sock)
        super().request(*args, **kwargs)
        self._has_served = True


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class Transport:
    """The connections to one endpoint.

    They are made at the first request, in each process: two that share a
    socket would mix up their answers.

    :param base_url: Address of the API, for example ``http://host:1/v1``.
    :param headers: Sent with every request.
    :param redact: Prepares a text for the log.
    """

    def __init__(
        self,
        base_url: str,
        headers: dict[str, str],
        connect_timeout_s: float,
        read_timeout_s: float,
        redact: Callable[[str], str],
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._headers = headers
        self._timeout = urllib3.Timeout(connect=connect_timeout_s, read=read_timeout_s)
        self._read_timeout_s = read_timeout_s
        self._redact = redact
        self._manager = PerProcess(_make_manager)

    def send(
        self, method: str, path: str, body: bytes | None, call: Call
    ) -> urllib3.BaseHTTPResponse:
        """Send one request and wait for the head of the answer.

        :returns: The answer, whatever its status, its body unread.
        :raises ProviderError: when there is no answer.
        :raises RunCancelled: when the run ends meanwhile.
        """
        for attempt in range(_STALE_TRIES + 1):
            call.cancel.raise_if_cancelled()
            call.reused = False
            token = _CALL.set(call)
            try:
                return self._manager.get().urlopen(
                    method,
                    self._base_url + path,
                    body=body,
                    headers={**self._headers, **call.headers},
                    timeout=self._timeout,
                    preload_content=False,
                    # A redirect would carry the key to another address.
                    redirect=False,
                    retries=False,
                )
            except (HTTPError, OSError, ValueError) as error:
                call.cancel.raise_if_cancelled()
                # The endpoint closes a connection that was idle, just when
                # we use it: no failure, only bad timing.
                if not (
                    call.reused and isinstance(error, ProtocolError) and attempt < _STALE_TRIES
                ):
                    raise self._explain(error) from error
            finally:
                _CALL.reset(token)
        raise AssertionError("unreachable")

    def _explain(self, error: Exception) -> ProviderError:
        if isinstance(error, ReadTimeoutError):
            # Not to be sent again: the endpoint may still be at work on it.
            return ProviderError(failures.silent_for(self._read_timeout_s))
        log.warning("no answer from the endpoint: %s", self._redact(str(error)))
        if isinstance(error, SSLError):
            return ProviderError(failures.UNTRUSTED)
        if isinstance(error, ProtocolError):
            return ProviderError(failures.HUNG_UP, retryable=True)
        return ProviderError(failures.UNREACHABLE, retryable=isinstance(error, ConnectTimeoutError))


def _make_manager() -> urllib3.PoolManager:
    manager = urllib3.PoolManager(num_pools=1, maxsize=_POOL_SIZE, block=False, retries=False)
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
    return manager

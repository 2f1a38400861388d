"""``http_get``: a page of the public internet, and of nothing else.

Off unless a config allows it by name. A host name is resolved once, every
address of it is checked, and the connection goes to one that was checked: a
name that changes meanwhile changes nothing. Each redirect is a new URL and
is checked like the first.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import marshmallow as ma
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from ...agent.cancel import Cancellation
from ...agent.schema import tool
from ...agent.tools import Tool, ToolContext
from ...errors import ToolError
from ..hookspecs import hookimpl
from .addresses import is_public, resolve

MAX_REDIRECTS = 5

_REDIRECTS = {301, 302, 303, 307, 308}

_TEXT_TYPE = re.compile(r"(text/.*|application/(.*\+)?(json|xml|javascript|yaml|x-ndjson))")

_HEADERS = {
    "User-Agent": "astrbot-api (http_get)",
    "Accept": "text/*, application/json, application/xml;q=0.9",
    # What is packed could unpack to far more than the limit.
    "Accept-Encoding": "identity",
}


class WebSettings(ma.Schema):
    """``[plugins.web]``: ports, the longest page and the time for all of it."""

    ports = ma.fields.List(
        ma.fields.Integer(validate=ma.validate.Range(1, 65535)), load_default=lambda: [80, 443]
    )
    max_bytes = ma.fields.Integer(
        load_default=500_000, validate=ma.validate.Range(1000, 10_000_000)
    )
    timeout_s = ma.fields.Float(load_default=15.0, validate=ma.validate.Range(0.1, 300))


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Gets one text, whatever the way there.

    :param deadline: When it must be there, by ``time.monotonic``.
    :param find_addresses: Resolves a host name.
    :param may_connect: Says whether an address may be connected to.
    """

    ports: Sequence[int]
    max_bytes: int
    deadline: float
    cancel: Cancellation
    find_addresses: Callable[[str, int], list[str]] = resolve
    may_connect: Callable[[str], bool] = is_public

    def fetch(self, url: str) -> str:
        """Return the text behind a URL.

        :raises ToolError: for whatever is not a text of the public internet.
        """
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._get_once(url)
            if answer.location is None:
                return answer.text
            url = urljoin(url, answer.location)
        raise ToolError(f"more than {MAX_REDIRECTS} redirects")

    def _get_once(self, url: str) -> _Answer:
        parts, port = self._check_url(url)
        host = parts.hostname or ""
        address = self._choose_address(host, port)
        connection = self._make_connection(parts.scheme, host, address, port)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {**_HEADERS, "Host": _host_header(parts, host, port)}
        try:
            connection.connect()
            sock = connection.sock
            with self.cancel.on_cancel(lambda: _shut_down(sock)):
                connection.request("GET", target, headers=headers, preload_content=False)
                return self._read(connection.getresponse(), sock)
        except (HTTPException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            self._time_left_s()
            raise ToolError(f"{host} could not be read: {type(error).__name__}") from error
        finally:
            connection.close()

    def _make_connection(self, scheme: str, host: str, address: str, port: int) -> Any:
        """Return a connection to the address whose certificate must be the host's."""
        timeout_s = self._time_left_s()
        if scheme == "https":
            return HTTPSConnection(
                address, port, timeout=timeout_s, server_hostname=host, assert_hostname=host
            )
        return HTTPConnection(address, port, timeout=timeout_s)

    def _check_url(self, url: str) -> tuple[SplitResult, int]:
        try:
            parts = urlsplit(url.strip())
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise ToolError("this is no URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ToolError("only http:// and https:// URLs can be read")
        if parts.username is not None or parts.password is not None:
            raise ToolError("a URL with a name or a password in it is not read")
        if re.search(r"[\x00-\x20\x7f]", parts.netloc + parts.path + parts.query):
            raise ToolError("the URL has blanks or control characters; encode them")
        if port not in self.ports:
            allowed = ", ".join(map(str, self.ports))
            raise ToolError(f"the port {port} is not allowed; allowed are {allowed}")
        return parts, port

    def _choose_address(self, host: str, port: int) -> str:
        try:
            found = self.find_addresses(host, port)
        except (OSError, UnicodeError):
            raise ToolError(f"there is no host {host}") from None
        # One address that is not public is enough: which one would be taken
        # is nothing to leave to chance.
        if not found or not all(map(self.may_connect, found)):
            raise ToolError(f"{host} is not on the public internet")
        return found[0]

    def _read(self, response: Any, sock: socket.socket) -> _Answer:
        if response.status in _REDIRECTS and response.headers.get("Location"):
            return _Answer("", response.headers["Location"])
        kind, _, rest = response.headers.get("Content-Type", "").partition(";")
        if not _TEXT_TYPE.fullmatch(kind.strip().lower()):
            raise ToolError(f"only texts can be read; this is {kind.strip() or 'of no type'}")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise ToolError("the server packs its answer though it was asked not to")
        data, more = self._read_body(response, sock)
        charset = re.search(r"charset=[\"']?([\w-]+)", rest)
        try:
            text = data.decode(charset[1] if charset else "utf-8", "replace")
        except LookupError:
            text = data.decode("utf-8", "replace")
        if more:
            text += f"\n[cut after {self.max_bytes} bytes]"
        return _Answer(text if response.status == 200 else f"HTTP {response.status}\n{text}")

    def _read_body(self, response: Any, sock: socket.socket) -> tuple[bytes, bool]:
        """Return the body up to the limit, and whether there is more."""
        data = b""
        while len(data) <= self.max_bytes:
            left_s = self._time_left_s()
            with suppress(OSError):  # closed with the last byte
                sock.settimeout(left_s)
            # One read of the socket at a time: a server that drips cannot
            # stretch a single call beyond the deadline.
            chunk = response.read1(65536)
            if not chunk:
                self.cancel.raise_if_cancelled()
                return data, False
            data += chunk
        return data[: self.max_bytes], True

    def _time_left_s(self) -> float:
        self.cancel.raise_if_cancelled()
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise ToolError("it took too long")
        return left_s


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    location: str | None = None


def _shut_down(sock: socket.socket) -> None:
    """Wake up the reader of a socket."""
    # Not sock.shutdown(): TLS sockets drop their TLS state in it, under the
    # feet of the thread that reads.
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _host_header(parts: SplitResult, host: str, port: int) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"{name}:{port}" if parts.port else name


@tool(by_name_only=True)
def http_get(context: ToolContext, url: str) -> str:
    """Read a text or a web page of the public internet.

    :param url: Where it is: http:// or https://.
    """
    settings = context.settings
    fetcher = Fetcher(
        ports=settings["ports"],
        max_bytes=settings["max_bytes"],
        deadline=time.monotonic() + settings["timeout_s"],
        cancel=context.cancel,
    )
    return fetcher.fetch(url)


class Web:
    """``http_get``."""

    name = "web"
    settings_schema = WebSettings

    @hookimpl
    def register_tools(self) -> list[Tool]:
        """Return it."""
        return [http_get]

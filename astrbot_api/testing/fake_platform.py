"""Base class of the fake messengers: a loopback server that can fail on demand."""

from __future__ import annotations

import collections
import hmac
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from multipart import MultipartError, MultipartParser, parse_options_header

#: Maximum number of recorded requests and messages.
_MAX_REMEMBERED = 5000

_MAX_BODY_BYTES = 256 * 1024 * 1024

_WAIT_S = 30.0


@dataclass(frozen=True)
class FakeRequest:
    """A received request. The names of ``headers`` are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def read_fields(self) -> dict[str, Any]:
        """Return the fields of the query and of a JSON, form or multipart body.

        Files are :class:`FakeFile` objects.
        """
        kind, options = parse_options_header(self.headers.get("content-type", ""))
        found: dict[str, Any] = dict(self.query)
        if kind == "application/json":
            found.update(json.loads(self.body or b"{}"))
        elif kind == "application/x-www-form-urlencoded":
            found.update(parse_qsl(self.body.decode(), keep_blank_values=True))
        elif kind == "multipart/form-data":
            parser = MultipartParser(
                BytesIO(self.body), options["boundary"], len(self.body),
                disk_limit=_MAX_BODY_BYTES, memory_limit=_MAX_BODY_BYTES, buffer_size=2**20,
            )  # fmt: skip
            for part in parser:
                found[part.name] = (
                    FakeFile(part.filename, part.content_type, part.raw)
                    if part.filename
                    else part.value
                )
        return found


@dataclass(frozen=True)
class FakeFile:
    """A received file."""

    filename: str
    content_type: str
    data: bytes


@dataclass(frozen=True)
class FakeResponse:
    """A response of a fake.

    :param pieces: Pieces of a streamed body, sent instead of ``body``, without a length.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Iterator[bytes] | None = None

    @classmethod
    def of_json(cls, value: Any, status: int = 200, **headers: str) -> FakeResponse:
        """Return a response with a JSON body."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | named)


@dataclass
class _Failure:
    status: int
    times: int
    retry_after_s: int | None
    path: str


class FakePlatform:
    """A messenger's HTTP API on a free loopback port, in threads of this process.

    As a context manager it starts and stops the server. :attr:`messages` has
    the accepted messages in order.
    """

    def __init__(self) -> None:
        #: Accepted messages, with the platform's field names.
        self.messages: collections.deque[dict[str, Any]] = collections.deque(maxlen=_MAX_REMEMBERED)
        #: All requests, including rejected ones.
        self.requests: collections.deque[FakeRequest] = collections.deque(maxlen=_MAX_REMEMBERED)
        #: Known conversations, or empty to accept all.
        self.known: set[Any] = set()
        self._changed = threading.Condition()
        self._failures: list[_Failure] = []
        self._numbers = itertools.count(1)
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self._ended = False

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self.refuse()

    @property
    def url(self) -> str:
        """Base URL of the server, without a trailing slash."""
        return f"http://127.0.0.1:{self._port}"

    def listen(self) -> None:
        """Accept connections, after :meth:`refuse` on the same port."""
        if self._server is None:
            self._server = _Server(("127.0.0.1", self._port), _handler_of(self._handle))
            self._port = self._server.server_address[1]
            threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def refuse(self) -> None:
        """Refuse connections from now on."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def fail_next(
        self,
        status: int,
        *,
        times: int = 1,
        retry_after_s: int | None = None,
        path: str = "",
    ) -> None:
        """Respond to the next requests with the platform's error.

        :param status: For example 429, with ``retry_after_s``, or 500.
        :param path: Suffix of the paths that fail, or empty for all.
        """
        with self._changed:
            self._failures.append(_Failure(status, times, retry_after_s, path))

    def wait_for_messages(self, count: int, timeout_s: float = _WAIT_S) -> list[dict[str, Any]]:
        """Wait until ``count`` messages were accepted, and return all messages.

        :raises TimeoutError: when fewer messages were accepted in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.messages) >= count, timeout_s):
                raise TimeoutError(f"received {len(self.messages)} of {count} messages")
            return list(self.messages)

    def wait_for_request(self, path: str, timeout_s: float = _WAIT_S) -> FakeRequest:
        """Wait for a request whose path ends with ``path``, and return the first one.

        :raises TimeoutError: when no such request was received in time.
        """

        def find() -> FakeRequest | None:
            return next((one for one in self.requests if one.path.endswith(path)), None)

        with self._changed:
            found = self._changed.wait_for(find, timeout_s)
        if found is None:
            raise TimeoutError(f"received no request to {path}")
        return found

    def answer(self, request: FakeRequest) -> FakeResponse:
        """Respond to a request. Implemented by each platform."""
        raise NotImplementedError

    def describe_failure(self, status: int, retry_after_s: int | None) -> FakeResponse:
        """Return the platform's error response."""
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        return FakeResponse.of_json({"error": f"failure {status}"}, status, **headers)

    def knows(self, target: Any) -> bool:
        """Return whether a conversation exists."""
        return bool(target) and (not self.known or target in self.known)

    def accept(self, message: dict[str, Any]) -> None:
        """Record a message and notify waiting threads."""
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def _handle(self, request: FakeRequest) -> FakeResponse:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            failure = next((x for x in self._failures if request.path.endswith(x.path)), None)
            if failure is not None:
                failure.times -= 1
                if failure.times <= 0:
                    self._failures.remove(failure)
                return self.describe_failure(failure.status, failure.retry_after_s)
        try:
            return self.answer(request)
        except (ValueError, KeyError, MultipartError) as error:
            return FakeResponse.of_json({"error": f"the fake cannot read this: {error!r}"}, 400)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors, because clients may disconnect at any time."""


def _handler_of(handle: Callable[[FakeRequest], FakeResponse]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        # One request per connection, so that refuse() takes effect at once.
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            size = min(int(headers.get("content-length", "0")), _MAX_BODY_BYTES)
            answer = handle(
                FakeRequest(
                    self.command, parts.path, dict(parse_qsl(parts.query)), headers,
                    self.rfile.read(size),
                )
            )  # fmt: skip
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.pieces is None:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            for piece in answer.pieces or (answer.body,):
                self.wfile.write(piece)

        do_POST = do_PUT = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def make_post(value: Any, **headers: str) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a platform's webhook request."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    body = json.dumps(value, ensure_ascii=False).encode()
    return {"Content-Type": "application/json", **named}, body


def make_digest(secret: str, data: bytes, algorithm: str = "sha256") -> str:
    """Return the HMAC signature of an event."""
    return hmac.new(secret.encode(), data, algorithm).hexdigest()

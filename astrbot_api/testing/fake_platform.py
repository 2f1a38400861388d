"""What the fake messengers have in common: a loopback server that can fail on demand."""

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

#: Requests and messages that are remembered.
_MAX_REMEMBERED = 5000

#: Largest request body.
_MAX_BODY_BYTES = 256 * 1024 * 1024

_WAIT_S = 30.0


@dataclass(frozen=True)
class FakeRequest:
    """A request that a fake got. ``headers`` has lower-case names."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def read_fields(self) -> dict[str, Any]:
        """Return the fields of a JSON, form or multipart body, and of the query.

        A file is a :class:`FakeFile`.
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
    """A file that a fake got."""

    filename: str
    content_type: str
    data: bytes


@dataclass(frozen=True)
class FakeAnswer:
    """What a fake answers.

    :param pieces: The body in pieces, in place of ``body``; its end is the connection's.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Iterator[bytes] | None = None

    @classmethod
    def of_json(cls, value: Any, status: int = 200, **headers: str) -> FakeAnswer:
        """Return an answer with a JSON body."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | named)


@dataclass
class _Failure:
    status: int
    times: int
    retry_after_s: int | None
    path: str


class FakePlatform:
    """A messenger's HTTP API on a free port of loopback, in threads of this process.

    ``with`` starts and ends it. What it was sent is in :attr:`messages`, in
    the order in which it was accepted.
    """

    def __init__(self) -> None:
        #: What the API accepted as messages; the keys are the platform's.
        self.messages: collections.deque[dict[str, Any]] = collections.deque(maxlen=_MAX_REMEMBERED)
        #: Every request, also those that were refused.
        self.requests: collections.deque[FakeRequest] = collections.deque(maxlen=_MAX_REMEMBERED)
        #: Conversations that it knows; empty: every one.
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
        """Address of the server, without a slash at its end."""
        return f"http://127.0.0.1:{self._port}"

    def listen(self) -> None:
        """Take connections, after :meth:`refuse` on the same port as before."""
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
        """Answer the next requests with an error, as the platform words it.

        :param status: For example 429, with ``retry_after_s``, or 500.
        :param path: Only requests whose path ends so.
        """
        with self._changed:
            self._failures.append(_Failure(status, times, retry_after_s, path))

    def wait_for_messages(self, count: int, timeout_s: float = _WAIT_S) -> list[dict[str, Any]]:
        """Wait until so many messages were accepted and return all of them.

        :raises TimeoutError: when they do not come.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.messages) >= count, timeout_s):
                raise TimeoutError(f"{len(self.messages)} of {count} messages came")
            return list(self.messages)

    def wait_for_request(self, path: str, timeout_s: float = _WAIT_S) -> FakeRequest:
        """Wait for a request whose path ends so and return the first one.

        :raises TimeoutError: when it does not come.
        """

        def find() -> FakeRequest | None:
            return next((one for one in self.requests if one.path.endswith(path)), None)

        with self._changed:
            found = self._changed.wait_for(find, timeout_s)
        if found is None:
            raise TimeoutError(f"no request to {path} came")
        return found

    def answer(self, request: FakeRequest) -> FakeAnswer:
        """Answer a request; the platform's own part."""
        raise NotImplementedError

    def describe_failure(self, status: int, retry_after_s: int | None) -> FakeAnswer:
        """Return an error in the platform's words."""
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        return FakeAnswer.of_json({"error": f"failure {status}"}, status, **headers)

    def knows(self, target: Any) -> bool:
        """Say whether there is such a conversation."""
        return bool(target) and (not self.known or target in self.known)

    def accept(self, message: dict[str, Any]) -> None:
        """Remember a message and notify the threads that wait for it."""
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def _handle(self, request: FakeRequest) -> FakeAnswer:
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
            return FakeAnswer.of_json({"error": f"the fake cannot read this: {error!r}"}, 400)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away is no fault."""


def _handler_of(handle: Callable[[FakeRequest], FakeAnswer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        # One request a connection, so that refusing is felt at once.
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
    """Return headers and body with which a platform posts an event."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    body = json.dumps(value, ensure_ascii=False).encode()
    return {"Content-Type": "application/json", **named}, body


def make_digest(secret: str, data: bytes, algorithm: str = "sha256") -> str:
    """Return the HMAC with which a platform signs an event."""
    return hmac.new(secret.encode(), data, algorithm).hexdigest()

"""Base class of the fake messengers: a loopback server that can fail on demand."""

from __future__ import annotations

import collections
import hmac
import itertools
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from werkzeug import Request, Response
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Maximum number of recorded requests and messages.
_MAX_REMEMBERED = 5000

_WAIT_S = 30.0


class FakeRequest(Request):
    """A received request."""

    max_form_memory_size = None

    def read_fields(self) -> dict[str, Any]:
        """Return the fields of the query and of a JSON, form or multipart body.

        Files are :class:`FakeFile` objects.
        """
        found: dict[str, Any] = {**self.args.to_dict(), **self.form.to_dict()}
        for name, file in self.files.items():
            found[name] = FakeFile(file.filename or "", file.content_type or "", file.read())
        if self.mimetype == "application/json":
            found.update(json.loads(self.data or b"{}"))
        return found


@dataclass(frozen=True)
class FakeFile:
    """A received file."""

    filename: str
    content_type: str
    data: bytes


def answer_json(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response with a JSON body."""
    return Response(json.dumps(value), status, headers, mimetype="application/json")


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
        self._server: BaseWSGIServer | None = None
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
            self._server = make_server(
                "127.0.0.1", self._port, self._serve, threaded=True, request_handler=_Handler
            )
            self._port = self._server.port
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
        with self._changed:
            found = self._changed.wait_for(
                lambda: next((one for one in self.requests if one.path.endswith(path)), None),
                timeout_s,
            )
        if found is None:
            raise TimeoutError(f"received no request to {path}")
        return found

    def answer(self, request: FakeRequest) -> Response:
        """Respond to a request. Implemented by each platform."""
        raise NotImplementedError

    def describe_failure(self, status: int, retry_after_s: int | None) -> Response:
        """Return the platform's error response."""
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        return answer_json({"error": f"failure {status}"}, status, headers)

    def knows(self, target: Any) -> bool:
        """Return whether a conversation exists."""
        return bool(target) and (not self.known or target in self.known)

    def accept(self, message: dict[str, Any]) -> None:
        """Record a message and notify waiting threads."""
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = FakeRequest(environ)
        with request:
            return self._respond(request)(environ, start_response)

    def _respond(self, request: FakeRequest) -> Response:
        request.get_data()
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
        except (ValueError, KeyError) as error:
            return answer_json({"error": f"the fake cannot read this: {error!r}"}, 400)


class _Handler(WSGIRequestHandler):
    # One request per connection, so that refuse() takes effect at once.
    protocol_version = "HTTP/1.0"

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


def make_post(value: Any, **headers: str) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a platform's webhook request."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    # JavaScript escapes half of a surrogate pair in this way.
    body = json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace")
    return {"Content-Type": "application/json", **named}, body


def make_digest(secret: str, data: bytes, algorithm: str = "sha256") -> str:
    """Return the HMAC signature of an event."""
    return hmac.new(secret.encode(), data, algorithm).hexdigest()

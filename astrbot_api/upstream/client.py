"""HTTP client of an AstrBot.

Works with AstrBot 4.25 to 4.29. Features are detected from the answers, not from the version.
AstrBot may refuse a request with HTTP status 200 and ``"status": "error"`` in the envelope.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os.path import splitext
from typing import Any
from urllib.parse import quote, urlencode

from urllib3.fields import format_multipart_header_param

from ..config.upstream import UpstreamConfig
from ..errors import ProviderError
from ..providers.sse import SSEParser
from ..runtime.outbound import Answer, Call, Outbound, OutboundError

_READ_BYTES = 16_384
_MAX_JSON_BYTES = 16 * 1024 * 1024

_MAX_NAME_BYTES = 200

_USER_AGENT = "astrbot-api"

#: Timeout of a request without a stream, in seconds.
_ASK_S = 15.0

#: Timeout of a list that a request to this server waits for, in seconds.
_LIST_S = 3.0

#: Shown to the caller. Only the log has the URL.
UNREACHABLE = "The AstrBot that answers this config cannot be reached."


class UpstreamError(ProviderError):
    """Raised if a request to AstrBot failed.

    :param sent: Whether AstrBot may have received and executed the request.
    :param status: HTTP status, or 0 without a response.
    """

    def __init__(self, message: str, *, sent: bool = True, status: int = 0) -> None:
        super().__init__(message)
        self.sent = sent
        self.status = status


class UpstreamRefusal(UpstreamError):
    """Raised if AstrBot refused the request. It executed nothing."""


@dataclass(frozen=True, slots=True)
class UpstreamFile:
    """A file to upload.

    :param mime: MIME type. AstrBot recognizes images and recordings only by it.
    :param chunks: The bytes, exactly ``size_bytes`` of them.
    """

    name: str
    mime: str
    size_bytes: int
    chunks: Iterable[bytes]


class AstrBotClient:
    """Client of one AstrBot. Thread-safe, with a connection pool.

    :param config: URL, key and timeouts.
    """

    def __init__(self, config: UpstreamConfig) -> None:
        self._config = config
        self._outbound = Outbound(proxy=config.proxy, pool_size=config.max_concurrent * 2)
        # Requests with side effects use new connections. If a pooled connection breaks, it
        # is unknown whether the request arrived.
        self._fresh = Outbound(proxy=config.proxy)
        self._headers = {"X-API-Key": config.resolve_api_key(), "User-Agent": _USER_AGENT}
        self._lock = threading.Lock()
        self._token = ""

    @property
    def has_login(self) -> bool:
        """Whether the config contains the owner's login."""
        return bool(self._config.owner_username and self._config.resolve_owner_password())

    def iter_chat(self, body: Mapping[str, Any], call: Call) -> Iterator[dict[str, Any]]:
        """Send a message and yield the events of the answer until the stream ends.

        :raises UpstreamRefusal: if AstrBot refuses the message.
        :raises UpstreamError: if there is no response, or it is interrupted.
        """
        answer = self._send("POST", "/api/v1/chat", call, json_body=body)
        yield from self._iter_events(answer)

    def iter_run(self, run_id: str, username: str, call: Call) -> Iterator[dict[str, Any]]:
        """Yield the events of an existing run, starting with its current content.

        :raises UpstreamRefusal: if AstrBot has no such run, or denies access.
        :raises UpstreamError: if there is no response, or it is interrupted.
        """
        query = urlencode({"username": username, "snapshot": "true"})
        path = f"/api/v1/chat/runs/{quote(run_id, safe='')}/stream?{query}"
        yield from self._iter_events(self._send("GET", path, call, as_owner=self.has_login))

    def get_session(self, session_id: str, username: str, call: Call) -> dict[str, Any]:
        """Return a session: ``{"history": [...], "is_running", "active_runs", ...}``.

        :raises UpstreamRefusal: if AstrBot denies access.
        :raises UpstreamError: if there is no response.
        """
        query = urlencode({"username": username, "page": 1, "page_size": 100})
        path = f"/api/v1/chat/sessions/{quote(session_id, safe='')}?{query}"
        found: dict[str, Any] = self._ask("GET", path, call, as_owner=self.has_login)
        return found

    def stop_session(self, session_id: str, username: str, call: Call) -> None:
        """Stop a session's run, through the owner's route or the ``/stop`` command."""
        path = f"/api/v1/chat/sessions/{quote(session_id, safe='')}/stop"
        if self.has_login:
            try:
                self._ask("POST", path, call, json_body={}, as_owner=True)
            except UpstreamRefusal:
                pass  # older versions have only the command
            else:
                return
        body = {"username": username, "session_id": session_id, "message": "/stop",
                "_skip_user_history": True}  # fmt: skip
        for _ in self.iter_chat(body, call):
            pass

    def upload(self, file: UpstreamFile, call: Call) -> str:
        """Upload a file and return AstrBot's attachment id."""
        mark = f"----astrbot-api-{uuid.uuid4().hex}"
        # UTF-8 as browsers send it. Servers do not decode other percent-encoding.
        filename = format_multipart_header_param("filename", _fit_name(file.name))
        head = (
            f'--{mark}\r\nContent-Disposition: form-data; name="file"; {filename}\r\n'
            f"Content-Type: {file.mime}\r\n\r\n"
        ).encode()
        tail = f"\r\n--{mark}--\r\n".encode()

        def iter_body() -> Iterator[bytes]:
            yield head
            yield from file.chunks
            yield tail

        headers = {
            "Content-Type": f"multipart/form-data; boundary={mark}",
            "Content-Length": str(len(head) + file.size_bytes + len(tail)),
        }
        data = self._read_envelope(
            self._send("POST", "/api/v1/file", call, body=iter_body(), headers=headers)
        )
        return str(data["attachment_id"])

    def open_file(self, attachment_id: str, call: Call) -> Answer:
        """Return a response whose body is an attachment. The caller closes it.

        :raises UpstreamRefusal: if AstrBot does not have the file, or denies access.
        """
        query = urlencode({"attachment_id": attachment_id})
        answer = self._send("GET", f"/api/v1/file?{query}", call)
        if answer.headers.get("Content-Type", "").startswith("application/json"):
            self._read_envelope(answer)  # raises, except for a JSON file
            raise UpstreamRefusal("AstrBot did not return the file.")
        return answer

    def list_configs(self) -> list[dict[str, Any]]:
        """Return AstrBot's configs: ``[{"id", "name", "is_default"}]``."""
        found = self._ask("GET", "/api/v1/configs", Call(limit_s=_LIST_S))
        return [one for one in found["configs"] if isinstance(one, dict) and one.get("id")]

    def list_bots(self) -> list[str]:
        """Return the ids of AstrBot's bots."""
        found = self._ask("GET", "/api/v1/im/bots", Call(limit_s=_ASK_S))
        return [str(one) for one in found["bot_ids"]]

    def list_sessions(self, username: str) -> dict[str, Any]:
        """Return the first page of a user's sessions."""
        query = urlencode({"username": username, "page_size": 1})
        found: dict[str, Any] = self._ask(
            "GET", f"/api/v1/chat/sessions?{query}", Call(limit_s=_ASK_S)
        )
        return found

    def push(self, umo: str, message: list[dict[str, Any]], call: Call) -> None:
        """Send a message through AstrBot to a conversation of one of its messengers."""
        self._ask("POST", "/api/v1/im/message", call, json_body={"umo": umo, "message": message})

    def log_in(self, call: Call) -> None:
        """Log in as AstrBot's owner.

        :raises UpstreamRefusal: if the name or password is wrong.
        """
        config = self._config
        body = {"username": config.owner_username, "password": config.resolve_owner_password()}
        answer = self._send("POST", "/api/auth/login", call, json_body=body)
        token = self._read_envelope(answer).get("token")
        if not isinstance(token, str) or not token:
            raise UpstreamRefusal("AstrBot did not accept the owner's login.")
        with self._lock:
            self._token = token

    def close(self) -> None:
        """Close the pooled connections."""
        self._outbound.close()
        self._fresh.close()

    def _ask(
        self,
        method: str,
        path: str,
        call: Call,
        *,
        json_body: Mapping[str, Any] | None = None,
        as_owner: bool = False,
    ) -> Any:
        with call:
            answer = self._send(method, path, call, json_body=json_body, as_owner=as_owner)
            return self._read_envelope(answer)

    def _send(
        self,
        method: str,
        path: str,
        call: Call,
        *,
        json_body: Mapping[str, Any] | None = None,
        body: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        as_owner: bool = False,
    ) -> Answer:
        """Send one request. After an expired login, log in and retry once."""
        sent = dict(headers or {})
        content: bytes | Iterable[bytes] | None = body
        if json_body is not None:
            sent["Content-Type"] = "application/json"
            content = json.dumps(json_body, ensure_ascii=False).encode("utf-8", "replace")
        if not as_owner:
            return self._exchange(method, path, {**self._headers, **sent}, content, call)
        if not self._token:
            self.log_in(call)
        answer = self._exchange(method, path, {**self._as_owner(), **sent}, content, call)
        if answer.status == 401:
            answer.close()
            self.log_in(call)
            answer = self._exchange(method, path, {**self._as_owner(), **sent}, content, call)
        return answer

    def _as_owner(self) -> dict[str, str]:
        return {"User-Agent": _USER_AGENT, "Authorization": f"Bearer {self._token}"}

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], content: Any, call: Call
    ) -> Answer:
        outbound = self._outbound
        if method != "GET":
            outbound, headers = self._fresh, {**headers, "Connection": "close"}
        try:
            return outbound.send(
                method, self._config.base_url + path, headers=headers, body=content, call=call,
                connect_timeout_s=self._config.connect_timeout_s,
                read_timeout_s=self._config.timeout_s, stale_tries=3 if method == "GET" else 0,
            )  # fmt: skip
        except OutboundError as error:
            sent = error.reason not in (
                "address",
                "forbidden",
                "header",
                "unreachable",
                "untrusted",
            )
            raise UpstreamError(f"{UNREACHABLE} It {error.words}.", sent=sent) from error

    def _iter_events(self, answer: Answer) -> Iterator[dict[str, Any]]:
        try:
            if answer.status != 200 or "json" in answer.headers.get("Content-Type", ""):
                self._read_envelope(answer)
                raise UpstreamError("AstrBot answered a chat with JSON.", status=answer.status)
            parser = SSEParser()
            while True:
                data = answer.read(_READ_BYTES)
                for payload in parser.feed(data) if data else parser.finish():
                    event = _parse_event(payload)
                    if event is not None:
                        yield event
                if not data:
                    return
        except OutboundError as error:
            raise UpstreamError(f"AstrBot {error.words}.") from error
        finally:
            answer.close()

    def _read_envelope(self, answer: Answer) -> Any:
        """Return the ``data`` of a response.

        :raises UpstreamRefusal: if AstrBot refuses, with any HTTP status.
        """
        try:
            content, _ = answer.read_all(_MAX_JSON_BYTES, limit_s=_ASK_S)
        except OutboundError as error:
            raise UpstreamError(f"AstrBot {error.words}.", status=answer.status) from error
        finally:
            answer.close()
        try:
            envelope = json.loads(content)
        except ValueError:
            envelope = None
        if not isinstance(envelope, dict):
            # For an unknown path, 4.25 returns status 200 and plain text.
            raise UpstreamRefusal("AstrBot does not offer this route.", status=answer.status)
        if envelope.get("status") == "error" or answer.status >= 400:
            raise UpstreamRefusal(_refusal_text(envelope), status=answer.status)
        return envelope.get("data")


def _fit_name(name: str) -> str:
    """Return a file name that AstrBot can store with its prefix. Its disk allows 255 bytes."""
    stem, extension = splitext(name)
    room = _MAX_NAME_BYTES - len(extension.encode())
    return stem.encode()[:room].decode(errors="ignore") + extension


def _refusal_text(envelope: Mapping[str, Any]) -> str:
    message = envelope.get("message") or envelope.get("detail")
    text = " ".join(str(message or "no reason given").split())
    return f"AstrBot refused the request: {text[:300]}"


def _parse_event(payload: bytes) -> dict[str, Any] | None:
    """Return an event, or None for an invalid line, which is skipped."""
    try:
        event = json.loads(payload)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("type"), str) else None

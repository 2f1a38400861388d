"""Requests to an AstrBot: connections, the owner's login, envelopes and events.

AstrBot may refuse a request with HTTP status 200 and ``"status": "error"`` in the envelope.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..config.upstream import UpstreamConfig
from ..errors import ProviderError
from ..providers.sse import SSEParser
from ..runtime.bounded_json import load_json, load_with_halves
from ..runtime.outbound import Answer, Call, Outbound, OutboundError

#: AstrBot's refusal of its owner's name. Source: answers of 4.29.3.
_RESERVED = "reserved for an AstrBot administrator"

_READ_BYTES = 16_384
_MAX_JSON_BYTES = 16 * 1024 * 1024

#: Maximum time for reading a response without a stream, in seconds.
_READ_S = 15.0

#: Maximum time without an event, as a multiple of the read timeout. AstrBot also sends heartbeats
#: for a turn that never ends. Source: 4.29.3, after a message with half of a surrogate pair.
_EMPTY_TIMES = 10

#: Type of the event for a heartbeat, which is a comment.
HEARTBEAT = "heartbeat"

_USER_AGENT = "astrbot-api"

#: Reasons of :class:`OutboundError` after which AstrBot has certainly not received the request.
_NOT_SENT = ("address", "forbidden", "header", "unreachable", "handshake", "untrusted")

#: Shown to the caller. Only the log has the URL.
UNREACHABLE = "The AstrBot that answers this config {}."


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


class UpstreamTransport:
    """Connections to one AstrBot. Thread-safe."""

    def __init__(self, config: UpstreamConfig) -> None:
        self._config = config
        self._outbound = Outbound(proxy=config.proxy, pool_size=config.max_concurrent * 2)
        # Requests with side effects use new connections. If a pooled connection breaks, it
        # is unknown whether the request arrived.
        self._fresh = Outbound(proxy=config.proxy)
        self._headers = {"X-API-Key": config.resolve_api_key(), "User-Agent": _USER_AGENT}
        self._token = ""

    @property
    def has_login(self) -> bool:
        """Whether the config contains the owner's login."""
        return bool(self._config.owner_username and self._config.resolve_owner_password())

    def request(
        self,
        method: str,
        path: str,
        call: Call,
        *,
        json_body: Mapping[str, Any] | None = None,
        as_owner: bool = False,
    ) -> Any:
        """Send one request and return the ``data`` of the response.

        :param as_owner: Send the owner's login instead of the key.
        :raises UpstreamRefusal: if AstrBot refuses, with any HTTP status.
        :raises UpstreamError: if there is no response.
        """
        with call:
            answer = self.send(method, path, call, json_body=json_body, as_owner=as_owner)
            return read_envelope(answer)

    def send(
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
        """Send one request. After an expired login, log in and retry once.

        :returns: A response with any status and an unread body, which the caller closes.
        :raises UpstreamError: if there is no response.
        """
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
            sent = error.reason not in _NOT_SENT
            raise UpstreamError(UNREACHABLE.format(error.words), sent=sent) from error

    def log_in(self, call: Call) -> None:
        """Log in as AstrBot's owner.

        :raises UpstreamRefusal: if the name or password is wrong.
        """
        config = self._config
        body = {"username": config.owner_username, "password": config.resolve_owner_password()}
        answer = self.send("POST", "/api/auth/login", call, json_body=body)
        found = read_envelope(answer)
        token = found.get("token") if isinstance(found, dict) else None
        if not isinstance(token, str) or not token:
            raise UpstreamRefusal("AstrBot did not accept the owner's login.")
        self._token = token

    def close(self) -> None:
        """Close the pooled connections."""
        self._outbound.close()
        self._fresh.close()


def iter_events(answer: Answer, read_timeout_s: float) -> Iterator[dict[str, Any]]:
    """Yield the events and heartbeats of a stream until it ends, and close the response.

    :raises UpstreamRefusal: if AstrBot refuses.
    :raises UpstreamError: if the stream is interrupted, or has only heartbeats for too long.
    """
    limit_s = _EMPTY_TIMES * read_timeout_s
    try:
        if answer.status != 200 or "json" in answer.headers.get("Content-Type", ""):
            read_envelope(answer)
            raise UpstreamError("AstrBot answered a chat with JSON.", status=answer.status)
        parser, event_at = SSEParser(), time.monotonic()
        while time.monotonic() - event_at <= limit_s:
            data = answer.read(_READ_BYTES)
            payloads = parser.feed(data) if data else parser.finish()
            for event in filter(None, map(_parse_event, payloads)):
                yield event
                event_at = time.monotonic()
            if not data:
                return
            if data.startswith(b":"):  # not a part of a long event
                yield {"type": HEARTBEAT}
        raise UpstreamError(f"AstrBot sent only heartbeats for {limit_s:g} s.")
    except OutboundError as error:
        raise UpstreamError(f"AstrBot {error.words}.") from error
    finally:
        answer.close()


def read_envelope(answer: Answer) -> Any:
    """Return the ``data`` of a response, and close it.

    :raises UpstreamRefusal: if AstrBot refuses, with any HTTP status.
    """
    try:
        content, _ = answer.read_all(_MAX_JSON_BYTES, limit_s=_READ_S)
    except OutboundError as error:
        raise UpstreamError(f"AstrBot {error.words}.", status=answer.status) from error
    finally:
        answer.close()
    try:
        envelope = load_json(content, parse=load_with_halves)
    except ValueError:
        envelope = None
    if not isinstance(envelope, dict):
        # For an unknown path, 4.25 returns status 200 and plain text.
        raise UpstreamRefusal("AstrBot does not offer this route.", status=answer.status)
    if envelope.get("status") == "error" or answer.status >= 400:
        raise UpstreamRefusal(_refusal_text(envelope), status=answer.status)
    return envelope.get("data")


def _refusal_text(envelope: Mapping[str, Any]) -> str:
    message = envelope.get("message") or envelope.get("detail")
    text = " ".join(str(message or "no reason given").split())[:300]
    if _RESERVED in text:
        text += "; give the gateway's key at AstrBot the scope chat:admin and add the name to "
        text += "ASTRBOT_ADMIN_NAMES, or set username"
    return f"AstrBot refused the request: {text}"


def _parse_event(payload: bytes) -> dict[str, Any] | None:
    """Return an event, or None for an invalid line, which is skipped."""
    try:
        event = load_json(payload, parse=load_with_halves)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("type"), str) else None

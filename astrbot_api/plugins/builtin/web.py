"""``http_get``: fetch a page of the public internet, and nothing else.

A config must enable it by name. Each redirect is checked like the first URL.
:class:`~astrbot_api.runtime.outbound.Outbound` checks the addresses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urljoin, urlsplit

import marshmallow as ma

from ...agent.schema import tool
from ...agent.tools import Tool, ToolContext
from ...errors import ToolError
from ...runtime.addresses import is_public, resolve
from ...runtime.decoding import decode
from ...runtime.outbound import (
    ACCEPT_ENCODING,
    MAX_URL_CHARS,
    Answer,
    Call,
    Outbound,
    OutboundError,
)
from ..hookspecs import hookimpl

_MAX_REDIRECTS = 5

_REDIRECTS = {301, 302, 303, 307, 308}

_TEXT_TYPE = re.compile(r"(text/.*|application/(.*\+)?(json|xml|javascript|yaml|x-ndjson))")

_HEADERS = {
    "User-Agent": "astrbot-api (http_get)",
    "Accept": "text/*, application/json, application/xml;q=0.9",
    "Accept-Encoding": ACCEPT_ENCODING,
}


class WebSettings(ma.Schema):
    """``[plugins.web]``: allowed ports, maximum page size and total time limit."""

    ports = ma.fields.List(
        ma.fields.Integer(validate=ma.validate.Range(1, 65535)), load_default=lambda: [80, 443]
    )
    max_bytes = ma.fields.Integer(
        load_default=500_000, validate=ma.validate.Range(1000, 10_000_000)
    )
    timeout_s = ma.fields.Float(load_default=15.0, validate=ma.validate.Range(0.1, 300))


def _fetch(url: str, settings: Mapping[str, Any], call: Call) -> str:
    """Return the text at a URL, after redirects.

    :raises ToolError: if it is not a text on the public internet.
    """
    outbound = Outbound(may_connect=is_public, find_addresses=resolve)
    try:
        for _ in range(_MAX_REDIRECTS + 1):
            checked, left_s = _check_url(url, settings["ports"]), call.left_s()
            answer = outbound.send(
                "GET", checked, headers=_HEADERS, call=call,
                connect_timeout_s=left_s, read_timeout_s=left_s,
            )  # fmt: skip
            with closing(answer):
                location = answer.headers.get("Location")
                if answer.status not in _REDIRECTS or not location:
                    return _read(answer, settings["max_bytes"])
            url = urljoin(url, location)
    except OutboundError as error:
        raise _explain(error, url) from error
    finally:
        outbound.close()
    raise ToolError(f"more than {_MAX_REDIRECTS} redirects")


def _check_url(url: str, ports: Sequence[int]) -> str:
    if len(url) > MAX_URL_CHARS:
        raise ToolError("the URL is too long")
    try:
        parts = urlsplit(url.strip())
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise ToolError("this is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ToolError("only http:// and https:// URLs can be read")
    if parts.username is not None:
        raise ToolError("the URL must not contain a user name or password")
    if re.search(r"[\x00-\x20\x7f\\]", parts.netloc + parts.path + parts.query):
        raise ToolError("the URL has blanks, control characters or backslashes; encode them")
    if port not in ports:
        allowed = ", ".join(map(str, ports))
        raise ToolError(f"the port {port} is not allowed; allowed are {allowed}")
    return parts.geturl()


def _read(answer: Answer, max_bytes: int) -> str:
    kind, _, rest = answer.headers.get("Content-Type", "").partition(";")
    if not _TEXT_TYPE.fullmatch(kind.strip().lower()):
        raise ToolError(f"only texts can be read; the content type is {kind.strip() or 'missing'}")
    data, more = answer.read_all(max_bytes)
    charset = re.search(r"charset=[\"']?([\w-]+)", rest)
    text, _ = decode(data, charset[1] if charset else "")
    if more:
        text += f"\n[cut after {max_bytes} bytes]"
    return text if answer.status == 200 else f"HTTP {answer.status}\n{text}"


def _explain(error: OutboundError, url: str) -> ToolError:
    host = urlsplit(url).hostname
    if error.reason == "forbidden":
        return ToolError(f"{host} is not on the public internet")
    return ToolError(f"{host} could not be read: it {error.words}")


@tool(by_name_only=True, retry="safe")
def http_get(context: ToolContext, url: str) -> str:
    """Read a text or a web page of the public internet.

    :param url: Address of the text, with http:// or https://.
    """
    with Call(context.cancel, limit_s=context.settings["timeout_s"]) as call:
        return _fetch(url, context.settings, call)


class Web:
    """``http_get``."""

    name = "web"
    settings_schema = WebSettings

    @hookimpl
    def register_tools(self) -> list[Tool]:
        return [http_get]

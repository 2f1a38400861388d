"""Errors of model endpoints, and their texts for API callers and for the log.

The API's caller gets one of these sentences, and the endpoint's own text without keys and
addresses where that is safe. The log gets the rest, without keys.
"""

from __future__ import annotations

import html
import json
import math
import re
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from ..errors import ProviderError
from .pauses import read_pause_in_words
from .quirks import is_balance_used_up, is_misread_call, is_too_long, may_pass

#: Maximum length of an endpoint's text in the log, in characters.
_LOGGED_CHARS = 500

_KEYS = re.compile(r"\bsk-[\w\-*.]+|\bBearer\s+[^\s\"',;]+", re.IGNORECASE)
_REDACTED = "[redacted]"

UNREACHABLE = (
    "The model's endpoint could not be reached: check that it runs, and base_url and proxy in the "
    "config."
)
UNTRUSTED = (
    "The model's endpoint could not be reached: its TLS certificate was not accepted. If it is "
    "your own, name the file of its authority in the variable SSL_CERT_FILE."
)
NOT_TLS = (
    "The model's endpoint could not be reached: it does not speak TLS. Write http:// instead of "
    "https:// into base_url in the config."
)
BAD_KEY = (
    "The model's endpoint was not called: its key or one of its headers in the config has a "
    "character that HTTP forbids, such as a line break or a letter that is not Latin."
)
HUNG_UP = "The model's endpoint closed the connection without an answer."
BROKE_OFF = "The model's endpoint broke off the answer."
ANSWERED_NOTHING = "The model's endpoint answered nothing."
NOT_JSON = "The model's endpoint sent something that is not valid JSON."
NOT_A_MODEL = (
    "The model's endpoint answered with a web page: its address in the config may be wrong."
)
FAILED_MIDWAY = "The model's endpoint answered with an error."
FILTERED = "The model gave no answer: its endpoint's content filter withheld it."
THOUGHT_ONLY = (
    "The model thought, but gave no answer. Where it ran out of tokens, raise max_tokens in the "
    "config's [provider.extra], or ask for less thinking."
)
NO_ROOM = (
    "The model gave no answer: it ran out of tokens. Raise max_tokens in the config's "
    "[provider.extra], or ask for less."
)
MISREAD_CALL = (
    "The model wrote a tool call that its endpoint could not read. Try again, or use another model."
)
TOO_LONG = (
    "The conversation is too long for this model: begin a new one with /reset, or set a smaller "
    "history_tokens in the config."
)


TOO_LARGE = (
    "The request with its pictures is too large for the model's endpoint (HTTP 413). Send smaller "
    "pictures, begin a new conversation with /reset, or raise the limit of the endpoint's proxy."
)


def silent_for(timeout_s: float) -> str:
    """Return the error text of a read timeout."""
    return f"The model's endpoint did not answer within {timeout_s:g} s."


def empty_for(limit_s: float) -> str:
    """Return the error text of an answer that stays open without content."""
    return f"The model's endpoint kept the answer open for {limit_s:g} s without content."


def nothing_for(reason: str) -> str:
    """Return the error text of an empty answer."""
    shown = "" if reason in ("", "stop", "tool_calls") else f" Its reason is {reason}."
    return f"{ANSWERED_NOTHING}{shown}"


def describe_status(status: int, *, spent: bool = False, wait_s: float | None = None) -> str:
    """Return one sentence about an HTTP status for the API's caller.

    :param spent: Whether the account's balance is used up.
    :param wait_s: Delay that the endpoint asks for, in seconds.
    """
    code = f"(HTTP {status})"
    if spent:
        return f"The account at the model's endpoint has no balance left {code}; top it up."
    if status == 401:
        return f"The model's endpoint refused the server's credentials {code}."
    if status == 403:
        return f"The model's endpoint denied access {code}."
    if status == 429:
        when = f"in {math.ceil(wait_s)} s" if wait_s and wait_s < 86_400 else "later"
        return f"The model's endpoint is rate limited {code}; try again {when}."
    if 300 <= status < 400:
        return (
            f"The model's endpoint answered with a redirect {code}, which is not followed: set "
            "base_url in the config to the address it leads to."
        )
    if 400 <= status < 500:
        return f"The model's endpoint refused the request {code}."
    return f"The model's endpoint answered with an error {code}."


#: Words of errors about credentials.
_CREDENTIALS = re.compile(
    r"\bkey|token|credential|authori[sz]|authentic|\barn:|密钥", re.IGNORECASE
)


class EndpointRefusal(ProviderError):
    """Raised when the endpoint responds with an error status, or names one in the body.

    :param status: The HTTP status.
    :param text: The endpoint's error text, unchanged.
    :param retry_after_s: Delay that the endpoint asks for, in seconds.
    """

    def __init__(self, status: int, text: str = "", *, retry_after_s: float | None = None) -> None:
        words = quote(find_words(text))
        # Only the operator may see texts about credentials.
        if status in (401, 407) or (status == 403 and _CREDENTIALS.search(words)):
            words = ""
        # Gemini names a balance also if only the requests of a minute are used up.
        self.spent = status == 402 or (
            is_balance_used_up(text) and read_pause_in_words(text) is None
        )
        misread = is_misread_call(text)
        wait_s = read_pause_in_words(text) if retry_after_s is None else retry_after_s
        sentence = describe_status(status, spent=self.spent, wait_s=wait_s)
        if misread:
            sentence = MISREAD_CALL
        super().__init__(
            with_words(sentence, words),
            retryable=misread or (may_pass(status) and not self.spent),
            retry_after_s=wait_s,
            reason=find_reason(status, text),
        )
        self.status = status
        self.text = text


class ReportedError(ProviderError):
    """Raised when the endpoint reports an error without a status inside a successful response.

    :param text: The endpoint's error text, unchanged.
    :param words: The part of it that the API's caller may see.
    """

    def __init__(self, text: str, words: str) -> None:
        sentence = MISREAD_CALL if is_misread_call(text) else FAILED_MIDWAY
        super().__init__(with_words(sentence, words), retryable=True)
        #: Status of a comparable error response.
        self.status = 400
        self.text = text


def with_words(sentence: str, words: str) -> str:
    """Append the endpoint's own text to a sentence."""
    return f"{sentence.rstrip('.')}: {words}" if words else sentence


#: Fields of an error text in an endpoint's JSON.
_WORDS = (
    "message", "status_msg", "msg", "detail", "error_msg", "error", "errors", "reason", "title",
    "error_message", "errorMessage", "errmsg", "resultMsg", "Message", "Error",
)  # fmt: skip


#: Maximum depth of an error's JSON, and of JSON in its texts.
_MAX_DEPTH = 9

_TITLE = re.compile(r"<title>([^<]{1,200})</title>", re.IGNORECASE)


def find_words(error: Any, depth: int = 0) -> str:
    """Return the human-readable text of an error in JSON or text, or an empty string."""
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(error, str):
        text = error.strip()
        if text[:1] in ("{", "["):
            try:
                return find_words(json.loads(text), depth + 1)
            except (ValueError, RecursionError):
                return ""
        if text[:1] == "<":  # a proxy's page
            title = _TITLE.search(text)
            return html.unescape(title[1]).strip() if title else ""
        return _unwrap(text, depth)
    if isinstance(error, list):
        return find_words(error[0], depth + 1) if error else ""
    if isinstance(error, dict):
        place = error.get("loc")
        if isinstance(place, list) and isinstance(error.get("msg"), str):  # FastAPI
            return f"{'.'.join(map(str, place))}: {error['msg']}"
        inner = error.get("metadata")
        if isinstance(inner, dict) and inner.get("raw"):  # OpenRouter: the provider's own error
            outer = find_words({**error, "metadata": None}, depth + 1)
            raw = find_words(inner["raw"], depth + 1)
            return with_words(outer, raw) if outer else raw
        for key in _WORDS:
            words = find_words(error.get(key), depth + 1)
            if words:
                return words
        for value in error.values():
            words = find_words(value, depth + 1) if isinstance(value, dict) else ""
            if words:
                return words
    return ""


def _unwrap(text: str, depth: int) -> str:
    """Return a text with the words of the JSON in its middle. LiteLLM writes such texts."""
    begin, end = text.find('{"'), text.rfind("}") + 1
    words = ""
    if 0 < begin < end:
        words = find_words(text[begin:end].replace("\\'", "'"), depth + 1)
    if not words:
        return text
    return text[:begin].removesuffix("b'") + words + text[end:].removeprefix("'")


#: Addresses, hosts, paths, keys and account ids, which callers must not see.
_PRIVATE = re.compile(
    r"\b\w+://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?"
    r"|(?<![0-9a-f])\[?[0-9a-f]*:[0-9a-f:]*:[0-9a-f:.]+\]?(?::\d+)?"
    r"|\b[\w.-]+@[\w.-]+|\blocalhost\b(?::\d+)?|\b(?:[\w-]+\.)+(?:com|net|org|io|ai|dev|cn|local"
    r"|internal|lan|cloud|app|de|eu|co|us)\b(?::\d+)?|(?<![\w])(?:/[\w.-]+){2,}"
    r"|\b(?:org|proj|acct|user|req)[-_][A-Za-z0-9]{6,}|\b(?=\w*\d)(?=\w*[A-Za-z])[\w*-]{24,}",
    re.IGNORECASE,
)

#: Maximum length of an endpoint's text for the caller, in characters.
_QUOTED_CHARS = 300

#: Maximum length of text that is searched. The search can take quadratic time.
_READ_CHARS = 1500


def quote(words: str) -> str:
    """Return an endpoint's text without private parts, or an empty string if none is safe."""
    if "Traceback" in words or (not words.isprintable() and len(words) > 2000):
        return ""
    words = words.replace("\ufffd", "")
    if len(words) > _READ_CHARS:  # truncate before a word: half a key would not be recognised
        words = words[:_READ_CHARS].rpartition(" ")[0]
    text = " ".join(_PRIVATE.sub("[…]", _KEYS.sub("[…]", words)).split())
    text = "".join(one for one in text if one.isprintable())
    return text if len(text) <= _QUOTED_CHARS else f"{text[:_QUOTED_CHARS]}…"


#: Words in an error's code or type -> the matching HTTP status.
_STATUS_WORDS = (
    ("rate_limit", 429), ("resource_exhausted", 429), ("insufficient", 429), ("quota", 429),
    ("overloaded", 529), ("unavailable", 503), ("timeout", 504), ("server_error", 500),
    ("internal", 500), ("context_length", 400), ("invalid_request", 400),
    ("invalid_argument", 400), ("authentication", 401), ("permission", 403), ("not_found", 404),
)  # fmt: skip


def read_status(error: Any) -> int:
    """Return the HTTP status of an error object, or 0 if it names none."""
    if not isinstance(error, dict):
        return 0
    for key in ("code", "status", "status_code", "http_status", "statusCode"):
        value = error.get(key)
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    inner = error.get("error")
    if isinstance(inner, dict):
        return read_status(inner)
    words = " ".join(str(error.get(key) or "") for key in ("code", "type", "status")).lower()
    return next((status for word, status in _STATUS_WORDS if word in words), 0)


def find_reason(status: int, text: str) -> str:
    """Return an error code more specific than ``provider_error``, or an empty string.

    :param text: The endpoint's error text.
    """
    if status == 429:
        return "provider_rate_limited"
    if status in (400, 413, 422, 500) and is_too_long(text):
        return "context_length_exceeded"
    return ""


def redact(text: str, api_keys: Iterable[str]) -> str:
    """Prepare an endpoint's text for the log.

    :param text: Text of the endpoint or of a library.
    :param api_keys: The keys of the provider.
    :returns: At most 500 characters, with keys redacted and control characters escaped.
    """
    # Truncate last: half a key would not be recognised.
    return repr(_KEYS.sub(_REDACTED, hide_keys(text, api_keys))[:_LOGGED_CHARS])


def hide_keys(text: str, api_keys: Iterable[str]) -> str:
    """Return an endpoint's text without the provider's keys, of any format."""
    for key in api_keys:
        if key:
            text = text.replace(key, _REDACTED)
    return text


def decode(content: bytes) -> str:
    """Decode an error body: gzip without a header, UTF-8, or GB 18030."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(content, 100_000)
        except zlib.error:
            return ""
    text = content.decode("utf-8", "replace")
    if "\ufffd" in text:
        with suppress(UnicodeDecodeError):
            text = content.decode("gb18030")
    if "\\u" not in text:
        return text
    # Decode escapes, so that patterns match the words.
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text

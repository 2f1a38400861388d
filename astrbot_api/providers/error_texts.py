"""Reading of an endpoint's error texts, of any shape, for the caller and for the log."""

from __future__ import annotations

import html
import json
import re
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

#: Maximum length of an endpoint's text in the log, in characters.
_LOGGED_CHARS = 500

#: The same before keys are redacted. Half a key at its end is not logged.
_SEARCHED_CHARS = 64 * 1024

_KEYS = re.compile(r"\bsk-[\w\-*.]+|\bBearer\s+[^\s\"',;]+", re.IGNORECASE)
_REDACTED = "[redacted]"


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
        if isinstance(value, str) and re.fullmatch("[45][0-9]{2}", value):
            return int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    inner = error.get("error")
    if isinstance(inner, dict):
        return read_status(inner)
    words = " ".join(str(error.get(key) or "") for key in ("code", "type", "status")).lower()
    return next((status for word, status in _STATUS_WORDS if word in words), 0)


def redact(text: str, api_keys: Iterable[str]) -> str:
    """Prepare an endpoint's text for the log.

    :param text: Text of the endpoint or of a library.
    :returns: At most 500 characters, with keys redacted and control characters escaped.
    """
    # Truncate last: half a key would not be recognised.
    text = hide_keys(text[:_SEARCHED_CHARS], api_keys)
    return repr(_KEYS.sub(_REDACTED, text)[:_LOGGED_CHARS])


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

"""Context fields of log records, and log formatters."""

from __future__ import annotations

import logging
import re
import time
from contextvars import ContextVar
from typing import Any

import orjson

_fields: ContextVar[dict[str, str] | None] = ContextVar("astrbot_log_fields", default=None)


def set_log_fields(**fields: str) -> None:
    """Set the log fields of this thread (a greenlet under gevent).

    :param fields: ``request_id``, ``key_prefix``, ``session``, ``run``,
        ``trace_id``. Never pass a secret.
    """
    _fields.set(fields)


def get_log_fields() -> dict[str, str]:
    """Return the log fields of this thread."""
    return _fields.get() or {}


def format_time(time_s: float) -> str:
    """Format a time as ISO 8601 in UTC, with milliseconds."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_s))
    return f"{whole}.{int(time_s % 1 * 1000):03}+00:00"


#: An API key: the prefix that the owner's list shows, and the secret rest.
_KEY = re.compile(r"(abk_[\w-]{8})[\w-]+", re.ASCII)


def hide_keys(text: str) -> str:
    """Remove the secret part of API keys, which clients send in paths and malformed requests."""
    return _KEY.sub(r"\1...", text) if "abk_" in text else text


class HideKeys(logging.Filter):
    """Removes the secret part of API keys from the records of a logger with another formatter."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record's message."""
        record.msg, record.args = hide_keys(record.getMessage()), ()
        return True


#: Maximum length of a line, so that callers cannot fill the disk.
_MAX_LINE_CHARS = 16_000


def _bound_line(text: str) -> str:
    """Remove keys from a line, and shorten it in its middle if it is too long.

    The end is kept, because the end of a traceback names the error.
    """
    text = hide_keys(text)
    if len(text) <= _MAX_LINE_CHARS:
        return text
    half = _MAX_LINE_CHARS // 2
    return f"{text[:half]} [cut: {len(text)} characters] {text[-half:]}"


#: Unicode's line ends, and marks that change the writing direction.
_MARKS = "\u2028\u2029\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

#: Control characters except tab and newline, and those marks -> their escapes.
_ESCAPES = {
    code: ascii(chr(code))[1:-1]
    for code in (*range(9), *range(11, 32), *range(127, 160), *map(ord, _MARKS))
}


class LineFormatter(logging.Formatter):
    """Formats records as text lines of limited length.

    Messages contain texts of users. Those must not forge lines or control a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record. Only a traceback has several lines."""
        return _bound_line(super().format(record)).translate(_ESCAPES)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format a record without its traceback, as one line."""
        return super().formatMessage(record).replace("\n", "\\n")


class JsonFormatter(logging.Formatter):
    """Formats records as JSON lines: time, level, logger, message and log fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record. A traceback becomes the field ``exception``."""
        line: dict[str, Any] = {
            "time": format_time(record.created), "level": record.levelname,
            "logger": record.name, "message": _bound_line(record.getMessage()), **get_log_fields(),
        }  # fmt: skip
        if record.exc_info:
            line["exception"] = _bound_line(self.formatException(record.exc_info))
        # orjson rejects lone surrogates.
        return orjson.dumps(
            {name: text.encode("utf-8", "replace").decode() for name, text in line.items()}
        ).decode()

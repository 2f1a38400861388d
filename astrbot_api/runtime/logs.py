"""What a line of the log is about, and the log as JSON."""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from typing import Any

import orjson

_fields: ContextVar[dict[str, str] | None] = ContextVar("astrbot_log_fields", default=None)


def set_log_fields(**fields: str) -> None:
    """Say what this thread (a greenlet under gevent) works on from now on.

    :param fields: ``request_id``, ``key_prefix``, ``session``, ``run``,
        ``trace_id``; never a secret.
    """
    _fields.set(fields)


def get_log_fields() -> dict[str, str]:
    """Return what was said last."""
    return _fields.get() or {}


def format_time(time_s: float) -> str:
    """Return a time as ISO 8601 in UTC, to the millisecond."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_s))
    return f"{whole}.{int(time_s % 1 * 1000):03}+00:00"


#: Longest line; what is longer is cut, so that no caller fills the disk with it.
MAX_LINE_CHARS = 16_000


def bound_line(text: str) -> str:
    """Return a line of the log, cut in its middle when it is too long.

    The end of a traceback says what was wrong.
    """
    if len(text) <= MAX_LINE_CHARS:
        return text
    half = MAX_LINE_CHARS // 2
    return f"{text[:half]} [cut: {len(text)} characters] {text[-half:]}"


class LineFormatter(logging.Formatter):
    """Lines as people read them, each within bounds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return bound_line(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback is one text in it."""
        line: dict[str, Any] = {
            "time": format_time(record.created), "level": record.levelname,
            "logger": record.name, "message": bound_line(record.getMessage()), **get_log_fields(),
        }  # fmt: skip
        if record.exc_info:
            line["exception"] = bound_line(self.formatException(record.exc_info))
        # What is no UTF-8 is shown as Python would.
        return orjson.dumps(
            {name: text.encode("utf-8", "replace").decode() for name, text in line.items()}
        ).decode()

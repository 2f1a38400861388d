"""Retry delays that other servers ask for, in response headers or error texts."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from datetime import UTC

#: Larger numbers are Unix timestamps in seconds, not delays.
_EPOCH_S = 1e9

_UNITS_S = {
    "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "天": 86400.0, "小时": 3600.0,
    "分": 60.0, "秒": 1.0,
}  # fmt: skip
_UNIT = r"(?:ms|小时|[hms天分秒]|d(?=ays?\b|\b|\d))"

#: Durations as OpenAI and Go write them: ``2s``, ``1m30.5s``, ``500ms``, ``3``.
_DURATION = rf"(?:\d{{1,9}}(?:\.\d{{1,9}})?\s?{_UNIT})+|\d{{1,20}}(?:\.\d{{1,9}})?"

#: Source: errors of OpenAI, Groq, Gemini (text and ``retryDelay``), Azure, Cloudflare, OpenRouter,
#: Hugging Face (a model that is loaded).
_ASKED = re.compile(
    r"(?:(?:try again|retry|wait|resets?)\s+(?:in|after|for)\s+|wait\s+(?:about\s+)?|请[在等待]*\s?"
    r"|retry[_-]?(?:delay|after)(?P<ms>[_-]ms)?\W{1,5}|(?:ratelimit-reset|estimated_time)\W{1,5})"
    rf"({_DURATION})"
    r"(?!\d)",
    re.IGNORECASE,
)


def read_pause(headers: Mapping[str, str], text: str = "") -> float | None:
    """Return the delay that an endpoint asks for, in seconds, or None if it names none.

    :param text: Text of the error, searched if no header names a delay.
    """
    milliseconds = (headers.get("retry-after-ms") or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", milliseconds, re.ASCII):
        return float(milliseconds) / 1000
    pause_s = read_retry_after(headers.get("Retry-After"))
    return read_pause_in_words(text) if pause_s is None else pause_s


def read_pause_in_words(text: str) -> float | None:
    """Return the delay that an error text names, in seconds, or None if it names none."""
    asked = _ASKED.search(text[:8000])
    if asked is None:
        return None
    pause_s = _read_duration(asked[2])
    return pause_s / 1000 if pause_s and asked["ms"] else pause_s


def _read_duration(text: str) -> float | None:
    """Parse a duration and return its seconds, or None if the text is not a duration.

    A number without a unit is in seconds, or a Unix timestamp, maybe in ms, if it is large.
    """
    if not re.fullmatch(_DURATION, text, re.ASCII | re.IGNORECASE):
        return None
    pieces = re.findall(rf"([\d.]+)\s?({_UNIT})", text.lower())
    if pieces:
        return sum(float(number) * _UNITS_S[unit] for number, unit in pieces)
    seconds = float(text)
    now = time.time()
    seconds = seconds / 1000 if 500 * now < seconds < 2000 * now else seconds
    return max(0.0, seconds - now) if _EPOCH_S < seconds < 2 * now else seconds


def read_retry_after(value: str | None) -> float | None:
    """Parse a ``Retry-After`` header: seconds, a duration, or an HTTP date.

    Source: RFC 9110, 10.2.3.

    :returns: Seconds from now, never negative, or None if the value is missing or invalid.
    """
    text = (value or "").partition(",")[0].strip().strip('"')
    seconds = _read_duration(text)
    if seconds is not None:
        return seconds
    try:
        when = email.utils.parsedate_to_datetime((value or "").strip())
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    try:
        return max(0.0, when.timestamp() - time.time())
    except (OverflowError, ValueError):
        return None

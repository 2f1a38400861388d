"""How long an endpoint asks to wait: in its headers, or in the words of its refusal."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from datetime import UTC

#: A number above it is a time of day, in seconds since 1970: no endpoint asks for 30 years.
_EPOCH_S = 1e9

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

#: ``2s``, ``1m30.5s``, ``500ms``, ``3``: OpenAI's and Go's way to write a duration.
_DURATION = r"(?:\d{1,9}(?:\.\d{1,9})?\s?(?:ms|[hms]))+|\d{1,20}(?:\.\d{1,9})?"

#: OpenAI, Groq, Gemini (in words, and as ``retryDelay``), Azure, Cloudflare.
_ASKED = re.compile(
    r"(?:(?:try again|retry|wait)\s+(?:in|after|for)\s+|retry[_-]?(?:delay|after)\W{1,5})"
    rf"({_DURATION})"
    r"(?!\d)",
    re.IGNORECASE,
)


def read_pause(headers: Mapping[str, str], text: str = "") -> float | None:
    """Return what an endpoint asks to wait, in seconds; None: it does not say.

    :param text: What it said; read where no header says more.
    """
    milliseconds = (headers.get("retry-after-ms") or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", milliseconds, re.ASCII):
        return float(milliseconds) / 1000
    pause_s = read_retry_after(headers.get("Retry-After"))
    return read_pause_in_words(text) if pause_s is None else pause_s


def read_pause_in_words(text: str) -> float | None:
    """Return the pause that a refusal names, in seconds."""
    asked = _ASKED.search(text[:8000])
    return read_duration(asked[1]) if asked else None


def read_duration(text: str) -> float | None:
    """Understand a duration; a number alone has seconds. None: it is no duration."""
    if not re.fullmatch(_DURATION, text, re.ASCII | re.IGNORECASE):
        return None
    pieces = re.findall(r"([\d.]+)\s?(ms|[hms])", text.lower())
    if pieces:
        return sum(float(number) * _UNITS_S[unit] for number, unit in pieces)
    seconds = float(text)
    now = time.time()
    return max(0.0, seconds - now) if _EPOCH_S < seconds < 2 * now else seconds


def read_retry_after(value: str | None) -> float | None:
    """Understand a ``Retry-After`` header: seconds, a duration, or an HTTP date.

    Source: RFC 9110, 10.2.3.

    :returns: Seconds from now, never negative; None when there is nothing
        to understand.
    """
    text = (value or "").partition(",")[0].strip().strip('"')
    seconds = read_duration(text)
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

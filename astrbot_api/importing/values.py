"""Converts single values of AstrBot's database from their various forms."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import orjson

from ..messages import clean_text

#: Smaller numbers are seconds, then milliseconds. Others are microseconds since 1970.
_MAX_SECONDS, _MAX_MILLISECONDS = 10**11, 10**14

#: The year 10000, later than any time that this server stores.
_MAX_US = 253_402_300_800_000_000


def read_time(value: Any) -> int | None:
    """Return a time in microseconds since 1970, or None if it is not valid.

    Text is ISO 8601. Without an offset it is UTC, as in the recorded server's own answers
    (Source: ``30-sessions.jsonl``, ``+00:00``).
    """
    time_us: float
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        time_us = round(moment.timestamp() * 1_000_000)
    elif isinstance(value, (int, float)) and value == value:
        factor = 1_000_000 if value < _MAX_SECONDS else 1_000 if value < _MAX_MILLISECONDS else 1
        time_us = value * factor
    else:
        return None
    return int(time_us) if 0 <= time_us < _MAX_US else None


def read_text(value: Any) -> str:
    """Return text that any database can store, or an empty text for other values."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return ""
    return clean_text(value)


def read_json_value(value: Any) -> Any:
    """Parse the value of a JSON column.

    :raises ValueError: if it is not JSON.
    """
    if not isinstance(value, (str, bytes)):
        raise ValueError("not JSON")
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        # Python writes lone surrogates, which orjson refuses.
        try:
            text = json.dumps(json.loads(value), ensure_ascii=False, allow_nan=False)
        except RecursionError as error:
            raise ValueError("nested too deep") from error
        return orjson.loads(text.encode("utf-8", "replace"))


def read_flag(value: Any) -> bool:
    """Return whether a column contains a true value."""
    return value in (1, True, "1", "true", "True", "TRUE")

"""Version of this package."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def find_version(unknown: str = "0.0.0") -> str:
    """Return the installed version, or ``unknown`` if the package is not installed."""
    try:
        return version("astrbot-api")
    except PackageNotFoundError:
        return unknown

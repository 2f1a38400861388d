"""Which version of this package runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def find_version(unknown: str = "0.0.0") -> str:
    """Return the installed version; ``unknown`` where it is run from a bare checkout."""
    try:
        return version("astrbot-api")
    except PackageNotFoundError:
        return unknown

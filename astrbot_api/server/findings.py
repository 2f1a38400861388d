"""What one check of ``astrbot-api doctor`` has found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    :param state: ``ok``, ``off``, ``warn`` or ``fail``.
    :param remedy: What to do; empty where nothing is to do.
    """

    what: str
    state: str
    text: str
    remedy: str = ""

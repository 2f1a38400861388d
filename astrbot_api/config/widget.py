"""The ``[widget]`` table of a config: chat without a key on web pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import marshmallow as ma
from marshmallow.validate import Length, Range

from .tables import REQUIRED, key

_ORIGIN = re.compile(r"https?://([\w.-]+|\[[0-9a-f:.]+\])(:\d+)?")


class _Origin(ma.fields.String):
    def _deserialize(self, *arguments: Any, **options: Any) -> Any:
        origin = str(super()._deserialize(*arguments, **options)).rstrip("/").lower()
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ma.ValidationError("Must be an origin, such as https://shop.example, or *.")
        return origin


@dataclass(frozen=True, slots=True)
class WidgetConfig:
    """Pages whose visitors may chat, and their limits.

    :param origins: Origins such as ``https://shop.example``, or ``*`` for all pages.
    :param files: Whether visitors may send files and voice.
    :param turns_per_visitor: Maximum number of turns per browser and day.
    :param turns_per_address: Maximum number of turns per IP address (IPv6: /64 network) and day.
    """

    origins: tuple[str, ...] = key(REQUIRED, Length(1, 100), each=_Origin())
    heading: str = key("", Length(max=200))
    greeting: str = key("", Length(max=10_000))
    suggestions: tuple[str, ...] = key(
        (), Length(max=20), each=ma.fields.String(validate=Length(1, 500))
    )
    files: bool = False
    turns_per_visitor: int = key(50, Range(1, 1_000_000))
    turns_per_address: int = key(300, Range(1, 1_000_000))

    def allows(self, origin: str) -> bool:
        """Return whether pages of an origin may open the chat."""
        return "*" in self.origins or origin.lower() in self.origins

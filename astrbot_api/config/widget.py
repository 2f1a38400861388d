"""The ``[widget]`` table of a config: chat without a key on web pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import marshmallow as ma


@dataclass(frozen=True, slots=True)
class WidgetConfig:
    """Pages whose visitors may chat, and their limits.

    :param origins: Origins such as ``https://shop.example``, or ``*`` for all pages.
    :param files: Whether visitors may send files and voice.
    :param turns_per_visitor: Maximum number of turns per browser and day.
    :param turns_per_address: Maximum number of turns per IP address (IPv6: /64 network) and day.
    """

    origins: tuple[str, ...]
    heading: str = ""
    greeting: str = ""
    suggestions: tuple[str, ...] = ()
    files: bool = False
    turns_per_visitor: int = 50
    turns_per_address: int = 300

    def allows(self, origin: str) -> bool:
        """Return whether pages of an origin may open the chat."""
        return "*" in self.origins or origin.lower() in self.origins


def _check_origin(value: str) -> None:
    parts = urlsplit(value)
    plain = f"{parts.scheme}://{parts.netloc}"
    if value != "*" and (
        parts.scheme not in ("http", "https") or not parts.hostname or value.rstrip("/") != plain
    ):
        raise ma.ValidationError("Must be an origin, such as https://shop.example, or *.")


class WidgetSchema(ma.Schema):
    """Validates the table."""

    class Meta:
        unknown = ma.RAISE

    origins = ma.fields.List(
        ma.fields.String(validate=_check_origin),
        required=True,
        validate=ma.validate.Length(1, 100),
    )
    heading = ma.fields.String(validate=ma.validate.Length(max=200))
    greeting = ma.fields.String(validate=ma.validate.Length(max=10_000))
    suggestions = ma.fields.List(
        ma.fields.String(validate=ma.validate.Length(1, 500)), validate=ma.validate.Length(max=20)
    )
    files = ma.fields.Boolean()
    turns_per_visitor = ma.fields.Integer(validate=ma.validate.Range(1, 1_000_000))
    turns_per_address = ma.fields.Integer(validate=ma.validate.Range(1, 1_000_000))


def make_widget(table: Mapping[str, Any] | None) -> WidgetConfig | None:
    """Return the table's values, or None if the config has no such table."""
    if table is None:
        return None
    origins = tuple(one.rstrip("/").lower() for one in table["origins"])
    suggestions = tuple(table.get("suggestions", ()))
    return WidgetConfig(**{**table, "origins": origins, "suggestions": suggestions})

"""The ``[transcription]`` table of a config: the endpoint that transcribes recordings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import marshmallow as ma


@dataclass(frozen=True, slots=True)
class TranscriptionConfig:
    """An endpoint with OpenAI's ``/audio/transcriptions``.

    ``language`` is a hint (ISO 639-1). If empty, the model detects the language.
    """

    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    api_key_env: str = ""
    language: str = ""
    timeout_s: float = 120.0
    proxy: str = ""

    def resolve_api_key(self) -> str:
        """Return the key from the file, or from the variable in ``api_key_env``."""
        return self.api_key or os.environ.get(self.api_key_env, "")


class TranscriptionSchema(ma.Schema):
    """Validates the table."""

    class Meta:
        unknown = ma.RAISE

    base_url = ma.fields.Url(required=True, schemes={"http", "https"}, require_tld=False)
    model = ma.fields.String(required=True, validate=ma.validate.Length(1, 200))
    api_key = ma.fields.String()
    api_key_env = ma.fields.String()
    language = ma.fields.String(validate=ma.validate.Length(max=20))
    timeout_s = ma.fields.Float(validate=ma.validate.Range(1, 3600))
    proxy = ma.fields.String()


def make_transcription(table: Mapping[str, Any] | None) -> TranscriptionConfig | None:
    """Return the table's values, or None if the config has no such table."""
    if table is None:
        return None
    base_url = str(table["base_url"]).rstrip("/").removesuffix("/audio/transcriptions")
    return TranscriptionConfig(**{**table, "base_url": base_url})

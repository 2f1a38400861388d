"""The ``[transcription]`` table of a config: the endpoint that transcribes recordings."""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow.validate import Length, Range

from .tables import REQUIRED, BaseUrl, check_proxy, check_variable, key, resolve_key


@dataclass(frozen=True, slots=True)
class TranscriptionConfig:
    """An endpoint with OpenAI's ``/audio/transcriptions``.

    ``language`` is a hint (ISO 639-1). If empty, the model detects the language. ``proxy`` is as in
    ``[provider]``.
    """

    base_url: str = key(REQUIRED, field=BaseUrl("/audio/transcriptions"))
    model: str = key(REQUIRED, Length(1, 200))
    api_key: str = key("", secret=True)
    api_key_env: str = key("", check_variable)
    language: str = key("", Length(max=20))
    timeout_s: float = key(120.0, Range(1, 3600))
    proxy: str | None = key(None, check_proxy, secret=True)

    def resolve_api_key(self) -> str:
        """Return the key from the file, or from the variable in ``api_key_env``."""
        return resolve_key(self.api_key, self.api_key_env)

"""Errors that an endpoint reports inside a successful response, in any shape."""

from __future__ import annotations

import json
import re
from typing import Any

from ..errors import ProviderError
from . import error_texts, failures
from .endpoint import MAX_ERROR_BYTES, Endpoint

#: Known fields of a chunk. A chunk without choices but with other fields may be an error.
_USUAL = frozenset(
    {
        "id", "object", "created", "model", "choices", "usage", "system_fingerprint", "type",
        "service_tier", "provider", "prompt_filter_results", "x_groq", "timings", "citations",
        "search_results", "nonce", "obfuscation", "kv_transfer_params", "prompt_token_ids",
    }
)  # fmt: skip


class ReportedErrors:
    """Collects what an endpoint sends beside one answer, which may explain why that is missing."""

    def __init__(self, endpoint: Endpoint) -> None:
        #: Whether text was received that is not JSON.
        self.has_invalid_json = False
        #: The text for the caller, or a blank if the endpoint's own text is unsafe or missing.
        self.words = ""
        self._endpoint = endpoint
        self._has_logged = False

    def add_chunk(self, chunk: dict[str, Any]) -> None:
        """Add a chunk without a choice: usage, a keep-alive, or an error of an unknown shape."""
        odd = {key: one for key, one in chunk.items() if key not in _USUAL and one}
        if odd and not self.words.strip():
            self._log(_dump(odd))
            self.words = self._quote(chunk) or " "

    def add_text(self, payload: bytes) -> None:
        """Add text that is not JSON, because it may be an error text."""
        self.has_invalid_json = True
        text = payload[:MAX_ERROR_BYTES].decode("utf-8", "replace").strip()
        self._log(text)
        text = re.sub(r"^\[[A-Z]+\]\s*", "", text).strip('"')
        if text[:1] not in ("", "{", "[", ":"):
            self.words = self.words or self._quote(text)

    def explain(self, message: str) -> ProviderError:
        """Return the error that the collected text reports.

        :param message: Text for the caller if there is none.
        """
        words = self.words.strip()
        if words:
            return failures.ReportedError(words, words)
        return ProviderError(message, retryable=True)

    def read_error(self, error: Any) -> ProviderError:
        """Return the error that a chunk reports."""
        text = _dump(error)[:MAX_ERROR_BYTES]
        self._endpoint.log_failure("reported an error inside its answer", text)
        status = error_texts.read_status(error)
        if status:
            return failures.EndpointRefusal(status, self._endpoint.hide(text))
        return failures.ReportedError(self._endpoint.hide(text), self._quote(error))

    def _log(self, text: str) -> None:
        """Log the first unexpected data of an answer, which may have any number of it."""
        if not self._has_logged:
            self._has_logged = True
            self._endpoint.log_failure("sent unexpected data", text)

    def _quote(self, said: Any) -> str:
        """Return an endpoint's text without private parts, for the caller."""
        return error_texts.quote(self._endpoint.hide(error_texts.find_words(said)))


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)

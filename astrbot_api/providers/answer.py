"""Incremental reading of a response body: bytes to payloads to deltas."""

from __future__ import annotations

import time
from contextlib import suppress

from ..agent.provider import Delta
from ..errors import ProviderError
from ..runtime.outbound import Answer, Call, OutboundError
from ..runtime.threads import let_others_run
from . import failures
from .chunks import ChunkReader
from .endpoint import Endpoint
from .sse import BodyParser

_READ_BYTES = 16_384

#: Seconds to wait for the usage and the end mark after a finish reason.
_LATE_USAGE_S = 5.0
#: The same if the finish reason came with text: some endpoints send one in each chunk.
_LATE_TEXT_S = 30.0
#: Seconds to wait for the end of the HTTP body after the end mark.
_LATE_END_S = 0.2

#: Payloads after which other greenlets run. A read has eighty usual chunks, but may have a thousand
#: lines that are no JSON, which take ten times as long.
_PAYLOADS_PER_TURN = 100

#: Maximum time without content, as a multiple of the read timeout. Comments such as OpenRouter's
#: ``: OPENROUTER PROCESSING`` show that a slow model still works, but not forever. DeepSeek closes
#: waiting requests after ten minutes (Source: https://api-docs.deepseek.com/quick_start/rate_limit).
_EMPTY_TIMES = 10


class AnswerReader:
    """One answer of an endpoint.

    This is not a generator, because each level of generators slows down greenlet switches.
    """

    def __init__(
        self,
        answer: Answer,
        call: Call,
        endpoint: Endpoint,
        reader: ChunkReader,
        read_timeout_s: float,
    ) -> None:
        self._answer = answer
        self._call = call
        self._endpoint = endpoint
        self._reader = reader
        self._read_timeout_s = read_timeout_s
        self._parser = BodyParser(answer.headers.get("Content-Type", ""))
        self._failure: ProviderError | None = None
        self._over = False
        self._content_at = time.monotonic()
        #: Maximum time without content, in seconds.
        self._empty_limit_s = _EMPTY_TIMES * read_timeout_s

    def read_first(self) -> list[Delta]:
        """Return the first deltas, at least one.

        :raises ProviderError: when the answer fails or ends before the first delta.
        """
        while True:
            found = self.read_more()
            if found:
                return found
            if found is None:
                raise ProviderError(failures.ANSWERED_NOTHING, retryable=True)

    def read_more(self) -> list[Delta] | None:
        """Return the deltas of the next bytes, maybe an empty list, or None after the end.

        :raises ProviderError: after the deltas before the failure were returned.
        """
        if self._failure is not None:
            raise self._failure
        if self._over:
            return None
        data = self._read()
        payloads = self._parser.feed(data) if data else self._parser.finish()
        found: list[Delta] = []
        read = self._reader.read
        try:
            for count, payload in enumerate(payloads, 1):
                found += read(payload)
                if count % _PAYLOADS_PER_TURN == 0:
                    let_others_run()
            if not data or self._parser.done:
                self._end(found)
        except ProviderError as error:
            if not found:
                raise
            self._failure = error
            return found
        if found or self._reader.take_progress():
            self._content_at = time.monotonic()
        if self._reader.finished:
            alone = self._reader.ended_alone
            limit_s = _LATE_USAGE_S if alone else _LATE_TEXT_S
            self._empty_limit_s = min(limit_s, self._read_timeout_s)
            self._call.limit_wait(self._empty_limit_s)
        return found

    def close(self) -> None:
        """Close the response. A response read to its end has already returned its connection."""
        self._answer.close()

    def _read(self) -> bytes:
        """Return the next bytes, or none at the end.

        :raises ProviderError: when the read fails, or comments are all that has been received for
            too long.
        """
        if time.monotonic() - self._content_at > self._empty_limit_s:
            if self._reader.finished:
                return b""
            self._endpoint.log_failure("sent no content")
            raise ProviderError(failures.empty_for(self._empty_limit_s))
        try:
            return self._answer.read(_READ_BYTES)
        except OutboundError as error:
            if not self._reader.finished:
                raise self._endpoint.explain_break(error) from error
            return b""  # the answer is complete, only the end of the body is missing

    def _end(self, found: list[Delta]) -> None:
        self._over = True
        if self._parser.done:
            self._read_end()
        elif not self._reader.finished and not self._parser.is_document:
            # A dropped connection can look like a normal end of the body.
            self._endpoint.log_failure("broke off")
            raise self._reader.reported.explain(failures.BROKE_OFF)
        last = self._reader.finish()
        # If nothing was returned yet, raise now: the caller can retry.
        try:
            self._reader.check_answered()
        except ProviderError as error:
            if not found and len(last) == 1:
                raise
            self._failure = error
        found += last

    def _read_end(self) -> None:
        """Read the end of the body after ``[DONE]``, so that the connection can be reused.

        If the endpoint never ends the body, close the connection.
        """
        self._call.limit_wait(_LATE_END_S)
        with suppress(OutboundError):
            if self._answer.read(_READ_BYTES):
                self._answer.close()

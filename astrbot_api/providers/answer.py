"""Reads the body of one answer as it comes: bytes, payloads, deltas."""

from __future__ import annotations

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

#: How long to wait for what may still come when the answer is whole, in seconds: the usage and
#: the end mark; the same where the reason of the end came along with text, which some endpoints
#: write in each chunk; and the end of the HTTP body.
_LATE_USAGE_S = 5.0
_LATE_TEXT_S = 30.0
_LATE_END_S = 0.2

#: After how many chunks other greenlets get their turn: a fast endpoint
#: always has more bytes ready, so that reading alone never waits.
_CHUNKS_PER_TURN = 32


class AnswerReader:
    """One answer of an endpoint.

    A plain object: a level of generators would cost at each switch of a greenlet.

    :param read_timeout_s: Longest silence.
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
        self._chunks = 0

    def read_first(self) -> list[Delta]:
        """Return the first deltas, of which there is one at least.

        :raises ProviderError: when the answer fails before there is anything to show.
        """
        while True:
            found = self.read_more()
            if found:
                return found
            if found is None:
                raise ProviderError(failures.ANSWERED_NOTHING, retryable=True)

    def read_more(self) -> list[Delta] | None:
        """Return what the next bytes add to the answer, maybe nothing; None: it is over.

        :raises ProviderError: after everything that came before the failure was returned.
        """
        if self._failure is not None:
            raise self._failure
        if self._over:
            return None
        try:
            data = self._answer.read(_READ_BYTES)
        except OutboundError as error:
            if not self._reader.finished:
                raise self._endpoint.explain_break(error) from error
            data = b""  # only the end is missing
        payloads = self._parser.feed(data) if data else self._parser.finish()
        found: list[Delta] = []
        read = self._reader.read
        try:
            for payload in payloads:
                found += read(payload)
            if not data or self._parser.done:
                self._end(found)
        except ProviderError as error:
            if not found:
                raise
            self._failure = error
            return found
        if self._reader.finished:
            alone = self._reader.ended_alone
            limit_s = _LATE_USAGE_S if alone else _LATE_TEXT_S
            self._call.limit_wait(min(limit_s, self._read_timeout_s))
        self._chunks += len(payloads)
        if self._chunks >= _CHUNKS_PER_TURN:
            self._chunks = 0
            let_others_run()
        return found

    def close(self) -> None:
        """Close what was not read to its end; a connection that was is in the pool again."""
        self._answer.close()

    def _end(self, found: list[Delta]) -> None:
        self._over = True
        if self._parser.done:
            self._read_end()
        elif not self._reader.finished and not self._parser.is_document:
            # A cut connection may look like an ordinary end of the body.
            self._endpoint.log_failure("broke off")
            raise self._reader.explain(failures.BROKE_OFF)
        last = self._reader.finish()
        # Checked first: a failure before anything was shown is tried again.
        try:
            self._reader.check_answered()
        except ProviderError as error:
            if not found and len(last) == 1:
                raise
            self._failure = error
        found += last

    def _read_end(self) -> None:
        """Read the end of the body after ``[DONE]``, to keep the connection.

        It is mostly here already. An endpoint that never ends the body only
        costs the connection.
        """
        self._call.limit_wait(_LATE_END_S)
        with suppress(OutboundError):
            if self._answer.read(_READ_BYTES):
                self._answer.close()

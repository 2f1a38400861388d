"""The chunks of a completion on their way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...errors import StorageError
from ..chat.watching import TurnWatch
from .rendering import Completion

_HEARTBEAT = b": heartbeat\n\n"


class CompletionBody:
    """The body of a streamed completion: an iterable with ``close``, as WSGI has it.

    Not a generator: one that was never begun would not be closed.

    :param on_close: Called once, when the turn has ended or the client is gone.
    """

    def __init__(
        self,
        watch: TurnWatch,
        completion: Completion,
        *,
        heartbeat_s: float,
        include_usage: bool,
        on_close: Callable[[], None],
    ) -> None:
        self._watch = watch
        self._completion = completion
        self._heartbeat_s = heartbeat_s
        self._include_usage = include_usage
        self._on_close = on_close
        self._lead = completion.to_chunk({"role": "assistant", "content": ""})
        self._over = False
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return what is new; a comment where there is nothing."""
        self._watch.note_sent()
        if self._over:
            raise StopIteration
        data, self._lead = self._lead or self._read(), b""
        self._watch.note_sending()
        return data

    def close(self) -> None:
        """Give back what the stream holds."""
        self._over = True
        if not self._closed:
            self._closed = True
            self._watch.close()
            self._on_close()

    def _read(self) -> bytes:
        completion = self._completion
        try:
            batch = self._watch.take(self._heartbeat_s)
        except StorageError as error:
            self._over = True
            completion.error = ("storage_error", str(error))
            return completion.to_last_chunks(include_usage=False)
        deltas = [delta for event in batch if (delta := completion.take(event)) is not None]
        frames = b"".join(completion.to_chunk(delta) for delta in deltas)
        if self._watch.ended:
            self._over = True
            return frames + completion.to_last_chunks(include_usage=self._include_usage)
        return frames or _HEARTBEAT

"""Progress and errors of one delivery attempt."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..errors import ApiError, AstrBotError, StorageError
from .http import PlatformError


@dataclass(frozen=True, slots=True)
class Sent:
    """The part of a message that one response of the platform confirmed.

    :param parts: Number of further parts that are sent completely.
    :param chars: Number of further characters of the next part, a text that is split into
        several messages by the platform's limit.
    :param platform_ids: The platform's ids of the new messages.
    """

    parts: int
    chars: int = 0
    platform_ids: tuple[str, ...] = ()


#: Stores confirmed progress. May raise ``StorageError``, which senders must not catch.
Progress = Callable[[Sent], None]


#: Maximum number of retries, one per second, to store a confirmed part.
_NOTE_TRIES = 30


class ClaimLost(AstrBotError):
    """Another worker has taken over the delivery: this worker must stop sending it."""


@dataclass(slots=True)
class Confirmed:
    """The confirmed progress of a delivery."""

    parts: int
    chars: int
    platform_ids: list[str]

    def add(self, sent: Sent) -> None:
        """Add the progress of one more response of the platform."""
        if sent.parts:
            self.parts += sent.parts
            self.chars = 0
        self.chars += sent.chars
        self.platform_ids += sent.platform_ids


#: Stores the confirmed progress. Returns False if another worker has taken over the delivery.
Note = Callable[[Confirmed], bool]


def store_progress(note: Note, confirmed: Confirmed) -> None:
    """Store the confirmed progress, and retry while the database is busy.

    :raises ClaimLost: when another worker has taken over the delivery.
    :raises StorageError: when the database was unavailable for half a minute.
    """
    for left in range(_NOTE_TRIES, -1, -1):
        try:
            kept = note(replace(confirmed, platform_ids=list(confirmed.platform_ids)))
        except StorageError:
            if not left:
                raise
            time.sleep(1.0)
            continue
        if not kept:
            raise ClaimLost("another worker has taken over this delivery")
        return


def to_platform_error(error: BaseException) -> PlatformError:
    """Convert the exception of a failed attempt to a PlatformError."""
    if isinstance(error, PlatformError):
        return error
    if isinstance(error, ApiError):
        return PlatformError(error.message)
    if isinstance(error, (StorageError, OSError)):
        return PlatformError("An attachment of the message cannot be read.", retryable=True)
    return PlatformError("The adapter failed; the server's log has the details.", retryable=True)

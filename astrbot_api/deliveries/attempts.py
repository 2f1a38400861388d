"""One attempt to deliver, as the outbox sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..errors import ApiError, AstrBotError, StorageError
from .http import PlatformError


@dataclass(frozen=True, slots=True)
class Sent:
    """What one answer of the platform confirmed.

    :param parts: So many further parts of the message are now out whole.
    :param chars: Of the next part, a text, so many further characters are
        out, when the platform's limit had it cut into several messages.
    :param platform_ids: The platform's ids of what was made.
    """

    parts: int
    chars: int = 0
    platform_ids: tuple[str, ...] = ()


#: Stores what was confirmed. It may raise ``StorageError``: let it pass.
Progress = Callable[[Sent], None]


#: How long a confirmed part may wait for a database that takes nothing.
_NOTE_TRIES = 30


class ClaimLost(AstrBotError):
    """Another worker has the delivery: this one must send no more of it."""


@dataclass(slots=True)
class Confirmed:
    """What the platform has confirmed of a delivery so far."""

    parts: int
    chars: int
    platform_ids: list[str]

    def add(self, sent: Sent) -> None:
        """Add what one more answer of the platform confirmed."""
        if sent.parts:
            self.parts += sent.parts
            self.chars = 0
        self.chars += sent.chars
        self.platform_ids += sent.platform_ids


#: Stores what is confirmed; False: the claim is lost.
Note = Callable[[Confirmed], bool]


def keep_trying(note: Note, confirmed: Confirmed) -> None:
    """Store what is confirmed, however busy the database is just now.

    :raises ClaimLost: when another worker has the delivery.
    :raises StorageError: when it could not be stored for half a minute.
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
            raise ClaimLost("another worker has this delivery")
        return


def to_platform_error(error: Exception) -> PlatformError:
    """Return the error that a failed attempt is reported as."""
    if isinstance(error, PlatformError):
        return error
    if isinstance(error, ApiError):
        return PlatformError(error.message)
    if isinstance(error, (StorageError, OSError)):
        return PlatformError("An attachment of the message cannot be read.", retryable=True)
    return PlatformError("The adapter failed; the server's log has the details.", retryable=True)

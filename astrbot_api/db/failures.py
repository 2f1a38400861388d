"""What is said when the database fails: the cause to the log, a plain word to the caller."""

from __future__ import annotations

import logging

from ..errors import OutcomeUnknown, StorageError

log = logging.getLogger(__name__)

#: The longest query of :meth:`~astrbot_api.db.store.Store.read_aside`, in seconds.
MAX_READ_S = 5.0

#: How long a turn that has begun waits for a database that is locked or away, in seconds.
PATIENCE_S = 30.0


def as_storage_error(error: Exception) -> StorageError:
    """Log a failure of the database and return the error for the caller."""
    log.error("database: %s", " ".join(str(error).split()))
    return StorageError(
        "The server could not reach or keep its state; nothing was stored. Try again later."
    )


def as_unknown_outcome(error: Exception) -> OutcomeUnknown:
    """Log a connection that was lost in a commit and return the error for the caller."""
    log.error("database: lost while it committed: %s", " ".join(str(error).split()))
    return OutcomeUnknown(
        "The server lost its state while it stored this, which may or may not be kept. "
        "Look before you try again."
    )

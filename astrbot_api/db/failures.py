"""Errors of the database: the cause goes to the log, a general message to the caller."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

from ..errors import OutcomeUnknown, StorageError

log = logging.getLogger(__name__)

#: Maximum duration of a query in :meth:`~astrbot_api.db.store.Store.read_aside`, in seconds.
MAX_READ_S = 5.0

#: Size of the file ``-shm`` that SQLite needs even to read, in bytes.
_SHARED_BYTES = 32 * 1024

#: Seconds that a running turn waits for a locked or unreachable database.
PATIENCE_S = 30.0


def as_storage_error(error: Exception, name: str = "") -> StorageError:
    """Log a database error, and return the error for the caller.

    :param name: The database's file for the log, or empty.
    """
    where = f"database {name}" if name else "database"
    made = StorageError(
        "The server could not read or write its database; nothing was stored. Try again later."
    )
    made.operator_text = f"{where}: {' '.join(str(error).split())}{_find_cause(error, name)}"
    log.error("%s", made.operator_text)
    return made


def _find_cause(error: Exception, name: str) -> str:
    """Return the cause that SQLite does not name: a full disk, or no free file descriptor."""
    text = str(error)
    if "disk I/O error" in text:
        with suppress(OSError):
            free_bytes = shutil.disk_usage(Path(name).parent).free
            return ": the disk is full" if free_bytes < _SHARED_BYTES else ""
    if "unable to open" in text:
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as cause:
            return f": {cause.strerror}; raise the limit (ulimit -n, LimitNOFILE)"
    return ""


def as_unknown_outcome(error: Exception) -> OutcomeUnknown:
    """Log a connection lost during COMMIT, and return the error for the caller."""
    log.error("database: connection lost during COMMIT: %s", " ".join(str(error).split()))
    return OutcomeUnknown(
        "The server lost the connection to its database while it stored this, which may or may "
        "not be stored. Check before you try again."
    )

"""The order of a session's turns, across workers."""

from __future__ import annotations

import logging
from functools import partial

from ...db import runs
from ...db.store import Store
from ...errors import StorageError, StoreClosed
from .handover import Handover
from .outcome import RunLost
from .turn import OpenTurn

log = logging.getLogger(__name__)

#: Seconds between two polls of a waiting turn. An earlier turn may run on another worker.
_POLL_S = 0.1


def wait_for_earlier_turns(store: Store, handover: Handover, turn: OpenTurn) -> bool:
    """Wait until all earlier turns of the session have ended, and mark the run as running.

    :returns: False if the turn was handed over because this worker stops.
    :raises RunCancelled: if the turn is cancelled while it waits.
    :raises RunLost: if another worker has ended the run.
    """
    try:
        while not _try_begin(store, turn):
            if handover.release_between_steps(turn):
                return False
            turn.cancel.wait(_POLL_S)
    except StoreClosed:
        turn.log.mark_lost()  # the run stays open, and the next start resumes it
        return False
    return True


def _try_begin(store: Store, turn: OpenTurn) -> bool:
    """Return False while the turn has to wait, also for the database."""
    turn.cancel.raise_if_cancelled()
    try:
        with store.read() as db:
            if runs.has_earlier_run(db, turn.session.id, turn.number):
                return False
        number, worker_id = turn.number, turn.worker_id
        start = partial(runs.start_run, number=number, worker_id=worker_id)
        if not store.write(start, quick=True):
            raise RunLost
    except StoreClosed:
        raise
    except StorageError as error:
        log.warning("run %s waits for the database: %s", turn.run_id, error)
        return False
    return True

"""What messengers have told us: each event once, and which turn it became."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

import peewee

from ..runtime.clock import now_us

#: Longest event id that is kept as it is; a longer one is kept as its digest.
_MAX_ID_CHARS = 200


@dataclass(frozen=True, slots=True)
class InboundEvent:
    """A message of a messenger that became a turn.

    :param reply_to: The platform's id of the message, for the reply.
    """

    bot_id: str
    umo: str
    reply_to: str | None


_INSERT = """
INSERT INTO inbound_event (bot_id, event_id, run_id, umo, reply_to, received_at)
VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (bot_id, event_id) DO NOTHING
"""

_OF_RUN = "SELECT bot_id, umo, reply_to FROM inbound_event WHERE run_id = ?"

_KNOWN = "SELECT 1 FROM inbound_event WHERE bot_id = ? AND event_id = ?"

_PRUNE = """
DELETE FROM inbound_event WHERE (bot_id, event_id) IN (
    SELECT bot_id, event_id FROM inbound_event WHERE received_at < ?
    ORDER BY received_at LIMIT ?)
"""

_TAKE_LEASE = """
INSERT INTO bot_lease (bot_id, worker_id) VALUES (?, ?)
ON CONFLICT (bot_id) DO UPDATE SET worker_id = excluded.worker_id
WHERE bot_lease.worker_id = excluded.worker_id
   OR bot_lease.worker_id NOT IN (SELECT worker_id FROM worker WHERE lease_until > ?)
"""


def add_event(
    db: peewee.Database,
    bot_id: str,
    event_id: str,
    *,
    run_id: str | None,
    umo: str,
    reply_to: str | None,
) -> bool:
    """Note an event. False: it is known already, and nothing was noted.

    :param run_id: The turn that answers it; None where there is none.
    """
    values = (bot_id, to_key(event_id), run_id, umo, reply_to, now_us())
    return bool(db.execute_sql(_INSERT, values).rowcount)


def is_known(db: peewee.Database, bot_id: str, event_id: str) -> bool:
    """Return whether an event has come before."""
    return db.execute_sql(_KNOWN, (bot_id, to_key(event_id))).fetchone() is not None


def find_event_of_run(db: peewee.Database, run_id: str) -> InboundEvent | None:
    """Return the event that a turn answers; None for a turn of the API."""
    row = db.execute_sql(_OF_RUN, (run_id,)).fetchone()
    return None if row is None else InboundEvent(*row)


def prune_events(db: peewee.Database, keep_us: int, limit: int = 500) -> int:
    """Forget old events, some at a time; return how many."""
    return int(db.execute_sql(_PRUNE, (now_us() - keep_us, limit)).rowcount)


def take_bot_lease(db: peewee.Database, bot_id: str, worker_id: str) -> bool:
    """Become the one worker that polls a bot's platform, or stay it.

    :returns: False: another worker, which lives, is.
    """
    return bool(db.execute_sql(_TAKE_LEASE, (bot_id, worker_id, time.time())).rowcount)


def drop_bot_lease(db: peewee.Database, bot_id: str, worker_id: str) -> None:
    """Let another worker poll a bot's platform."""
    sql = "DELETE FROM bot_lease WHERE bot_id = ? AND worker_id = ?"
    db.execute_sql(sql, (bot_id, worker_id))


def to_key(event_id: str) -> str:
    """Return an event's id as it is stored."""
    if len(event_id) <= _MAX_ID_CHARS:
        return event_id
    return hashlib.sha256(event_id.encode("utf-8", "replace")).hexdigest()

"""The periodic jobs of a worker, and how often they run."""

from __future__ import annotations

from collections.abc import Callable

import peewee

from .chat.turns.approvals import reject_expired
from .db import (
    audit,
    deliveries,
    inbound,
    key_usage,
    keys,
    rate_counts,
    responses,
    session_keys,
    transcripts,
    visits,
)
from .db.store import Store
from .keys.quotas import REFRESH_S
from .runlog.journal import Journal
from .runlog.signals.signals import FREE_RUNS
from .runtime.clock import now_us
from .runtime.threads import let_others_run
from .state import AppState

#: Maximum number of transactions, per table, in one call of :func:`remove_old_rows`.
_MAX_ROUNDS = 50


def add_chores(state: AppState) -> None:
    """Register the periodic jobs of one application."""
    settings, chat, im, worker = state.settings, state.chat, state.im, state.worker
    chores, runs, outcomes = worker.chores, chat.runs, chat.outcomes
    chores.add(state.keys.usage.flush)
    chores.add(outcomes.retry)
    chores.add(chat.recovery.recover, every_s=1.0)
    worker.signals.subscribe(FREE_RUNS, lambda payload: chores.run_soon(chat.recovery.recover))
    chores.add(lambda: reject_expired(state.db), every_s=5.0)
    chores.add(
        lambda: chat.recovery.end_forgotten(lambda run: runs.knows(run) or outcomes.keeps(run.id))
    )
    chores.add(chat.remover.empty_removed)
    chores.add(chat.pushes.look, every_s=0.25)
    chores.add(runs.poll_stop_requests, every_s=0.5)
    chores.add(chat.streams.close_stuck, every_s=1.0)
    chores.add(chat.inbox.seats.close_stuck, every_s=1.0)
    chores.add(lambda: chat.inbox.seats.end_invalid(state.keys.usage.list_valid), every_s=2.0)
    chores.add(lambda: prune_journal(worker.journal, settings.run_log_keep_s), every_s=30.0)
    chores.add(worker.idempotency.retry, every_s=1.0)
    chores.add(worker.idempotency.prune, every_s=600.0)
    chores.add(state.keys.quotas.refresh, every_s=REFRESH_S)
    chores.add(state.uploads.remove_expired, every_s=60.0)
    chores.add(
        lambda: remove_old_rows(
            state.db, settings.audit_days, settings.response_days, settings.im_keep_days
        ),
        every_s=600.0,
    )
    # The outbox starts together with the worker's other background work.
    chores.add(im.outbox.start)
    chores.add(im.pollers.check, every_s=min(settings.worker_lease_s / 3, 2.0))
    chores.add(im.inbound.pending.check, every_s=15.0)


def prune_journal(journal: Journal, keep_s: float) -> None:
    """Delete the events of runs that ended ``keep_s`` seconds ago. Runs periodically."""
    while journal.prune(now_us() - int(keep_s * 1_000_000)):
        let_others_run()


def remove_old_rows(store: Store, keep_days: int, response_days: int, im_keep_days: float) -> None:
    """Remove rows that are too old, so that tables do not grow without limit. Runs periodically.

    :param keep_days: Maximum age of audit entries and key usage, in days.
    :param response_days: Maximum age of responses of the OpenAI API, in days.
    :param im_keep_days: Maximum age of finished deliveries and of messengers' events, in days.
    """
    now = now_us()
    oldest = now - keep_days * keys.DAY_US
    im_keep_us = int(im_keep_days * keys.DAY_US)

    def remove_all(db: peewee.Database) -> None:
        audit.forget_before(db, oldest)
        key_usage.forget_before(db, oldest)
        rate_counts.forget_counts(db, now / 1_000_000)
        transcripts.remove_orphans(db)
        visits.settle_ended(db)

    store.write(remove_all)
    some: tuple[Callable[[peewee.Database], object], ...] = (
        lambda db: responses.forget_old(db, response_days),
        session_keys.purge_session_keys,
        visits.purge_visits,
        lambda db: deliveries.prune(db, keep_us=im_keep_us),
        # No messenger redelivers events that are older.
        lambda db: inbound.prune_events(db, im_keep_us),
    )
    for remove_some in some:
        for _ in range(_MAX_ROUNDS):
            if not store.write(remove_some):
                break

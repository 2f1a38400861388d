"""The periodic jobs of a worker, and how often they run."""

from __future__ import annotations

from .chat.resuming.recovery import prune_journal
from .chat.turns.approvals import reject_expired
from .keys.quotas import REFRESH_S
from .runlog.signals.signals import FREE_RUNS
from .state import AppState
from .worker.chores import remove_old_rows


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

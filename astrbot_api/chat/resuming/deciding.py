"""Decide tool calls that wait for a person, and resume their runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import peewee

from ...db.approvals import ApprovalRow
from ...db.audit import AuditEntry
from ...db.runs import RunRow
from ...db.store import Store
from ...errors import ApiError
from ..turns.waiting import Decided, decide, describe_decision
from .recovery import Recovery


@dataclass(frozen=True, slots=True)
class Verdict:
    """A person's decision.

    :param arguments: Replacement for the model's arguments, as JSON text.
    :param comment: Reason, which the model gets with a rejection.
    :param actor: The deciding person, for the audit log.
    :param address: The person's address, for the audit log.
    """

    approved: bool
    arguments: str = ""
    comment: str = ""
    actor: str = ""
    address: str = ""


class Decisions:
    """Applies decisions in one application."""

    def __init__(self, store: Store, recovery: Recovery) -> None:
        self._store = store
        self._recovery = recovery

    def decide(self, run: RunRow, approval_id: str, verdict: Verdict) -> Decided:
        """Decide a call. After the run's last decision it resumes on any worker.

        :raises ApiError: ``approval_not_found`` or ``approval_decided``.
        """
        return self.decide_all(run, {approval_id: verdict})

    def decide_all(
        self,
        run: RunRow,
        verdicts: Mapping[str, Verdict],
        also: Callable[[peewee.Database], None] = lambda db: None,
        *,
        again: bool = False,
    ) -> Decided:
        """Decide calls of one run, all of them or none.

        :param verdicts: Decisions by call id, at least one.
        :param also: Stored with the decisions, before the run resumes.
        :param again: Skip calls that are already decided, since the client may have repeated the
            request. If all are, the result has no calls.
        :raises ApiError: ``approval_not_found`` or ``approval_decided``.
        """

        def job(db: peewee.Database) -> tuple[Decided, list[AuditEntry]]:
            calls, entries, left = list[ApprovalRow](), list[AuditEntry](), 0
            for one in verdicts.items():
                try:
                    decided, more = self._decide(db, run, *one)
                except ApiError as error:
                    if not again or error.code != "approval_decided":
                        raise
                    continue
                calls, entries, left = calls + decided.calls, entries + more, decided.left
            also(db)
            return Decided(calls, left), entries

        decided, entries = self._store.write(job)
        for entry in entries:
            entry.log()
        if decided.calls and not decided.left:
            self._recovery.recover_run(run.run_id)
        return decided

    def _decide(
        self, db: peewee.Database, run: RunRow, approval_id: str, verdict: Verdict
    ) -> tuple[Decided, list[AuditEntry]]:
        decided = decide(
            db, run.id, approval_id=approval_id, approved=verdict.approved,
            arguments=verdict.arguments or None, comment=verdict.comment or None,
        )  # fmt: skip
        entries = [
            describe_decision(
                call, verdict.approved, actor=verdict.actor, address=verdict.address,
                arguments=verdict.arguments,
            )
            for call in decided.calls
        ]  # fmt: skip
        for entry in entries:
            entry.store(db)
        return decided, entries

"""Decides tool calls that wait for a person, and has their runs go on."""

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
    """What a person decided.

    :param arguments: What the call is made with in place of the model's, as JSON text.
    :param comment: Why; the model is given it with a rejection.
    :param actor: Who decided, for the audit.
    :param address: From where.
    """

    approved: bool
    arguments: str = ""
    comment: str = ""
    actor: str = ""
    address: str = ""


class Decisions:
    """Those of one application."""

    def __init__(self, store: Store, recovery: Recovery) -> None:
        self._store = store
        self._recovery = recovery

    def decide(self, run: RunRow, approval_id: str, verdict: Verdict) -> Decided:
        """Decide a call; with the last one of its run the run goes on here or elsewhere.

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

        :param verdicts: By the ids of the calls; there is one at least.
        :param also: What is stored with the decisions, before the run goes on.
        :param again: Leave calls as they are that were decided before: the request may have
            been sent twice. Where all were, the result has no call.
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

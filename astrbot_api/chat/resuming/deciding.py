"""Decides tool calls that wait for a person, and has their runs go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import peewee

from ...db.audit import AuditEntry
from ...db.runs import RunRow
from ...db.store import Store
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
    ) -> Decided:
        """Decide calls of one run, all of them or none.

        :param verdicts: By the ids of the calls; there is one at least.
        :param also: What is stored with the decisions, before the run goes on.
        :raises ApiError: ``approval_not_found`` or ``approval_decided``.
        """

        def job(db: peewee.Database) -> tuple[Decided, list[AuditEntry]]:
            found = [self._decide(db, run, *one) for one in verdicts.items()]
            also(db)
            calls = [call for decided, _ in found for call in decided.calls]
            return Decided(calls, found[-1][0].left), [one for _, more in found for one in more]

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

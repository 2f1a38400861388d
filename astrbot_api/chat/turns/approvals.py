"""Approvals of tool calls: decide them, and resume their runs.

:mod:`.waiting` suspends a turn until its calls are decided.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import peewee

from ...db import approvals, run_workers, runs
from ...db.approvals import ApprovalRow
from ...db.audit import AuditEntry
from ...db.runs import RunRow
from ...db.store import Store
from ...errors import ApiError
from ...runtime.clock import now_us

#: Maximum number of runs that one call of a periodic job processes.
_AT_ONCE = 500

#: Characters that do not show or reorder others, and the one that ends a code block.
_UNSEEN = re.compile(
    "[`\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


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


@dataclass(frozen=True, slots=True)
class Decided:
    """Result of a decision.

    :param left: Number of the run's undecided calls. The run resumes at 0.
    :param entries: Stored audit entries, to be logged after the commit.
    """

    calls: list[ApprovalRow]
    left: int
    entries: list[AuditEntry]


class Decisions:
    """Applies decisions in one application.

    :param resume_run: Resumes a suspended run, given its id.
    """

    def __init__(self, store: Store, resume_run: Callable[[str], object]) -> None:
        self._store = store
        self._resume_run = resume_run

    def decide(
        self,
        run: RunRow,
        verdicts: Mapping[str, Verdict],
        also: Callable[[peewee.Database], None] = lambda db: None,
        *,
        again: bool = False,
    ) -> Decided:
        """Decide calls of one run, all of them or none. After the last one the run resumes.

        :param verdicts: Decisions by approval id, at least one.
        :param also: Stored with the decisions, before the run resumes.
        :param again: Skip calls that are already decided, since the client may have repeated the
            request. If all are, the result has no calls.
        :raises ApiError: ``approval_not_found`` or ``approval_decided``.
        """

        def job(db: peewee.Database) -> Decided:
            whole = Decided([], 0, [])
            for approval_id, verdict in verdicts.items():
                try:
                    one = decide(db, run.id, verdict, approval_id)
                except ApiError as error:
                    if not again or error.code != "approval_decided":
                        raise
                    continue
                whole = Decided(whole.calls + one.calls, one.left, whole.entries + one.entries)
            also(db)
            return whole

        decided = self._store.write(job)
        for entry in decided.entries:
            entry.log()
        if decided.calls and not decided.left:
            self._resume_run(run.run_id)
        return decided


def decide(
    db: peewee.Database, run: int, verdict: Verdict, approval_id: str | None = None
) -> Decided:
    """Store a decision and its audit entries. After the last one any worker may resume the run.

    :param run: The run's number.
    :param approval_id: The call to decide, or None for all calls of the run.
    :raises ApiError: ``approval_not_found`` or ``approval_decided``.
    """
    run_workers.hold_run(db, run)  # its worker may be suspending it
    asked = approvals.list_approvals(db, run)
    wanted = [one for one in asked if approval_id in (None, one.approval_id)]
    if approval_id is not None and not wanted:
        raise approval_not_found(approval_id)
    status = "approved" if verdict.approved else "rejected"
    decided = [
        one
        for one in wanted
        if one.expires_at > now_us()
        and approvals.decide(
            db, one.approval_id, status,
            arguments=verdict.arguments or None, comment=verdict.comment or None,
        )
    ]  # fmt: skip
    if approval_id is not None and not decided:
        raise ApiError(
            "approval_decided", f"{wanted[0].tool}: the call was already decided or has expired"
        )
    left = sum(one.status == "pending" for one in asked) - len(decided)
    if not left:
        runs.release_waiting(db, run)
    entries = [
        AuditEntry(
            f"call_{status}", verdict.actor, verdict.address, one.approval_id,
            f"{one.tool} {verdict.arguments or one.args}",
        )
        for one in decided
    ]  # fmt: skip
    for entry in entries:
        entry.store(db)
    return Decided(decided, left, entries)


def approval_not_found(approval_id: str) -> ApiError:
    """Return the error for an id without an approval that the caller may decide."""
    remedy = "if its turn has ended, send a new message"
    return ApiError("approval_not_found", f"approval not found: {approval_id[:100]}; {remedy}")


def reject_waiting(db: peewee.Database, session: int, comment: str) -> None:
    """Reject all open approvals of a session, so that its suspended runs resume and end."""
    for number in runs.list_waiting(db, session):
        _reject(db, number, comment)


def reject_expired(store: Store) -> None:
    """Reject approvals that expired undecided. Runs periodically."""
    with store.read() as db:
        expired = approvals.list_expired(db, _AT_ONCE)
    for number in expired:
        store.write(partial(_reject, run=number, comment="nobody has decided in time"))


def _reject(db: peewee.Database, run: int, comment: str) -> None:
    approvals.reject_pending(db, run, comment)
    runs.release_waiting(db, run)


def name_approval(run_id: str, call_id: str) -> str:
    """Return the id of an approval. Asking again for the same call gives the same id."""
    return str(uuid.uuid5(uuid.UUID(run_id), call_id))


def show_arguments(args: str) -> str:
    """Return the same JSON, with escapes for characters that would hide a part of it."""
    return _UNSEEN.sub(lambda found: _escape(found[0]), args)


@lru_cache(maxsize=5000)
def _escape(char: str) -> str:
    return re.sub("....", r"\\u\g<0>", char.encode("utf-16-be").hex())

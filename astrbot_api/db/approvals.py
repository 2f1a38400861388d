"""Tool calls that need a person's approval, and the decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from ..runtime.clock import now_us
from . import counting, stored
from .models.keys import ApiKey
from .models.runs import Run, RunApproval, RunCheckpoint
from .models.sessions import ChatSession
from .pages import length_of
from .prepared import Prepared, equals, param

#: Maximum length of a call's arguments in a list, in characters.
LISTED_ARGS_CHARS = 2000

_REMOVE = Prepared(
    RunApproval.delete()
    .where(equals(RunApproval.run))
    .returning(RunApproval.payer, RunApproval.size_bytes)
)

_COLUMNS = (
    RunApproval.approval_id, RunApproval.run, RunApproval.call_id, RunApproval.tool,
    RunApproval.args, RunApproval.status, RunApproval.arguments, RunApproval.comment,
    RunApproval.begun, RunApproval.expires_at,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ApprovalRow:
    """One call: a row of :class:`~astrbot_api.db.models.runs.RunApproval`. ``args`` is JSON."""

    approval_id: str
    run: int
    call_id: str
    tool: str
    args: str
    status: str
    arguments: str | None
    comment: str | None
    begun: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that waits for a decision, with its turn.

    :param args: The first :data:`LISTED_ARGS_CHARS` characters of its JSON, plus one if cut.
    :param key_name: Name of the key that started the turn. None without a key, or if it is deleted.
    :param config_id: The session's config, or None for the default config.
    """

    approval_id: str
    run_id: str
    tool: str
    args: str
    created_at: int
    expires_at: int
    session_id: str
    display_name: str | None
    platform_id: str
    creator: str
    config_id: str | None
    key_id: str | None
    key_name: str | None

    @property
    def cut(self) -> bool:
        return len(self.args) > LISTED_ARGS_CHARS


#: Waiting calls are not counted: a page costs the same with ten calls and with ten thousand.
_LIST_PENDING = Prepared(
    RunApproval.select(
        RunApproval.approval_id, Run.run_id, RunApproval.tool,
        peewee.fn.SUBSTR(RunApproval.args, 1, LISTED_ARGS_CHARS + 1),
        RunApproval.created_at, RunApproval.expires_at,
        ChatSession.session_id, ChatSession.display_name, ChatSession.platform_id,
        ChatSession.creator, ChatSession.config_id, Run.key_id, ApiKey.name,
    )
    .join(Run, on=(Run.id == RunApproval.run))
    .join(ChatSession, on=(ChatSession.id == Run.session))
    .join(ApiKey, peewee.JOIN.LEFT_OUTER, on=(ApiKey.key_id == Run.key_id))
    .where(RunApproval.status == "pending")
    .where(RunApproval.expires_at >= param("since"))
    .where((RunApproval.expires_at > param("since")) | (RunApproval.approval_id > param("after")))
    .order_by(RunApproval.expires_at, RunApproval.approval_id)
    .limit(param("limit"))
)  # fmt: skip

_LIST_EXPIRED = Prepared(
    RunApproval.select(RunApproval.run)
    .where(RunApproval.status == "pending")
    .where(RunApproval.expires_at < param("now"))
    .order_by(RunApproval.expires_at)
    .limit(param("limit"))
)


def list_pending(
    db: peewee.Database, *, after: tuple[int, str] | None, limit: int
) -> list[PendingCall]:
    """Return a page of the waiting calls of all turns, by expiry, the earliest first.

    :param after: ``expires_at`` and ``approval_id`` of the last call of the previous page.
    """
    since, approval_id = max((now_us(), ""), after or (0, ""))
    rows = _LIST_PENDING.execute(db, since=since, after=approval_id, limit=limit)
    return [PendingCall(*row) for row in rows]


def find_call(db: peewee.Database, approval_id: str) -> tuple[str, str] | None:
    """Return a call's run id and its arguments as JSON, or None if the call or its run is gone."""
    query = RunApproval.select(Run.run_id, RunApproval.args).join(
        Run, on=(Run.id == RunApproval.run)
    )
    found = query.where(RunApproval.approval_id == approval_id).tuples().execute(db)
    return next(iter(found), None)


def add_approval(
    db: peewee.Database,
    approval_id: str,
    run: int,
    *,
    call_id: str,
    tool: str,
    args: str,
    expires_at: int,
    payer: str | None,
    more_bytes: int,
) -> bool:
    """Store a pending call. False if it exists, from before its worker died; it is unchanged.

    :param payer: The key whose quota counts the call, with ``more_bytes``.
    """
    if RunApproval.select().where(RunApproval.approval_id == approval_id).exists(db):
        return False
    payer, size = payer or stored.NOBODY, stored.size_of(tool, args) + more_bytes
    RunApproval.insert(
        approval_id=approval_id, run=run, call_id=call_id, tool=tool, args=args, status="pending",
        created_at=now_us(), expires_at=expires_at, payer=payer, size_bytes=size,
    ).execute(db)  # fmt: skip
    counting.add(db, payer, "requests", 1, size)
    return True


def measure_run(db: peewee.Database, run: int, request_bytes: int) -> int:
    """Return the bytes of a run's request and steps that no call of the run counts yet.

    :param request_bytes: The size of its request if it is known: SQLite reads a long one for it.
    """

    def add_up(of_run: peewee.Field[Any], size: Any) -> int:
        sizes = of_run.model.select(peewee.fn.SUM(size)).where(of_run == run)
        return int(sizes.scalar(db) or 0)

    held = request_bytes or add_up(Run.id, length_of(Run.request))
    held += add_up(RunCheckpoint.run, length_of(RunCheckpoint.data))
    return max(0, held - add_up(RunApproval.run, RunApproval.size_bytes))


def list_approvals(db: peewee.Database, run: int) -> list[ApprovalRow]:
    """Return the calls of a run, by its number, in order of creation."""
    query = RunApproval.select(*_COLUMNS).where(RunApproval.run == run)
    order = (RunApproval.created_at, RunApproval.approval_id)
    return [ApprovalRow(*row) for row in query.order_by(*order).tuples().execute(db)]


def was_asked(db: peewee.Database, run: int) -> bool:
    """Return whether a run that has not ended has asked a person before."""
    return RunApproval.select().where(RunApproval.run == run).exists(db)


def has_pending(db: peewee.Database, run: int) -> bool:
    """Return whether a call of the run waits for a decision."""
    pending = (RunApproval.run == run) & (RunApproval.status == "pending")
    return RunApproval.select().where(pending).exists(db)


def decide(
    db: peewee.Database,
    approval_id: str,
    status: str,
    *,
    arguments: str | None = None,
    comment: str | None = None,
) -> bool:
    """Store a decision, ``approved`` or ``rejected``. False if the call is already decided."""
    query = RunApproval.update(status=status, arguments=arguments, comment=comment).where(
        (RunApproval.approval_id == approval_id) & (RunApproval.status == "pending")
    )
    return bool(query.execute(db))


def reject_pending(db: peewee.Database, run: int, comment: str) -> None:
    """Reject all pending calls of a run."""
    (
        RunApproval.update(status="rejected", comment=comment)
        .where((RunApproval.run == run) & (RunApproval.status == "pending"))
        .execute(db)
    )


def begin_approved(db: peewee.Database, run: int) -> None:
    """Mark the approved calls of a run as begun: they may be executed from now on."""
    (
        RunApproval.update(begun=1)
        .where((RunApproval.run == run) & (RunApproval.status == "approved"))
        .execute(db)
    )


def list_expired(db: peewee.Database, limit: int) -> Sequence[int]:
    """Return the numbers of runs with an expired pending call."""
    # With DISTINCT, SQLite would read all pending calls in the order of their runs.
    rows = _LIST_EXPIRED.execute(db, now=now_us(), limit=limit)
    return list(dict.fromkeys(run for (run,) in rows))


def remove_approvals(db: peewee.Database, run: int) -> None:
    """Delete the calls of a run that has ended."""
    counting.give_back(db, "requests", _REMOVE.execute(db, run=run))

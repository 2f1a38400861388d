"""The runs: their order within a session, their worker and their status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from ..errors import ApiError
from ..runtime.clock import now_us, to_iso, to_iso_or_none
from .approvals import remove_approvals
from .checkpoints import remove_checkpoints
from .locks import lock_session
from .models import is_postgres
from .models.keys import ApiKey
from .models.runs import RUN_ACTIVE, RUN_WAITING, Run, RunApproval, RunCheckpoint
from .models.sessions import ChatSession, Message
from .prepared import Prepared, equals, param, params

#: The ``worker_id`` of a run that any worker may take over.
NOBODY = ""

#: The same, if no call of the last step has started. Taking over the run replaces it.
BEFORE_CALLS = "before calls"

#: The columns of a :class:`RunRow`, in order.
RUN_FIELDS = (
    Run.id, Run.run_id, Run.session, Run.key_id, Run.worker_id, Run.status, Run.error_code,
    Run.user_message, Run.bot_message, Run.llm_checkpoint_id,
    Run.created_at, Run.started_at, Run.finished_at, Run.stop_requested_at, Run.pickups, Run.epoch,
    peewee.fn.COALESCE(ChatSession.session_id, ""), peewee.fn.COALESCE(ChatSession.creator, ""),
    peewee.fn.COALESCE(ChatSession.platform_id, ""),
)  # fmt: skip

_COUNT_ACTIVE = Prepared(
    Run.select(peewee.fn.COUNT(Run.id)).where(equals(Run.session) & RUN_ACTIVE)
)

_EARLIER = Prepared(
    Run.select(Run.id)
    .where(equals(Run.session, Run.passable) & (Run.id < param("before")) & RUN_ACTIVE)
    .limit(1)
)

_LET_PASS = Prepared(Run.update(passable=1).where(equals(Run.id)))

_OF_ACTIVE = (Run.run_id, Run.status, Run.created_at, Run.started_at, Run.key_id)

_LIST_ACTIVE = Prepared(
    Run.select(*_OF_ACTIVE).where(equals(Run.session) & RUN_ACTIVE).order_by(Run.id)
)

_LIST_PUT_DOWN = Prepared(
    Run.select(*_OF_ACTIVE).where(equals(Run.session) & RUN_WAITING).order_by(Run.id)
)

_VALID: Any = ApiKey.select(ApiKey.key_id).where(
    equals(ApiKey.key_id) & ApiKey.revoked_at.is_null()
)


def _insert(valid_key: Any) -> Prepared:
    # Also looks for its key, so that opening a turn needs no statement for it.
    return Prepared(
        Run.insert(
            **params(
                "run_id", "session", "key_id", "worker_id", "status", "user_message",
                "llm_checkpoint_id", "created_at", "started_at", "request",
            )
        ).returning(Run.id, peewee.fn.EXISTS(valid_key))
    )  # fmt: skip


_ADD = _insert(_VALID)

# A revocation waits for this transaction and then sees the run. Other updates do not wait.
_ADD_UNTIL_COMMIT = _insert(_VALID.for_update("FOR KEY SHARE"))

# Also matches a running run: the result of an earlier attempt may have been lost.
_START = Prepared(
    Run.update(status="running", started_at=param("now")).where(
        equals(Run.id, Run.worker_id) & RUN_ACTIVE
    )
)

# Most runs have neither checkpoints nor approvals, so this one statement ends them.
_FINISH = Prepared(
    Run.update(**params("status", "error_code", "bot_message", "finished_at"), request=None)
    .where(equals(Run.id, Run.worker_id) & RUN_ACTIVE)
    .returning(
        peewee.fn.EXISTS(
            RunCheckpoint.select(RunCheckpoint.run).where(RunCheckpoint.run == param("id"))
        ),
        peewee.fn.EXISTS(RunApproval.select(RunApproval.run).where(RunApproval.run == param("id"))),
    )
)

_LIST_WAITING = Prepared(Run.select(Run.id).where(equals(Run.session) & RUN_WAITING))

_WAIT = Prepared(
    Run.update(status="waiting", worker_id="").where(equals(Run.id, Run.worker_id) & RUN_ACTIVE)
)

# Without a worker: the next worker that polls takes it over.
_RELEASE = Prepared(Run.update(status="running", worker_id="").where(equals(Run.id) & RUN_WAITING))

_REQUEST = Prepared(Run.select(Run.request).where(equals(Run.id)))

_FIND = Prepared(
    Run.select(*RUN_FIELDS)
    .join(ChatSession, on=(ChatSession.id == Run.session))
    .where(equals(Run.run_id))
)


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run with its session; ``id`` is its number. Times are in microseconds.

    ``status`` is ``queued``, ``running``, ``waiting``, ``completed``, ``failed``,
    ``stopped`` or ``interrupted``.
    """

    id: int
    run_id: str
    session: int
    key_id: str | None
    worker_id: str
    status: str
    error_code: str | None
    user_message: int | None
    bot_message: int | None
    llm_checkpoint_id: str | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    stop_requested_at: int | None
    pickups: int
    epoch: int
    session_id: str
    creator: str
    platform_id: str

    @property
    def released(self) -> bool:
        """Whether the run has no worker: it waits for a person or was handed over."""
        return self.worker_id in (NOBODY, BEFORE_CALLS)

    @property
    def active(self) -> bool:
        """Whether the run has not ended."""
        return self.finished_at is None


def add_run(
    db: peewee.Database,
    run_id: str,
    session: int,
    *,
    key_id: str | None,
    worker_id: str,
    user_message: int | None,
    checkpoint: str,
    request: str | None = None,
    first: bool = False,
    checks_key: bool = False,
) -> tuple[int, int]:
    """Append a run to its session's queue.

    :param checks_key: Whether ``key_id`` is an API key, which must be valid.
    :param first: Whether this transaction has created the session, so that its queue is empty.
    :param request: The JSON with which another worker can resume it, or None if none can.
    :param checkpoint: The ``llm_checkpoint_id`` of its messages.
    :returns: Its number, and the number of runs in the queue before it.
    :raises ApiError: ``invalid_api_key`` if the key was revoked or deleted.
    """
    lock_session(db, session)
    ahead = 0 if first else _COUNT_ACTIVE.execute(db, session=session).fetchone()[0]
    now = now_us()
    status, started_at = ("queued", None) if ahead else ("running", now)
    number, is_valid = (_ADD_UNTIL_COMMIT if is_postgres(db) else _ADD).execute(
        db, run_id=run_id, session=session, key_id=key_id, worker_id=worker_id, status=status,
        user_message=user_message, llm_checkpoint_id=checkpoint, created_at=now,
        started_at=started_at, request=request,
    ).fetchone()  # fmt: skip
    if checks_key and not is_valid:
        raise ApiError("invalid_api_key", "Invalid API key")
    return number, ahead


def has_earlier_run(db: peewee.Database, session: int, number: int) -> bool:
    """Return whether an active run of this session has to end before this one begins."""
    return _EARLIER.execute(db, session=session, before=number, passable=0).fetchone() is not None


def let_pass(db: peewee.Database, number: int) -> None:
    """Let later runs of the session begin before a run's end."""
    _LET_PASS.execute(db, id=number)


def list_active_runs(db: peewee.Database, session: int) -> list[dict[str, Any]]:
    """Return the session's runs that have not ended: runs that wait for a person come first."""
    rows = _list_unended(db, session)
    return [
        {
            "run_id": run_id,
            "status": status,
            "created_at": to_iso(created_at),
            "started_at": to_iso_or_none(started_at),
        }
        for run_id, status, created_at, started_at, _ in rows
    ]


def start_run(db: peewee.Database, number: int, worker_id: str) -> bool:
    """Mark a queued run as running. False if another worker has it."""
    return bool(_START.execute(db, now=now_us(), id=number, worker_id=worker_id).rowcount)


def wait_for_person(db: peewee.Database, number: int, worker_id: str) -> bool:
    """Suspend a run until a person decides. False if another worker has it."""
    return bool(_WAIT.execute(db, id=number, worker_id=worker_id).rowcount)


def release_waiting(db: peewee.Database, number: int) -> None:
    """Let any worker resume a run if it waits for a person."""
    _RELEASE.execute(db, id=number)


def list_waiting(db: peewee.Database, session: int) -> list[int]:
    """Return the numbers of a session's runs that wait for a person."""
    return [number for (number,) in _LIST_WAITING.execute(db, session=session)]


def list_waiting_of(db: peewee.Database, session: int, sender_id: str, run_id: str) -> list[int]:
    """Return the numbers of a session's runs that wait for the person who started them.

    :param sender_id: The person; a group has several.
    """
    query = (
        Run.select(Run.id)
        .join(Message, peewee.JOIN.LEFT_OUTER, on=(Message.id == Run.user_message))
        .where((Run.session == session) & RUN_WAITING)
        .where(Message.id.is_null() | (Message.sender_id == sender_id))
    )
    if run_id:
        query = query.where(Run.run_id == run_id)
    return [number for (number,) in query.tuples().execute(db)]


def find_request(db: peewee.Database, number: int) -> str | None:
    """Return a run's request as JSON, or None if no other worker can resume it."""
    row = _REQUEST.execute(db, id=number).fetchone()
    return None if row is None else row[0]


def store_request(db: peewee.Database, number: int, request: str | None) -> None:
    """Store a run's request as JSON after the run has started."""
    Run.update(request=request).where(Run.id == number).execute(db)


def finish_run(
    db: peewee.Database,
    number: int,
    status: str,
    *,
    worker_id: str,
    error_code: str | None,
    bot_message: int | None,
) -> bool | None:
    """End a run of a worker, and delete its checkpoints and approvals.

    :param status: ``completed``, ``failed``, ``stopped`` or ``interrupted``.
    :returns: Whether it has asked a person, or None if it had already ended or another worker
        has it.
    """
    row = _FINISH.execute(
        db, status=status, error_code=error_code, bot_message=bot_message,
        finished_at=now_us(), id=number, worker_id=worker_id,
    ).fetchone()  # fmt: skip
    if row is None:
        return None
    has_checkpoints, has_approvals = row
    if has_checkpoints:
        remove_checkpoints(db, number)
    if has_approvals:
        remove_approvals(db, number)
    return bool(has_approvals)


def find_run(db: peewee.Database, run_id: str) -> RunRow | None:
    """Return the run with this id, of any owner, or None."""
    row = _FIND.execute(db, run_id=run_id).fetchone()
    return None if row is None else RunRow(*row)


def list_active_ids(
    db: peewee.Database, session: int, key_id: str | None = None, *, waiting: bool = True
) -> list[str]:
    """Return the ids of a session's runs that have not ended.

    :param key_id: Only runs of this key, or None for all.
    :param waiting: Whether to include runs that wait for a person.
    """
    return [
        run_id
        for run_id, status, *_, owner in _list_unended(db, session)
        if (key_id is None or owner == key_id) and (waiting or status != "waiting")
    ]


def has_unended(db: peewee.Database, run_ids: Sequence[str]) -> bool:
    """Return whether one of these runs has not ended."""
    wanted = Run.run_id.in_(run_ids) & Run.finished_at.is_null()
    return Run.select(Run.id).where(wanted).limit(1).scalar(db) is not None


def list_active_requests(
    db: peewee.Database, key_id: str, parts: Sequence[str], limit: int
) -> list[tuple[str, str]]:
    """Return the ids and stored requests of a key's active runs whose request contains some texts.

    It reads the requests of all of the key's active runs, which may take a second.
    """
    query = Run.select(Run.run_id, Run.request).where(RUN_ACTIVE & (Run.key_id == key_id))
    for part in parts:
        query = query.where(Run.request.contains(part))
    return list(query.limit(limit).tuples().execute(db))


def _list_unended(db: peewee.Database, session: int) -> list[Any]:
    waiting = _LIST_PUT_DOWN.execute(db, session=session).fetchall()
    return [*waiting, *_LIST_ACTIVE.execute(db, session=session).fetchall()]

"""The tables of turns: runs, the workers that run them, and responses."""

from __future__ import annotations

from peewee import BlobField, CompositeKey, DoubleField, TextField, ValueLiterals

from .fields import UNIQUE, ZERO, RowNumber, Table, Whole, add_index


class IdempotentRequest(Table):
    """A request with an ``Idempotency-Key`` and its response."""

    key_id = TextField()
    client_key = TextField()
    body_hash = TextField()
    worker_id = TextField()
    run_id = TextField(null=True)
    status = Whole(null=True)
    answer = TextField(null=True)
    created_at = Whole()
    payer = TextField(null=True)
    size_bytes = Whole(default=0, constraints=ZERO)

    class Meta:
        table_name = "idempotency"
        primary_key = CompositeKey("key_id", "client_key")


add_index("idempotency_created", IdempotentRequest.created_at)


class Run(Table):
    """One turn. Its number is its position in the queue of its session.

    ``request`` is the JSON with which another worker can resume the run. It is null if none can,
    or after the end. ``pickups`` counts resumptions after a worker died, ``epoch`` all changes
    of the worker. ``passable`` is 1 once later runs of the session no longer wait for this one.
    """

    id = RowNumber()
    run_id = TextField(constraints=UNIQUE)
    session = Whole()
    key_id = TextField(null=True)
    worker_id = TextField()
    status = TextField()
    error_code = TextField(null=True)
    user_message = Whole(null=True)
    bot_message = Whole(null=True)
    created_at = Whole()
    started_at = Whole(null=True)
    finished_at = Whole(null=True)
    llm_checkpoint_id = TextField(null=True)
    stop_requested_at = Whole(null=True)
    request = TextField(null=True)
    pickups = Whole(default=0, constraints=ZERO)
    epoch = Whole(default=0, constraints=ZERO)
    passable = Whole(default=0, constraints=ZERO)


#: Runs that run or wait in their session's queue. As literals, so that a partial index applies.
RUN_ACTIVE = ValueLiterals(Run.status.in_(("queued", "running")))
#: Runs that wait for a person; other runs of their session may run meanwhile.
RUN_WAITING = ValueLiterals(Run.status == "waiting")
add_index("run_waiting", Run.session, Run.id, where=RUN_WAITING)
add_index("run_session", Run.session, Run.id)
add_index("run_worker", Run.worker_id, Run.id)
add_index("run_active", Run.session, Run.id, where=RUN_ACTIVE)
add_index("run_key", Run.key_id, where=RUN_ACTIVE)
add_index("run_stop", Run.worker_id, where=Run.stop_requested_at.is_null(False) & RUN_ACTIVE)


class RunCheckpoint(Table):
    """The result of one step of a run, from which it can resume; deleted when the run ends.

    ``event`` is the number of the last event before it. ``data`` is JSON, or null if it was
    too long.
    """

    run = Whole()
    step = Whole()
    event = Whole()
    data = TextField(null=True)

    class Meta:
        primary_key = CompositeKey("run", "step")


class RunApproval(Table):
    """A tool call that needs a person's approval; deleted when its run ends.

    ``status`` is ``pending``, ``approved`` or ``rejected``. ``arguments`` is the JSON of approved
    arguments that replace the model's. ``begun`` is 1 once the call may have been executed.
    ``size_bytes`` counts for the key ``payer``: the call, and once what its run stores besides.
    """

    approval_id = TextField(primary_key=True)
    run = Whole()
    call_id = TextField()
    tool = TextField()
    args = TextField()
    status = TextField()
    arguments = TextField(null=True)
    comment = TextField(null=True)
    begun = Whole(default=0, constraints=ZERO)
    created_at = Whole()
    expires_at = Whole()
    payer = TextField(null=True)
    size_bytes = Whole(default=0, constraints=ZERO)


add_index("run_approval_run", RunApproval.run)
add_index(
    "run_approval_due", RunApproval.expires_at,
    where=ValueLiterals(RunApproval.status == "pending"),
)  # fmt: skip


class Worker(Table):
    """A process that runs turns, and the end of its lease.

    ``stopping`` is 1 once it takes over no more runs.
    """

    worker_id = TextField(primary_key=True)
    lease_until = DoubleField()
    stopping = Whole(default=0, constraints=ZERO)


class StoredResponse(Table):
    """One entry of a thread of the OpenAI API: a response, or items that were added.

    A response has a run and a ``request``: the JSON of its request. ``input`` is its list of
    items, ``previous`` the entry that it continues. ``removed`` lists the numbers of deleted
    output items. ``key_id`` is the key that owns it, or the parent of that session key.
    ``paused`` is set if the response ended when its run asked for approvals. A later response
    then has the rest of the run. It is JSON, see :class:`~astrbot_api.db.responses.Pause`.
    """

    id = RowNumber()
    entry_id = TextField(constraints=UNIQUE)
    session = Whole()
    key_id = TextField()
    run_id = TextField(null=True)
    previous = Whole(null=True)
    request = TextField(null=True)
    input = TextField()
    removed = TextField(null=True)
    paused = TextField(null=True)
    created_at = Whole()
    size_bytes = Whole()

    class Meta:
        table_name = "response"


add_index("response_session", StoredResponse.session, StoredResponse.id)
add_index("response_created", StoredResponse.created_at)


class ResponseConversation(Table):
    """A session that is a conversation of the OpenAI API; ``metadata`` is JSON."""

    session = Whole(primary_key=True)
    key_id = TextField()
    metadata = TextField()
    created_at = Whole()
    size_bytes = Whole()


class RunEvent(Table):
    """One event of a run. Only on PostgreSQL: SQLite has a separate file for events."""

    run = Whole()
    number = Whole()
    event = BlobField()

    class Meta:
        primary_key = CompositeKey("run", "number")


class RunEventEnd(Table):
    """The end of a run's events. Only on PostgreSQL."""

    run = Whole(primary_key=True)
    last = Whole()
    ended_at = Whole()


add_index("run_event_end_at", RunEventEnd.ended_at)


class RunEventEpoch(Table):
    """The epoch from which on a run's events are accepted. Only on PostgreSQL."""

    run = Whole(primary_key=True)
    epoch = Whole()
    since = Whole()

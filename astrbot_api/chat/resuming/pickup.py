"""Resume the runs of dead workers from their last stored step."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from ...config.agents import AgentConfig
from ...config.files import ConfigFiles
from ...config.settings import Settings
from ...db import approvals, checkpoints, leases, messages, run_workers, runs, sessions
from ...db.approvals import ApprovalRow
from ...db.messages import MessageRow
from ...db.runs import RunRow
from ...db.sessions import SessionRow
from ...db.store import Store
from ...errors import ApiError, StorageError
from ...events import Event, decode_event
from ...messages import parse_stored_message
from ...runlog.journal import Journal, iter_slices
from ...runlog.log import LogWriter, RunLog
from ...runlog.reading import Followers
from ...runtime.metrics import Metrics
from ...worker.lease import WorkerLease
from ..turns.checkpoints import StoredStep, read_steps
from ..turns.choosing import choose_provider
from ..turns.editing import find_media
from ..turns.packing import PackedRequest, unpack_request
from ..turns.running import Runs
from ..turns.turn import OpenTurn, Resumed
from .plan import CannotResume, make_plan

log = logging.getLogger(__name__)

#: Attempts to close a log while a worker that was wrongly considered dead adds events.
_MAX_ATTEMPTS = 20

#: Number of takeovers, of any kind, after which a worker ends a turn that it has left itself. Each
#: return to a turn may ask the model again, and counts no pickup.
_MAX_RETURNS = 20


@dataclass(frozen=True, slots=True)
class _Stored:
    """The database rows of a run."""

    packed: PackedRequest
    session: SessionRow
    config: AgentConfig
    user: MessageRow | None
    steps: list[StoredStep]
    approvals: list[ApprovalRow]


class Pickups:
    """Resumes runs on this worker.

    :param own_agent_resumes: Whether the application's own agent may be asked again, or None if
        models answer.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        journal: Journal,
        writer: LogWriter,
        followers: Followers,
        configs: ConfigFiles,
        lease: WorkerLease,
        runs: Runs,
        metrics: Metrics,
        *,
        own_agent_resumes: bool | None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._journal = journal
        self._writer = writer
        self._followers = followers
        self._configs = configs
        self._lease = lease
        self._runs = runs
        self._metrics = metrics
        self._own_agent_resumes = own_agent_resumes

    def pick_up(self, run: RunRow) -> RunRow | None:
        """Resume a run of a dead worker.

        :returns: The current row of a run that nobody can resume, to be ended. None if the run
            resumes here or elsewhere, or later.
        :raises StorageError: if the database or the journal is unavailable.
        """
        # Not a worker that left the turn while it could not reach the database.
        returns = self._lease.holds(run.worker_id)
        died = not run.released and not returns
        lost = died and run.pickups >= self._settings.max_pickups
        lost = lost or (returns and run.epoch >= _MAX_RETURNS)
        if lost or run.stop_requested_at is not None:
            return run
        try:
            stored = self._read(run)
        except (CannotResume, ValueError, ApiError) as error:
            log.info("run %s cannot resume: %s", run.run_id, error)
            return run
        if not self._runs.has_room:
            return None
        silent_s, worker_id = self._find_silence(run), self._lease.get_worker_id()
        if not self._store.write(lambda db: run_workers.take_run(db, run, worker_id, counted=died)):
            return None
        taken = replace(
            run, worker_id=worker_id, epoch=run.epoch + 1, pickups=run.pickups + int(died)
        )
        try:
            before_calls = run.worker_id == runs.BEFORE_CALLS
            turn, rewound = self._take_over(taken, stored, before_calls)
        except (CannotResume, ApiError) as error:
            log.info("run %s cannot resume: %s", run.run_id, error)
            return taken
        at = turn.resumed.at if turn.resumed else None
        place = f"step {at.step}" if at else "its beginning"
        if died:
            log.warning(
                "run %s resumes from %s: worker %s died, worker %s took over (pickup %d of %d)",
                run.run_id, place, run.worker_id, worker_id, taken.pickups,
                self._settings.max_pickups,
            )  # fmt: skip
            self._metrics.note_pickup(silent_s)
        else:
            log.info("run %s resumes from %s with worker %s", run.run_id, place, worker_id)
        if rewound:
            self._metrics.rewinds.inc()
        self._runs.resume(turn, stored.packed.traceparent)
        return None

    def _find_silence(self, run: RunRow) -> float | None:
        with self._store.read() as db:
            return leases.find_silence_s(db, run.worker_id, self._settings.worker_lease_s)

    def _read(self, run: RunRow) -> _Stored:
        """Read the rows that resuming a run requires.

        :raises CannotResume: if they are missing, or the run must not be repeated.
        :raises ValueError: if their format is unknown.
        :raises ApiError: if the run's provider no longer exists.
        """
        with self._store.read() as db:
            text = runs.find_request(db, run.id)
            session = sessions.find_session(db, run.session_id) if run.session_id else None
            user = messages.find_message(db, run.session, run.user_message or 0)
            rows = checkpoints.list_checkpoints(db, run.id)
            asked = approvals.list_approvals(db, run.id)
        if text is None or session is None:
            raise CannotResume("what it was asked for is not stored")
        packed = unpack_request(text)
        config = self._configs.find_config(packed.config_id)
        if config is None:
            raise CannotResume(f"its config {packed.config_id} is gone")
        if run.status == "running" and not self._may_repeat(config):
            raise CannotResume("who answers it may not be asked twice")
        choose_provider(config, packed.request)
        return _Stored(packed, session, config, user, read_steps(rows), asked)

    def _may_repeat(self, config: AgentConfig) -> bool:
        if self._own_agent_resumes is not None:
            return self._own_agent_resumes
        return config.upstream is None or config.upstream.resumable

    def _take_over(self, run: RunRow, stored: _Stored, before_calls: bool) -> tuple[OpenTurn, bool]:
        """Create the turn of a run that this worker took over, and write its first events.

        :param before_calls: Whether the calls of its last step were not begun.
        :returns: The turn, and whether output was rewound.
        :raises CannotResume: if its log has ended or lacks a step.
        :raises ApiError: if nothing is left of its message.
        """
        by_model = self._own_agent_resumes is None and stored.config.upstream is None
        for _ in range(_MAX_ATTEMPTS):
            seen = self._read_events(run.id)
            plan = make_plan(
                run.run_id, seen, stored.steps, by_model=by_model,
                streaming=stored.packed.request.streaming, approvals=stored.approvals,
                before_calls=before_calls,
            )  # fmt: skip
            if self._journal.take_over(run.id, run.epoch, len(seen), plan.shown):
                self._followers.notify(str(run.id))
                after = len(seen) + len(plan.shown)
                log_ = RunLog(run.id, self._writer, after=after, epoch=run.epoch)
                begun = run.status == "running"
                resumed = replace(plan.resumed, begun=begun)
                return self._make_turn(run, stored, log_, resumed), bool(plan.shown)
        raise StorageError("The run is still being added to; try again later.")

    def _read_events(self, run: int) -> list[Event]:
        """Return all events of a run.

        :raises CannotResume: if its last event is there. Then its reply could not be stored.
        """
        seen: list[Event] = []
        for found in iter_slices(self._journal, run):
            seen += map(decode_event, found.events)
            if found.closed:
                raise CannotResume("its log has ended")
        return seen

    def _make_turn(self, run: RunRow, stored: _Stored, log_: RunLog, resumed: Resumed) -> OpenTurn:
        packed, user = stored.packed, stored.user
        segments = packed.segments or ()
        if packed.segments is None and user is not None:
            segments = parse_stored_message(user.content["message"])
        with self._store.read() as db:
            found, sent = find_media(db, segments, stored=True)
        request = replace(packed.request, segments=found)
        return OpenTurn(
            run_id=run.run_id,
            checkpoint=run.llm_checkpoint_id or "",
            request=request,
            config=stored.config,
            provider=choose_provider(stored.config, request),
            session=stored.session,
            number=run.id,
            ahead=int(run.status == "queued"),
            user_message=run.user_message,
            user_message_at=user.created_at if user and packed.replaces is None else None,
            worker_id=run.worker_id,
            log=log_,
            sent=sent,
            replaces=packed.replaces,
            resumed=resumed,
        )

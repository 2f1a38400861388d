"""Entry point to turns: open, join, resume and watch runs.

:mod:`.turns.running` runs a turn after it is opened.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ..db.approvals import has_pending
from ..db.runs import RunRow, find_run, has_unended
from ..db.store import Store
from ..errors import ApiError, StorageError
from ..events import Event, decode_event, encode_event
from ..idempotency import TurnExists
from ..runlog.journal import Journal
from ..runlog.reading import Followers, LogReader, RunReader
from ..runtime.threads import let_others_run
from .pushes import Board
from .resuming.following import RunFollower
from .turns.opening import LeftTurns
from .turns.running import Runs
from .turns.turn import OpenTurn, TurnRequest
from .watching.seats import Holder, Seat, Seats
from .watching.watch import Numbered, Watch

#: Maximum time to wait for stopped runs to end, in seconds.
_STOP_S = 5.0

#: First and maximum pause between two polls for their end, in seconds. The pause doubles each time.
_FIRST_LOOK_S, _LAST_LOOK_S = 0.02, 0.32

#: Closes a caller's connection, or None if the transport cannot.
Abort = Callable[[], None] | None


class ChatService:
    """Opens watches of new, joined and resumed runs. The caller must close each watch."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        followers: Followers,
        runs: Runs,
        follower: RunFollower,
        board: Board,
        seats: Seats,
    ) -> None:
        self._store = store
        self._journal = journal
        self._followers = followers
        self._runs = runs
        self._follower = follower
        self._board = board
        self._seats = seats

    def open(self, request: TurnRequest, abort: Abort = None) -> Watch:
        """Start a turn and watch it, or join the run that the same request started earlier.

        :raises ApiError: if the request is refused. Nothing is stored then.
        :raises StorageError: if the database cannot store the turn.
        """
        seat = self._seats.take(Holder(request.payer or ""), abort)
        try:
            try:
                turn = self._start(request)
            except TurnExists as found:
                return self._join(found.run_id, seat)
            return self.watch(
                turn.run_id,
                turn.session.session_id,
                turn.session.id,
                LogReader(turn.log, self._journal, self._followers),
                seat,
                known_message=turn.user_message,
            )
        except BaseException:
            seat.release()
            raise

    def _start(self, request: TurnRequest) -> OpenTurn:
        try:
            return self._runs.start(request)
        except LeftTurns as left:
            self.stop(left.run_ids)
            return self._runs.start(replace(request, stops_left=False))

    def resume(
        self,
        run: RunRow,
        after: int,
        holder: Holder,
        abort: Abort = None,
        *,
        snapshot: bool = False,
    ) -> Watch | None:
        """Watch a run from any of its events.

        :param after: Number of the last event that the client received.
        :param snapshot: Begin with one event that holds the text so far.
        :returns: The watch, or None if the run has ended and the client has all its events.
        :raises ApiError: ``too_many_streams`` or ``server_busy``.
        :raises StorageError: if the events cannot be read.
        """
        if self._follower.has_all(run, after):
            return None
        seat = self._seats.take(holder, abort)
        try:
            lead: list[Numbered] = []
            if snapshot:
                event = self._follower.snapshot(run)
                after = event["data"]["revision"]
                lead = [(after, encode_event(event))]
            reader = self._follower.follow(run, after)
            return self.watch(run.run_id, run.session_id, run.session, reader, seat, lead=lead)
        except BaseException:
            seat.release()
            raise

    def stop(self, stopped: Sequence[str]) -> bool:
        """Stop runs of any worker, and wait a moment for their ends.

        :returns: Whether all have ended.
        :raises StorageError: if the request cannot be stored.
        """
        self._runs.stop(stopped)
        # A watch would be one more stream, and the key may have reached its limit of streams.
        until, look_s = time.monotonic() + _STOP_S, _FIRST_LOOK_S
        while True:
            with self._store.read() as db:
                ended = not has_unended(db, stopped)
            if ended or time.monotonic() > until:
                return ended
            time.sleep(look_s)
            look_s = min(2 * look_s, _LAST_LOOK_S)

    def read_so_far(self, run: RunRow) -> Iterator[Event]:
        """Yield the events of a run up to now, without waiting for more.

        :raises StorageError: if the events cannot be read.
        """
        reader = self._follower.follow(run)
        while lines := reader.read():
            yield from map(decode_event, lines)
            let_others_run()  # a run can have hundreds of thousands of events

    def wait_until_suspended(self, run: RunRow) -> RunRow:
        """Return a run that waits for an approval, after all its events can be read."""
        return self._follower.wait_until_suspended(run)

    def watch(
        self,
        run_id: str,
        session_id: str,
        session: int,
        reader: RunReader,
        seat: Seat,
        *,
        known_message: int | None = None,
        lead: list[Numbered] | None = None,
    ) -> Watch:
        """Return a watch of a reader's events and of messages pushed into the session.

        :param known_message: Number of the newest message that the client has.
        :param lead: Events to send first.
        """
        runs, waiter = self._runs, threading.Event()
        pushes = self._board.open(session, waiter, known_message)
        reader.attach(waiter)  # last: a failing database would leave it attached
        return Watch(
            run_id,
            session_id,
            session,
            reader=reader,
            pushes=pushes,
            waiter=waiter,
            seat=seat,
            is_leaving=lambda: runs.leaving,
            waits=lambda: self._waits_for_person(run_id),
            lead=lead,
        )

    def _waits_for_person(self, run_id: str) -> bool:
        """Return whether a run still has an undecided call."""
        try:
            with self._store.read() as db:
                run = find_run(db, run_id)
                return run is not None and has_pending(db, run.id)
        except StorageError:
            return True  # the client gets the error when it resumes

    def _join(self, run_id: str, seat: Seat) -> Watch:
        with self._store.read() as db:
            run = find_run(db, run_id)
        if run is None:
            raise ApiError("run_not_found", f"run not found: {run_id}")
        reader = self._follower.follow(run)
        watch = self.watch(
            run.run_id, run.session_id, run.session, reader, seat, known_message=run.user_message
        )
        watch.joined = True
        return watch

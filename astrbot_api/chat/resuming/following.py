"""Open readers of runs: in this worker, in the journal, or from the stored reply."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...db import messages, runs
from ...db.runs import RunRow
from ...db.store import Store
from ...events import CLOSING, Event, decode_event, encode_event, run_snapshot
from ...runlog.journal import Journal
from ...runlog.log import RunLog
from ...runlog.reading import Followers, JournalReader, LogReader, RunReader
from ...runtime.clock import now_us
from ..turns.fold import fold_events
from ..watching.watch import APPROVAL_REQUIRED
from .recovery import Recovery
from .replay import list_all_events

#: Microseconds after a run's end during which its log may still be open. Its worker writes the last
#: events shortly after it stores the reply.
_CLOSING_US = 3_000_000


#: Maximum seconds to wait until a run that asked for an approval is suspended.
_SUSPEND_S = 2.0

#: Base of event numbers that are rebuilt from a stored reply.
REBUILT_FROM = 1_000_000_000


class RunFollower:
    """Opens readers of runs on any worker."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        followers: Followers,
        recovery: Recovery,
        find_log: Callable[[str], RunLog | None],
    ) -> None:
        self._store = store
        self._journal = journal
        self._followers = followers
        self._recovery = recovery
        self._find_log = find_log

    def follow(self, run: RunRow, after: int = 0) -> RunReader:
        """Return a reader of a run's events after a number.

        :raises StorageError: if the journal cannot be read.
        """
        local = self._find_log(run.run_id)
        if local is not None:
            return LogReader(local, self._journal, self._followers, after)
        if not run.active and self._is_forgotten(run):
            return StoredReader(self._rebuild(run), after)
        return _CheckedReader(
            run.id, self._journal, self._followers, after, lambda: self._close_if_ended(run.run_id)
        )

    def has_all(self, run: RunRow, after: int) -> bool:
        """Return whether a run ended or waits for a person, and the client has its last event.

        :param after: Number of the last event that the client received.
        :raises StorageError: if the journal cannot be read.
        """
        if after and run.active and self._asks(run, after):
            run = self.wait_until_suspended(run)
        waits = run.status == "waiting"
        if after == 0 or (run.active and not waits):
            return False
        reader = self.follow(run, after)
        return not reader.read() and (waits or reader.closed)

    def _asks(self, run: RunRow, number: int) -> bool:
        """Return whether a run's last event requests an approval."""
        found = self.follow(run, number - 1).read()
        return len(found) == 1 and found[0].startswith(APPROVAL_REQUIRED)

    def wait_until_suspended(self, run: RunRow) -> RunRow:
        """Wait until a run that just asked for an approval is suspended; return it.

        All its events can then be read on any worker.
        """
        until = time.monotonic() + _SUSPEND_S
        while run.active and time.monotonic() < until:
            time.sleep(0.02)
            with self._store.read() as db:
                run = runs.find_run(db, run.run_id) or run
            if not run.worker_id:
                break
        return run

    def _close_if_ended(self, run_id: str) -> None:
        """Close the log of a run if the run has ended."""
        with self._store.read() as db:
            run = runs.find_run(db, run_id)
        if run is None or run.finished_at is None:
            return
        if now_us() - run.finished_at > _CLOSING_US:
            self._recovery.close_log(run)

    def snapshot(self, run: RunRow) -> Event:
        """Return the ``run_snapshot`` of a run's output so far.

        Its ``revision`` is the number of its last event. A run's closing events are not included,
        since they follow the snapshot.

        :raises StorageError: if the journal cannot be read.
        """
        seen: list[Event] = []
        reader = self.follow(run)
        while found := reader.read():
            seen += map(decode_event, found)
        revision = reader.number
        while seen and seen[-1]["type"] in CLOSING:
            seen.pop()
            revision -= 1
        return run_snapshot(
            run.run_id, run.session_id, run.llm_checkpoint_id, run.status, revision,
            fold_events(seen).to_content(),
        )  # fmt: skip

    def _is_forgotten(self, run: RunRow) -> bool:
        """Return whether the journal has deleted the events of a run that ended earlier."""
        found = self._journal.read_after(run.id, 0, 1)
        ended = run.finished_at or 0
        return not found.events and now_us() - ended > _CLOSING_US

    def _rebuild(self, run: RunRow) -> list[Event]:
        with self._store.read() as db:
            reply = messages.find_message(db, run.session, run.bot_message or 0)
        return list_all_events(run, reply)


class StoredReader:
    """Reads a run whose events were deleted, rebuilt from its stored reply.

    Rebuilt events have numbers above those of any run. A client that has some original events gets
    only the closing ones.
    """

    def __init__(self, events: list[Event], after: int) -> None:
        known = max(0, after - REBUILT_FROM)
        if 0 < after < REBUILT_FROM:
            known = sum(event["type"] not in CLOSING for event in events)
        self._events = [encode_event(event) for event in events[known:]]
        self.number = REBUILT_FROM + known
        self.closed = False

    def read(self) -> list[bytes]:
        """Return all events."""
        events, self._events = self._events, []
        self.closed = True
        self.number += len(events)
        return events

    def attach(self, waiter: threading.Event) -> None:
        """Do nothing, since this reader never waits."""

    def detach(self, waiter: threading.Event) -> None:
        """Do nothing."""


class _CheckedReader(JournalReader):
    """A reader that checks whether the run is alive after a period without events."""

    #: Empty reads, about one a second, between two checks.
    _PATIENCE = 3

    def __init__(
        self,
        run: int,
        journal: Journal,
        followers: Followers,
        number: int,
        check: Callable[[], None],
    ) -> None:
        super().__init__(run, journal, followers, number)
        self._check = check
        self._fruitless = 0

    def read(self) -> list[bytes]:
        events = super().read()
        if events or self.closed:
            self._fruitless = 0
        else:
            self._fruitless += 1
            if self._fruitless % self._PATIENCE == 0:
                self._check()
        return events

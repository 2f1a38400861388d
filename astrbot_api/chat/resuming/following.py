"""Finds the place where a run can be read: here, in the journal, or in what is stored."""

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
from ..turns.reply import fold_events
from ..watching.watch import APPROVAL_REQUIRED
from .recovery import Recovery
from .replay import list_all_events

#: How long after a run's end its log may still be open, in microseconds:
#: its worker writes the last events a moment after it stored the reply.
_CLOSING_US = 3_000_000


#: Longest wait for a run that has asked for an approval to be put down, in seconds.
_PUT_DOWN_S = 2.0

#: The events that are made from a stored reply are numbered after this one.
REBUILT_FROM = 1_000_000_000


class RunFollower:
    """Opens readers of runs, wherever they run or ran."""

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

        :raises StorageError: when the journal cannot be read.
        """
        local = self._find_log(run.run_id)
        if local is not None:
            return LogReader(local, self._journal, self._followers, after)
        if not run.active and self._is_forgotten(run):
            return StoredReader(self._rebuild(run), after)
        reader = JournalReader(run.id, self._journal, self._followers, after)
        return _CheckedReader(reader, lambda: self.close_if_ended(run.run_id))

    def has_all(self, run: RunRow, after: int) -> bool:
        """Return whether a run has ended, or waits for a person, and a client has its last event.

        :param after: The number of the last event that the client has.
        :raises StorageError: when the journal cannot be read.
        """
        if after and run.active and self._asks(run, after):
            run = self.await_put_down(run)
        waits = run.status == "waiting"
        if after == 0 or (run.active and not waits):
            return False
        reader = self.follow(run, after)
        return not reader.read() and (waits or reader.closed)

    def _asks(self, run: RunRow, number: int) -> bool:
        """Return whether an event, the last one of a run, asks for an approval."""
        found = self.follow(run, number - 1).read()
        return len(found) == 1 and found[0].startswith(APPROVAL_REQUIRED)

    def await_put_down(self, run: RunRow) -> RunRow:
        """Return a run once it waits for a person: it has just asked, and is a moment behind.

        All of its events can be read then, on any worker.
        """
        until = time.monotonic() + _PUT_DOWN_S
        while run.active and time.monotonic() < until:
            time.sleep(0.02)
            with self._store.read() as db:
                run = runs.find_run(db, run.run_id) or run
            if not run.worker_id:
                break
        return run

    def close_if_ended(self, run_id: str) -> None:
        """See to it that the log of a run that has ended is closed."""
        with self._store.read() as db:
            run = runs.find_run(db, run_id)
        if run is None or run.finished_at is None:
            return
        if now_us() - run.finished_at > _CLOSING_US:
            self._recovery.close_log(run)

    def snapshot(self, run: RunRow) -> Event:
        """Return the ``run_snapshot`` of what a run has said so far.

        Its ``revision`` is the number of the last event in it. The events that
        close a run are not: they still follow.

        :raises StorageError: when the journal cannot be read.
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
        """Return whether the journal has nothing of a run that ended a while ago."""
        found = self._journal.read_after(run.id, 0, 1)
        ended = run.finished_at or 0
        return not found.events and now_us() - ended > _CLOSING_US

    def _rebuild(self, run: RunRow) -> list[Event]:
        with self._store.read() as db:
            reply = messages.find_message(db, run.session, run.bot_message or 0)
        return list_all_events(run, reply)


class StoredReader:
    """Reads a run whose events are no longer kept, as made from its stored reply.

    Its events have numbers of their own, above those of any run. A reader that knows
    some of the run's own is shown the last ones alone.
    """

    def __init__(self, events: list[Event], after: int) -> None:
        known = max(0, after - REBUILT_FROM)
        if 0 < after < REBUILT_FROM:
            known = sum(event["type"] not in CLOSING for event in events)
        self._events = [encode_event(event) for event in events[known:]]
        self.number = REBUILT_FROM + known
        self.closed = False

    def read(self) -> list[bytes]:
        """Return all of them."""
        events, self._events = self._events, []
        self.closed = True
        self.number += len(events)
        return events

    def attach(self, waiter: threading.Event) -> None:
        """Do nothing: it never waits."""

    def detach(self, waiter: threading.Event) -> None:
        """Do nothing."""


class _CheckedReader:
    """A reader that, when nothing has come for a while, sees whether the run still lives."""

    #: Fruitless reads, about one a second, between two checks.
    _PATIENCE = 3

    def __init__(self, reader: JournalReader, check: Callable[[], None]) -> None:
        self._reader = reader
        self._check = check
        self._fruitless = 0

    @property
    def number(self) -> int:
        """The last event that was read."""
        return self._reader.number

    @property
    def closed(self) -> bool:
        """Whether that was the last one."""
        return self._reader.closed

    def read(self) -> list[bytes]:
        """Return the next events."""
        events = self._reader.read()
        if events or self._reader.closed:
            self._fruitless = 0
        else:
            self._fruitless += 1
            if self._fruitless % self._PATIENCE == 0:
                self._check()
        return events

    def attach(self, waiter: threading.Event) -> None:
        """Have ``waiter`` set when there may be something to read."""
        self._reader.attach(waiter)

    def detach(self, waiter: threading.Event) -> None:
        """Forget the waiter."""
        self._reader.detach(waiter)

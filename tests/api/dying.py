"""Workers that die: one application stops at a commit, another takes over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from astrbot_api.errors import StoreClosed
from astrbot_api.testing import ScriptedApp


class Death:
    """Lets an application die: from one commit on, it reaches no database.

    Its threads block there, like those of a killed process, until :meth:`bury`.

    :param at: Index of the first commit that fails, counted from now, or None to call :meth:`die`
        instead.
    :param after: Whether that commit still happens, without a response to the application.
    """

    def __init__(self, app: ScriptedApp, at: int | None = None, *, after: bool = False) -> None:
        self.dead = threading.Event()
        self.commits = 0
        self._buried = threading.Event()
        self._at = at
        self._after = after
        self._lock = threading.RLock()
        self._app = app
        state = app.state
        for owner, names in ((state.db, ("write",)), (state.worker.journal, _JOURNAL)):
            for name in names:
                setattr(owner, name, self._guard(getattr(owner, name)))

    def die(self) -> None:
        """Die at once."""
        with self._lock:  # not during a commit
            self.dead.set()
        own = self._app.state.worker.lease._own.get()
        own.closed.set()
        self._app.state.worker.chores.close()

    def bury(self) -> None:
        """Let the threads of the dead application end. They still reach no database."""
        self.die()
        self._buried.set()

    def _guard(self, commit: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                last = self.commits == self._at
                self.commits += 1
                if not self.dead.is_set() and not last:
                    return commit(*arguments, **options)
                if last and self._after and not self.dead.is_set():
                    commit(*arguments, **options)
                self.die()
            assert self._buried.wait(120)
            raise StoreClosed("this worker is dead")

        return guarded


class Drain(Death):
    """Stops an application after one of its commits, like TERM or HUP.

    :param at: Index of that commit, counted from now.
    :param give_up: Whether its time to stop is over at once.
    """

    def __init__(self, app: ScriptedApp, at: int, *, give_up: bool) -> None:
        self.drained = threading.Event()
        self._begun = False
        self._drain_at = at
        self._give_up = give_up
        super().__init__(app)

    def _guard(self, commit: Callable[..., Any]) -> Callable[..., Any]:
        guarded = super()._guard(commit)

        def counted(*arguments: Any, **options: Any) -> Any:
            try:
                return guarded(*arguments, **options)
            finally:
                with self._lock:
                    begins = not self._begun and self.commits > self._drain_at
                    self._begun = self._begun or begins
                if begins:
                    threading.Thread(target=self._drain, daemon=True).start()

        return counted

    def _drain(self) -> None:
        runs = self._app.state.chat.runs
        runs.drain()
        if self._give_up:
            runs.release_all()
        self.drained.set()


_JOURNAL = ("append", "end_run", "take_over")


def end_leases(app: ScriptedApp, *others: ScriptedApp) -> None:
    """Expire all leases except those of living applications."""
    living = "', '".join(one.state.worker.lease.get_worker_id() for one in (app, *others))
    app.state.db.write(
        lambda db: db.execute_sql(
            f"UPDATE worker SET lease_until = 0 WHERE worker_id NOT IN ('{living}')"
        )
    )

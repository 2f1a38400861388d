"""Share new connections between the workers.

All workers wait for connections at one socket, and the fastest gets the next one. A burst of
clients would open all its streams at one worker, while the others stay idle.
"""

from __future__ import annotations

import errno
import resource
import time
from functools import partial
from typing import Any

from gevent.server import StreamServer

#: Number of connections by which a worker may be ahead of the one with the fewest.
_MARGIN = 2

#: Seconds for which a worker leaves the next connection to the others, for each connection that it
#: is ahead. After that it accepts the connection, since the others may be blocked.
_DEFER_S = 0.001

#: Maximum of these seconds. On a busy machine a worker may wait so long for a processor.
_MAX_DEFER_S = 0.005

#: Pause before the next connection if the worker has too many open files, in seconds.
_FULL_S = 0.5

#: Interval between log lines about that, in seconds.
_LOG_FULL_S = 60.0


def share_connections(worker: Any, counts: memoryview) -> None:
    """Count the connections of this gunicorn worker, and leave some to the others.

    :param counts: Shared by all workers. Each has a place with the number of its connections plus
        one; 0 means no worker, or one that stops.
    """
    from gunicorn.workers import ggevent

    if isinstance(worker, ggevent.GeventWorker):
        share = _Share(worker, counts)
        worker.handle = share.handle
        ggevent.StreamServer = partial(_Server, share)


class _Share:
    """The connections of one worker, and those of the others."""

    def __init__(self, worker: Any, counts: memoryview) -> None:
        self.log = worker.log
        self._worker = worker
        self._handle = worker.handle
        self._counts = counts
        self._own = worker.age % len(counts)
        self._opened = 0
        counts[self._own] = 1

    def handle(self, listener: Any, client: Any, address: Any) -> None:
        """Count a connection while gunicorn handles it."""
        self._count(1)
        try:
            self._handle(listener, client, address)
        finally:
            self._count(-1)

    def find_lead(self) -> int:
        """Return how many connections this worker is ahead beyond the margin."""
        found: list[int] = self._counts.tolist()
        mine, found[self._own] = found[self._own], 0
        others = [one for one in found if one]
        return mine - min(others) - _MARGIN if others else 0

    def _count(self, change: int) -> None:
        self._opened += change
        self._counts[self._own] = self._opened + 1 if self._worker.alive else 0


class _Server(StreamServer):  # type: ignore[misc]
    """Accepts connections, but leaves some to other workers."""

    def __init__(self, share: _Share, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._share = share
        self._deferred = False
        self._log_full_at = 0.0

    def do_read(self) -> Any:
        """Accept the next connection, or pause."""
        lead = 0 if self._deferred else self._share.find_lead()
        self._deferred = lead > 0
        if lead > 0:
            return self._pause(min(lead * _DEFER_S, _MAX_DEFER_S))
        try:
            return super().do_read()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._log_full(error)
            return self._pause(_FULL_S)

    def _log_full(self, error: OSError) -> None:
        """Log it once per minute. gevent would print a traceback for each attempt."""
        if time.monotonic() >= self._log_full_at:
            self._log_full_at = time.monotonic() + _LOG_FULL_S
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            self._share.log.error(
                "new connections wait: %s (the limit is %d). Raise it with ulimit -n, or "
                "LimitNOFILE= of systemd", error.strerror, limit,
            )  # fmt: skip

    def _pause(self, pause_s: float) -> None:
        self.stop_accepting()
        self._timer = self.loop.timer(pause_s)
        self._timer.start(self._accept_again)

    def _accept_again(self) -> None:
        self._timer.close()
        if self.started:
            self.start_accepting()

"""Share new connections between the workers.

All workers wait for connections at one socket, and the fastest gets the next one. A burst of
clients would open all its streams at one worker, while the others stay idle.
"""

from __future__ import annotations

from typing import Any

from gevent.server import StreamServer

#: Number of connections by which a worker may be ahead of the one with the fewest.
_MARGIN = 2

#: Seconds for which a worker leaves the next connection to the others, for each connection that it
#: is ahead. After that it accepts the connection, since the others may be blocked.
_DEFER_S = 0.001

#: Maximum of these seconds. On a busy machine a worker may wait so long for a processor.
_MAX_DEFER_S = 0.005


def share_connections(worker: Any, counts: memoryview) -> None:
    """Count the connections of this gunicorn worker, and leave some to the others.

    :param counts: Shared by all workers. Each has a place with the number of its connections plus
        one; 0 means no worker, or one that stops.
    """
    from gunicorn.workers import ggevent

    if not isinstance(worker, ggevent.GeventWorker):
        return
    own, handle = worker.age % len(counts), worker.handle
    opened = 0
    counts[own] = 1

    def count(change: int) -> None:
        nonlocal opened
        opened += change
        counts[own] = opened + 1 if worker.alive else 0

    def count_and_handle(listener: Any, client: Any, address: Any) -> None:
        count(1)
        try:
            handle(listener, client, address)
        finally:
            count(-1)

    def find_lead() -> int:
        found: list[int] = counts.tolist()
        mine, found[own] = found[own], 0
        others = [one for one in found if one]
        return mine - min(others) - _MARGIN if others else 0

    class Server(StreamServer):  # type: ignore[misc]
        _deferred = False

        def do_read(self) -> Any:
            lead = 0 if self._deferred else find_lead()
            self._deferred = lead > 0
            if lead <= 0:
                return super().do_read()
            self.stop_accepting()
            self._timer = self.loop.timer(min(lead * _DEFER_S, _MAX_DEFER_S))
            self._timer.start(self._accept_again)
            return None

        def _accept_again(self) -> None:
            self._timer.close()
            if self.started:
                self.start_accepting()

    worker.handle = count_and_handle
    ggevent.StreamServer = Server

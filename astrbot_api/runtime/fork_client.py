"""The worker's side of the fork server, see :mod:`.fork_server`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import threading
import time

from .fork_server import PROGRAM

log = logging.getLogger(__name__)

#: Maximum time to wait for the fork server's exit, in seconds.
_END_S = 2.0


class ForkServer:
    """The fork server of this process, started and restarted on demand."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._pid = 0
        self.closed = False

    def open(self, module: str, file: int | None) -> socket.socket:
        """Return the socket of a new child.

        :param file: Descriptor of an open file that the child inherits, or None.
        :raises OSError: when the fork server cannot be started.
        """
        ours, theirs = socket.socketpair()
        descriptors = [theirs.fileno()] if file is None else [theirs.fileno(), file]
        try:
            with self._lock, theirs:
                for attempt in (1, 2):
                    try:
                        if self._control is None:
                            self._start()
                        assert self._control is not None
                        socket.send_fds(self._control, [json.dumps(module).encode()], descriptors)
                        return ours
                    except OSError:
                        self._end()
                        if attempt == 2:
                            raise
        except OSError:
            ours.close()
            raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Stop the fork server, which kills its children."""
        self.closed = True
        with self._lock:
            self._end()

    def _start(self) -> None:
        """Start the fork server with a minimal environment, without keys and passwords."""
        ours, theirs = socket.socketpair()
        environ = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
        environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(one) for one in sys.path)
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-c", PROGRAM],
                environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                ],
                setpgroup=0,
                setsigmask=(),
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = ours

    def _end(self) -> None:
        """Close the control socket, so that the fork server kills its children and exits."""
        if self._control is None:
            return
        self._control.close()
        self._control = None
        deadline = time.monotonic() + _END_S
        with contextlib.suppress(ChildProcessError):  # something else has reaped it
            while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    log.warning("the fork server %d did not exit in time", self._pid)
                    return
                time.sleep(0.005)

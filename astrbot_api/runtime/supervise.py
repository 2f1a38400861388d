"""Supervision of a child process, with restarts."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

#: Seconds to wait for a child's exit before the next, stronger signal.
_STOP_TIMEOUT_S = 5.0

#: First and longest pause before a restart, in seconds. It doubles with each restart.
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 30.0

#: Seconds of running after which this pause is reset.
_STEADY_S = 60.0


class Supervisor:
    """Starts a process, restarts it when it exits, and stops it.

    The process must exit at the end of its standard input, which also ends when
    this process dies, even by SIGKILL. Its standard output is discarded.

    :param name: Name of the process in the lines for ``report``.
    :param environ: Complete environment of the process.
    :param report: Called with one line for the operator, from another thread.
    :param pass_fds: File descriptors that the process inherits.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        report: Callable[[str], None],
        *,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._name = name
        self._command = list(command)
        self._environ = dict(environ)
        self._report = report
        self._pass_fds = tuple(pass_fds)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep_running, name=name, daemon=True)

    def start(self) -> None:
        """Start the process and its supervision in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the process and wait for its exit. Escalate to SIGTERM, then SIGKILL."""
        with self._lock:
            self._stopping.set()
            process = self._process
        if process is not None:
            _end(process)
        if self._thread.ident is not None:
            self._thread.join(_STOP_TIMEOUT_S)

    def _keep_running(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            started = time.monotonic()
            ending = self._run_once()
            if self._stopping.is_set():
                return
            if time.monotonic() - started >= _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            self._report(f"{self._name} {ending}; restarting it in {pause_s:g} s.")
            if self._stopping.wait(pause_s):
                return
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def _run_once(self) -> str:
        """Run the process until it exits, and return a text about its exit."""
        with self._lock:
            if self._stopping.is_set():
                return "was not started"
            try:
                process = subprocess.Popen(
                    self._command,
                    env=self._environ,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    pass_fds=self._pass_fds,
                    # Ctrl-C signals the whole process group of the terminal, but
                    # unfinished turns still need this process.
                    process_group=0,
                )
            except OSError as error:
                return f"cannot be started: {error}"
            self._process = process
        with process:
            return describe_status(process.wait())


def describe_status(status: int) -> str:
    """Return a text about the exit of a process, from its return code."""
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):  # it has already exited
            process.stdin.close()
    for send in (None, process.terminate, process.kill):
        if send is not None:
            send()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue
        return

"""Runs gunicorn's master as a child process of ``astrbot-api serve``."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping

import urllib3

from ..runtime.supervise import describe_status
from .banner import Banner, say, say_error

#: Time without a response before a warning is printed, in seconds.
_FIRST_ANSWER_S = 60.0

#: Interval between requests that check whether the server responds, in seconds.
_CHECK_S = 0.1

#: Signals that are forwarded to gunicorn, in some cases as another signal, and the one that is
#: refused: gunicorn's second master (USR2) would not be a child of this process.
_SIGNALS = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip


class Master:
    """gunicorn's master as a child process.

    :param environ: The complete environment of the process.
    :param banner: Printed when the server responds.
    """

    def __init__(self, command: list[str], environ: Mapping[str, str], banner: Banner) -> None:
        self._command = command
        self._environ = environ
        self._banner = banner
        self._is_stopping = False
        self._ended = threading.Event()
        self._has_terminal = _has_terminal()

    def run(self) -> int:
        """Start gunicorn, forward signals, and wait for its exit.

        :returns: The exit status for this process.
        """
        with _collected_signals() as (signals, sender):
            # In the main thread, because PR_SET_PDEATHSIG refers to the forking thread.
            process = subprocess.Popen(
                self._command,
                env=dict(self._environ),
                stdin=subprocess.DEVNULL,
                # In another process group than the terminal. Otherwise Ctrl-C would also reach
                # gunicorn directly and stop it without a drain.
                process_group=0,
            )
            waiter = threading.Thread(target=self._await_end, args=(process, sender), daemon=True)
            announcer = threading.Thread(target=self._announce, daemon=True)
            waiter.start()
            announcer.start()
            while number := signals.recv(1)[0]:
                self._pass_on(process, signal.Signals(number))
            waiter.join()
            announcer.join()
        status = process.returncode
        if self._is_stopping:
            return 0 if status in (0, -signal.SIGTERM, -signal.SIGQUIT) else _exit_status(status)
        if status:
            what = "stopped" if self._banner.shown else "did not start"
            say_error(f"the server {what}: gunicorn {describe_status(status)}; see above")
        return _exit_status(status)

    def _await_end(self, process: subprocess.Popen[bytes], sender: socket.socket) -> None:
        process.wait()
        self._ended.set()
        sender.send(bytes(1))

    def _announce(self) -> None:
        """Print the banner once the server responds, unless it exits first."""
        late_at = time.monotonic() + _FIRST_ANSWER_S
        while not self._ended.wait(_CHECK_S):
            if _answers(self._banner.url):
                self._banner.show()
                return
            if time.monotonic() > late_at:
                say_error(f"no response from {self._banner.url} after {_FIRST_ANSWER_S:g} s")
                late_at = float("inf")

    def _pass_on(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Forward a signal to gunicorn, converted to gunicorn's equivalent."""
        if number == signal.SIGUSR2:
            say_error("ignored USR2; after an upgrade, send HUP: new workers load the new code")
            return
        if number == signal.SIGHUP and self._has_terminal and not _has_terminal():
            number = signal.SIGTERM  # the terminal was closed: stop instead of a reload
        elif number == signal.SIGINT and self._is_stopping:
            number = signal.SIGQUIT
        elif number == signal.SIGINT:
            say("\nStopping after the running turns. Press Ctrl-C again to stop at once.")
            number = signal.SIGTERM
        self._is_stopping = self._is_stopping or number in (signal.SIGTERM, signal.SIGQUIT)
        process.send_signal(number)


@contextlib.contextmanager
def _collected_signals() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Write signal numbers to a socket, one byte each, inside the block.

    No signal is lost or delayed. Python would run an ordinary handler only after the main
    thread's blocking call.

    :returns: The socket to read the numbers from, and the socket that they are written to.
    """
    signals, sender = socket.socketpair()
    with signals, sender:
        sender.setblocking(False)
        wakeup_fd = signal.set_wakeup_fd(sender.fileno())
        before = {
            number: signal.signal(number, lambda number, frame: None)
            for number in _SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN  # nohup stays in effect
        }
        try:
            yield signals, sender
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup_fd)


def _answers(url: str) -> bool:
    try:
        urllib3.request(
            "GET",
            f"{url}/healthz",
            headers={"Connection": "close"},
            timeout=2.0,
            retries=False,
        )
    except (urllib3.exceptions.HTTPError, OSError):
        return False
    return True


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _exit_status(status: int) -> int:
    return status if status >= 0 else 128 - status

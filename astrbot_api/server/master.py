"""gunicorn's master as a child of ``astrbot-api serve``."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from types import FrameType

import urllib3

from .banner import Banner, say, say_error
from .supervise import describe_status

#: How long the first answer may take until people are told, in seconds.
_FIRST_ANSWER_S = 60.0

#: Pause between two looks whether it answers, in seconds.
_LOOK_S = 0.1

#: Longest time until a signal is passed on that came in the worst moment, in seconds.
_SIGNAL_DELAY_S = 0.5


class Master:
    """gunicorn's master as a child process.

    :param command: Program and arguments.
    :param environ: Its whole environment.
    :param banner: Shown when the server answers.
    """

    def __init__(self, command: list[str], environ: Mapping[str, str], banner: Banner) -> None:
        self._command = command
        self._environ = environ
        self._banner = banner
        self._process: subprocess.Popen[bytes] | None = None
        self._stops = 0
        self._ended = threading.Event()
        self._has_terminal = _has_terminal()

    def run(self) -> int:
        """Start it, pass signals on, and wait for its end.

        :returns: The exit status for this process.
        """
        with self._signals():
            # In the main thread: PR_SET_PDEATHSIG is about the thread that forks.
            self._process = subprocess.Popen(
                self._command,
                env=dict(self._environ),
                stdin=subprocess.DEVNULL,
                # Out of the terminal's group: Ctrl-C would reach it, and end
                # it the quick way, before we could ask for the other.
                process_group=0,
            )
            if self._stops:
                self._process.terminate()
            announcer = threading.Thread(target=self._announce, name="announce", daemon=True)
            announcer.start()
            threading.Thread(target=self._await_end, name="master", daemon=True).start()
            # Not the end of the process itself: Python would heed a signal that
            # comes just before such a call blocks only when it returns.
            while not self._ended.wait(_SIGNAL_DELAY_S):
                pass
            status = self._process.wait()
            announcer.join()
        if self._stops:
            return 0 if status in (0, -signal.SIGTERM, -signal.SIGQUIT) else _exit_status(status)
        if status:
            what = "stopped" if self._banner.shown else "did not start"
            say_error(f"the server {what}: gunicorn {describe_status(status)}; see above")
        return _exit_status(status)

    def _await_end(self) -> None:
        assert self._process is not None
        self._process.wait()
        self._ended.set()

    def _announce(self) -> None:
        """Show the banner once the server answers, unless it ends before."""
        late_at = time.monotonic() + _FIRST_ANSWER_S
        while not self._ended.wait(_LOOK_S):
            if _answers(self._banner.url):
                self._banner.show()
                return
            if time.monotonic() > late_at:
                say_error(f"no answer from {self._banner.url} after {_FIRST_ANSWER_S:g} s")
                late_at = float("inf")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        handlers = {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._stop,
            signal.SIGQUIT: self._stop_now,
            signal.SIGHUP: self._hang_up,
            signal.SIGUSR1: self._pass_on,
        }
        before = {
            number: signal.signal(number, handler)
            for number, handler in handlers.items()
            if signal.getsignal(number) is not signal.SIG_IGN  # nohup stays in force
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stops += 1
        if number == signal.SIGINT and self._stops > 1:
            self._send(signal.SIGQUIT)
            return
        if number == signal.SIGINT:
            say("\nStopping when the running turns have ended; Ctrl-C again: at once.")
        self._send(signal.SIGTERM)

    def _stop_now(self, number: int, frame: FrameType | None) -> None:
        self._stops += 1
        self._send(signal.SIGQUIT)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        """Reload; or stop, if HUP came because the terminal was closed."""
        if self._has_terminal and not _has_terminal():
            self._stop(signal.SIGTERM, frame)
        else:
            self._send(signal.SIGHUP)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._send(signal.Signals(number))

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


def _answers(url: str) -> bool:
    try:
        urllib3.request(
            "GET",
            f"{url}/api/v1/openapi.json",
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

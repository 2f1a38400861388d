"""Check the configuration files before a reload (HUP) of gunicorn."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from typing import Any

#: Time limit of the check before a reload, in seconds.
_CHECK_S = 30.0


def guard_reload(server: Any) -> None:
    """Keep the workers at a reload (HUP) if a configuration file is invalid.

    gunicorn stops them in any case, even if no new one can start. An application that sets its
    data directory itself, without the environment, is not checked.
    """
    reload = server.reload

    def check_and_reload() -> None:
        try:
            folder = os.environ.get("ASTRBOT_DATA_DIR", "").strip()
            fault = _find_fault(os.path.expanduser(folder)) if folder else ""
        except OSError as error:  # it would end the master
            fault = f"astrbot-api check cannot be started: {error}"
        if fault:
            server.log.error(
                "not reloaded; the current workers continue with the last valid files: %s", fault
            )
        else:
            reload()

    server.reload = check_and_reload


def _find_fault(folder: str) -> str:
    """Return why new workers could not start, or an empty string.

    :param folder: The data directory. With a read-only root, no other folder can be written.

    Another process checks it, because this one has old code. It is started without
    ``subprocess``: gevent's version would replace gunicorn's handler of SIGCHLD.
    """
    command = [sys.executable, "-m", "astrbot_api", "check"]
    with tempfile.TemporaryFile(dir=folder) as output:
        copies = [(os.POSIX_SPAWN_DUP2, output.fileno(), descriptor) for descriptor in (1, 2)]
        pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=copies)
        until = time.monotonic() + _CHECK_S
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return f"astrbot-api check took more than {_CHECK_S:g} s"
            time.sleep(0.05)
        output.seek(0)
        text = " ".join(output.read().decode(errors="replace").split())
    if os.waitstatus_to_exitcode(ended[1]) == 0:
        return ""
    return text or "astrbot-api check failed"

"""``astrbot-api serve``: gunicorn, the processes beside it, and the printed lines.

This process serves no requests. It decides which model answers, starts
gunicorn, the model's process and the MCP sidecar, passes signals on, and ends
when gunicorn does. Its children end with it, also when it is killed: gunicorn
by ``PR_SET_PDEATHSIG`` (see :mod:`.gunicorn_conf`), the others by the end of
their standard input.

It does not become gunicorn by ``exec``. gunicorn's master has gevent's hub, and
each worker is a fork of it. A thread that supervises in the master would run
again in each worker, and workers would hold open the pipes by which the other
processes end. Ctrl-C would reach each worker too, which then drops its turns.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ..config.agents import ProviderConfig
from ..config.files import ConfigFiles
from ..config.settings import load_settings
from ..errors import SettingsError
from ..providers import local_model as model_sidecar
from ..providers.local import DEMO_VARIABLE, URL_VARIABLE
from ..runtime.supervise import Supervisor
from .banner import Banner, say_error
from .choose_model import ModelChoice, choose_model
from .master import Master
from .mcp import run_mcp_sidecar
from .preparing import first_key, first_owner, prepare
from .upstream import begin_with_upstream

#: Integer settings, read later by gunicorn_conf.
_WHOLE_NUMBERS = ("WEB_CONCURRENCY", "ASTRBOT_GRACEFUL_TIMEOUT_S")


def run_server(
    *,
    host: str,
    port: int,
    workers: int | None,
    data_dir: Path | None,
    upstream: tuple[str, str] | None = None,
) -> int:
    """Serve until a signal stops the server.

    :param host: Address to listen on.
    :param port: TCP port; 0: any that is free.
    :param workers: Worker processes; None: ``WEB_CONCURRENCY``, else 2.
    :param data_dir: Made when missing; None: the setting ``data_dir``.
    :param upstream: Address and key of an AstrBot that is to answer; for the first start.
    :returns: The exit status: 0 after an ordinary stop.
    :raises SettingsError: before anything is started, when a setting or a
        config file is wrong or the address cannot be used.
    """
    settings = load_settings(None if data_dir is None else {"data_dir": data_dir})
    folder = settings.data_dir.resolve()
    _check_whole_numbers(os.environ)
    port = _check_address(host, port)
    if upstream is not None:
        for check in begin_with_upstream(folder, *upstream):
            say_error(f"{check.text}; {check.remedy}")
    prepare(folder)
    choice = _choose_model(folder)
    banner = Banner(
        url=f"http://{_reachable(host)}:{port}{settings.url_prefix}",
        data_dir=folder,
        is_default_dir=folder == load_settings().data_dir.resolve(),
        choice=choice,
        first_key=first_key(folder),
        first_owner=None if settings.admin_password else first_owner(folder),
        pages=settings.owner_access == "pages",
    )
    environ = _make_environ(folder, choice)
    with contextlib.ExitStack() as stack:
        # New secrets must be shown, also when something fails from here on.
        stack.callback(banner.show_secrets)
        if choice.gguf is not None:
            environ |= stack.enter_context(_run_model(choice.gguf, choice.is_demo))
        environ |= stack.enter_context(run_mcp_sidecar(os.environ, say_error))
        return Master(_make_command(host, port, workers), environ, banner).run()


@contextlib.contextmanager
def _run_model(gguf: Path, is_demo: bool) -> Iterator[dict[str, str]]:
    """Keep the model's process running for the length of the block.

    :returns: The variables through which the workers find it.
    """
    with socket.socket() as reserved:
        # Bound but not listening: no other process gets the port between two
        # starts of the model's process, and connections are refused meanwhile.
        if hasattr(socket, "SO_REUSEPORT"):
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        key = secrets.token_urlsafe(32)
        command = [sys.executable, "-P", model_sidecar.__file__]
        command += ["--gguf", str(gguf), "--port", str(port)]
        command += ["--demo"] if is_demo else []
        variables = {model_sidecar.KEY_VARIABLE: key}
        supervisor = Supervisor(
            "The embedded model's process", command, os.environ | variables, say_error
        )
        supervisor.start()
        try:
            yield variables | {
                URL_VARIABLE: f"http://127.0.0.1:{port}/v1",
                DEMO_VARIABLE: "1" if is_demo else "0",
            }
        finally:
            supervisor.stop()


def _make_command(host: str, port: int, workers: int | None) -> list[str]:
    conf = Path(__file__).with_name("gunicorn_conf.py")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    command = [sys.executable, "-m", "gunicorn", "-c", str(conf), "-b", address]
    command += [] if workers is None else ["--workers", str(workers)]
    return [*command, "astrbot_api.app:create_app()"]


def _make_environ(folder: Path, choice: ModelChoice) -> dict[str, str]:
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in (URL_VARIABLE, DEMO_VARIABLE, model_sidecar.KEY_VARIABLE)
    }
    return environ | {
        "ASTRBOT_DATA_DIR": str(folder),
        "ASTRBOT_SERVE_PID": str(os.getpid()),
        **choice.environ,
    }


def _choose_model(folder: Path) -> ModelChoice:
    files = ConfigFiles(folder)
    files.load_all()
    default, tables = files.get_default(), _list_providers(files)
    if not tables:
        choice = ModelChoice("configured", "")
    else:
        choice = choose_model(tables, os.environ)
    if default.upstream is None:
        return choice
    return replace(choice, text=f"Answered by the AstrBot at {default.upstream.base_url}.")


def _list_providers(files: ConfigFiles) -> list[ProviderConfig]:
    """Return the tables of all configs that a model answers, that of the default one first."""
    default = files.get_default()
    # An AstrBot needs no model here.
    own = [one for one in (default, *files.list_configs()) if one.upstream is None]
    tables = [table for one in own for table in (one.provider, *one.providers.values())]
    return list(dict.fromkeys(tables))


def _check_whole_numbers(environ: Mapping[str, str]) -> None:
    for name in _WHOLE_NUMBERS:
        text = environ.get(name, "").strip()
        if text and (not text.isdecimal() or int(text) < 1):
            raise SettingsError(f"{name} must be a whole number of at least 1; got {text!r}")


def _check_address(host: str, port: int) -> int:
    """Check that the address is free: gunicorn would try five times, a second apart.

    :returns: The port; a free one for 0.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)  # binding alone does not see who listens, with SO_REUSEADDR
            chosen: int = probe.getsockname()[1]
            return chosen
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(
            f"cannot listen on {host} port {port}: {reason}. Choose another port with --port"
        ) from error


def _reachable(host: str) -> str:
    """Return what a client on this machine calls the address, ready for a URL."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host

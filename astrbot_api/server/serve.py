"""``astrbot-api serve``: gunicorn, its helper processes, and the printed lines.

This process serves no requests. It chooses the model, starts gunicorn, the model's process and
the MCP sidecar, forwards signals, and exits with gunicorn. Its children end with it, even if
it is killed: gunicorn by ``PR_SET_PDEATHSIG`` (see :mod:`.gunicorn_conf`), the others when
their standard input closes.

It does not replace itself with gunicorn by ``exec``. gunicorn's master runs gevent, and each
worker is a fork of it. A supervisor thread in the master would run again in each worker, and
workers would keep open the pipes that end the other processes. Ctrl-C would also reach each
worker directly, which then drops its turns.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..config.agents import ProviderConfig
from ..config.files import ConfigFiles
from ..config.loading import load_settings
from ..errors import SettingsError
from ..providers import local_model as model_sidecar
from ..providers.local import DEMO_VARIABLE, URL_VARIABLE
from ..runtime.supervise import Supervisor
from .banner import Banner, say_error
from .choose_model import ModelChoice, choose_model
from .master import Master
from .mcp import run_mcp_sidecar
from .preparing import WHOLE_NUMBERS, check_whole_numbers, create_first_access, prepare
from .upstream import begin_with_upstream


def run_server(
    *,
    host: str,
    port: int,
    workers: int | None,
    data_dir: Path | None,
    upstream: tuple[str, str] | None,
) -> int:
    """Serve until a signal stops the server.

    :param port: TCP port, or 0 for any free port.
    :param workers: Number of worker processes. None means ``WEB_CONCURRENCY``, else 2.
    :param data_dir: Created if missing. None means the setting ``data_dir``.
    :param upstream: Address and key of an AstrBot that answers, for the first start.
    :returns: The exit status, 0 after a normal stop.
    :raises SettingsError: if a setting or config file is invalid or the address cannot be
        used. Nothing is started then.
    """
    settings = load_settings(None if data_dir is None else {"data_dir": data_dir})
    folder = settings.data_dir.resolve()
    check_whole_numbers(os.environ)
    host = _clean_host(host)
    port = _check_address(host, port)
    if upstream is not None:
        for check in begin_with_upstream(folder, *upstream, settings.admin_names):
            say_error(f"{check.text}; {check.remedy}")
    if metrics_dir := os.environ.get("PROMETHEUS_MULTIPROC_DIR", ""):
        os.makedirs(metrics_dir, exist_ok=True)  # preparing has metrics, too
    prepare(folder)
    _ensure_temporary_folder(folder)
    choice = _choose_model(folder)
    banner = Banner(
        url=f"http://{_reachable(host)}:{port}{settings.url_prefix}",
        data_dir=folder,
        is_default_dir=folder == load_settings().data_dir.resolve(),
        choice=choice,
        owner_name=settings.owner_name,
        pages=settings.owner_access == "pages",
        create_access=lambda: create_first_access(settings),
    )
    environ = _make_environ(folder, choice)
    with contextlib.ExitStack() as stack:
        if choice.gguf is not None:
            environ |= stack.enter_context(_run_model(choice.gguf, choice.is_demo))
        environ |= stack.enter_context(run_mcp_sidecar(os.environ, say_error))
        return Master(_make_command(host, port, workers), environ, banner).run()


def _ensure_temporary_folder(data_dir: Path) -> None:
    """Use the data directory for temporary files if nothing else can be written.

    This is the case in a container with a read-only root and no ``/tmp``.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        path = data_dir / "tmp"
        path.mkdir(mode=0o700, exist_ok=True)
        os.environ["TMPDIR"] = str(path)  # for this process and its children


@contextlib.contextmanager
def _run_model(gguf: Path, is_demo: bool) -> Iterator[dict[str, str]]:
    """Keep the model's process running inside the block.

    :returns: Environment variables with its address, for the workers.
    """
    with socket.socket() as reserved:
        # Bound but not listening. Between two starts of the model's process, no other
        # process can get the port, and connections are refused.
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
        # gunicorn itself reads WEB_CONCURRENCY, and an empty one ends it with a traceback.
        and (name not in WHOLE_NUMBERS or value.strip())
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
    """Return the provider tables of all configs without an upstream, the default one's first."""
    default = files.get_default()
    # Configs with an upstream need no model.
    own = [one for one in (default, *files.list_configs()) if one.upstream is None]
    tables = [table for one in own for table in (one.provider, *one.providers.values())]
    return list(dict.fromkeys(tables))


def _clean_host(host: str) -> str:
    """Return a host as sockets accept it: ``::1`` for ``[::1]``, all addresses for ``*``."""
    return "0.0.0.0" if host == "*" else host.removeprefix("[").removesuffix("]")


def _check_address(host: str, port: int) -> int:
    """Check that the address is free. gunicorn itself would retry for five seconds.

    :returns: The port. For 0, a free one.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)  # bind() with SO_REUSEADDR does not detect listeners
            chosen: int = probe.getsockname()[1]
            return chosen
    except OSError as error:
        remedy = "Choose another port with --port"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            remedy = "Give an address of this machine with --host, such as 127.0.0.1 or ::1"
        reason = error.strerror or str(error)
        raise SettingsError(f"cannot listen on {host} port {port}: {reason}. {remedy}") from error


def _reachable(host: str) -> str:
    """Return the host for a URL that reaches this address from this machine."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host

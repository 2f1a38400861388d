"""nginx with the site of ``deploy/nginx``, on free loopback ports."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urllib3

from .postgres import require_tool
from .servers import ROOT, Server

SITE = ROOT / "deploy" / "nginx"

#: As in deploy/nginx/site.env.
ACCEL_PREFIX = "/_attachments"

_MAIN = """\
daemon off;
master_process on;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 1024; }}
http {{
    default_type application/octet-stream;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/astrbot-api.conf;
}}
"""


def find_nginx() -> str:
    """Return nginx's path. Without nginx, skip the test, or fail in CI."""
    return require_tool(shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin"), "nginx")


def fill_in(template: str, values: dict[str, str]) -> str:
    """Replace variables like ``envsubst``, but fail on missing ones."""
    filled = re.sub(r"\$\{(ASTRBOT_[A-Z_]+)\}", lambda found: values[found[1]], template)
    assert "${" not in re.sub(r"(?m)^#.*$", "", filled)
    return filled


class Nginx:
    """The site of ``deploy/nginx`` in front of some servers, with its own certificate."""

    def __init__(
        self,
        folder: Path,
        upstream: str,
        files: Path,
        *,
        edit: Callable[[str], str] = str,
        **changed: str,
    ) -> None:
        """Start nginx.

        :param edit: Changes the site's text.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / "site.crt"
        _make_certificate(folder)
        # Opened here and passed on, as in an upgrade of nginx, so that the ports are free.
        listeners = [socket.create_server(("127.0.0.1", 0), backlog=511) for _ in range(2)]
        self.plain_port, self.port = (one.getsockname()[1] for one in listeners)
        values = {
            "ASTRBOT_SITE_NAME": "localhost",
            "ASTRBOT_SITE_CERTIFICATE": str(self.certificate),
            "ASTRBOT_SITE_CERTIFICATE_KEY": str(folder / "site.key"),
            "ASTRBOT_SITE_HTTP_LISTEN": f"127.0.0.1:{self.plain_port}",
            "ASTRBOT_SITE_HTTPS_LISTEN": f"127.0.0.1:{self.port}",
            "ASTRBOT_SITE_UPSTREAM": upstream,
            "ASTRBOT_SITE_MAX_UPLOAD": "130m",
            "ASTRBOT_SITE_FILES": f"{files}/",
            "ASTRBOT_ACCEL_REDIRECT_PREFIX": ACCEL_PREFIX,
            "ASTRBOT_SITE_LOG": str(folder / "access.log"),
            **changed,
        }
        template = (SITE / "astrbot-api.conf.template").read_text(encoding="utf-8")
        (folder / "astrbot-api.conf").write_text(edit(fill_in(template, values)), encoding="utf-8")
        # Root's nginx would run as nobody, who cannot enter the test's folder.
        user = "user root;" if os.geteuid() == 0 else ""
        main = _MAIN.format(folder=folder, user=user)
        (folder / "nginx.conf").write_text(main, encoding="utf-8")
        command = [find_nginx(), "-p", str(folder), "-c", str(folder / "nginx.conf")]
        with (folder / "stderr").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "-e", str(folder / "error.log")],
                stdout=log,
                stderr=log,
                pass_fds=[one.fileno() for one in listeners],
                env={**os.environ, "NGINX": "".join(f"{one.fileno()};" for one in listeners)},
            )
        for one in listeners:
            one.close()

    def connect(self, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """Open a connection like a client that trusts this certificate."""
        context = context or ssl.create_default_context(cafile=str(self.certificate))
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        return context.wrap_socket(raw, server_hostname="127.0.0.1")

    def read_log(self, name: str = "access.log") -> str:
        """Return a log of nginx."""
        path = self.folder / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """Stop nginx and its open connections."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


class FrontedServer(Server):
    """The server behind nginx. All requests pass through nginx, over TLS."""

    def __init__(self, data_dir: Path, *, site: dict[str, str] | None = None, **options: Any):
        find_nginx()
        options = {"ASTRBOT_PROXY_HOPS": "1", **options}
        if "ASTRBOT_STORAGE_URL" not in os.environ:
            options.setdefault("ASTRBOT_ACCEL_REDIRECT_PREFIX", ACCEL_PREFIX)
        super().__init__(data_dir, **options)
        #: The server's own port.
        self.inner_port = self.port
        upstream = f"server 127.0.0.1:{self.inner_port} fail_timeout=0;"
        files = data_dir.resolve() / "files"
        self.nginx = Nginx(data_dir.resolve() / "nginx", upstream, files, **(site or {}))
        self.port = self.nginx.port
        self.url = f"https://127.0.0.1:{self.port}"
        self.http = urllib3.PoolManager(
            maxsize=100,
            retries=False,
            timeout=urllib3.Timeout(connect=10, read=60),
            ca_certs=str(self.nginx.certificate),
        )

    def connect(self) -> socket.socket:
        """Open a connection to nginx, over TLS."""
        return self.nginx.connect()

    def stop(self) -> int:
        """Stop both and return the server's exit code."""
        self.nginx.stop()
        return super().stop()


def choose_server() -> type[Server]:
    """Return the kind of server for the contract tests. ``make deploy-check`` chooses it."""
    return FrontedServer if os.environ.get("ASTRBOT_TEST_FRONT") == "nginx" else Server


def _make_certificate(folder: Path) -> None:
    openssl = require_tool(shutil.which("openssl"), "openssl")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-addext", "keyUsage=critical,digitalSignature,keyCertSign",
         "-keyout", str(folder / "site.key"), "-out", str(folder / "site.crt")],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip

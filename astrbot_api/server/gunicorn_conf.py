"""gunicorn's configuration for this server: settings, then hooks.

``serve`` and ``deploy/gunicorn.conf.py`` run this file by its path. It imports nothing of
ours before a worker runs: peewee, imported before the patch, would share its thread-local
connection between all greenlets, and their transactions would mix without an error.
"""

from gevent import config as _config
from gevent import monkey as _monkey

# Who spawned whom is never asked; keeping it costs each greenlet a third of its start.
_config.track_greenlet_tree = False
_patched_before = _monkey.is_module_patched("threading")
_monkey.patch_all()

import gc
import mmap
import os
import shutil
import sys
import tempfile
import time

if "peewee" in sys.modules and not _patched_before:
    raise SystemExit(
        "gunicorn_conf.py was loaded after peewee: all requests would share one database "
        "connection. Use: gunicorn -c deploy/gunicorn.conf.py"
    )


def _env_int(name: str, default: int, minimum: int) -> int:
    """Read a whole number from the environment; exit with one line if it is not one."""
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isdecimal() or int(text) < minimum:
        raise SystemExit(f"{name} must be a whole number of at least {minimum}; got {text!r}")
    return int(text)


worker_class = "gevent"
#: Two, so that one serves while the other restarts.
workers = _env_int("WEB_CONCURRENCY", 2, 1)
#: Streams are connections that stay.
worker_connections = 10_000
#: The C parser's newest release does not fit gunicorn 27 (gunicorn[fast]
#: installs 26 without a word); naming the parser keeps it out.
http_parser = "python"
#: Seconds an idle connection stays open. It also holds up a stopping worker,
#: so it must stay well below graceful_timeout.
keepalive = 5
#: Seconds without a sign of life of the hub until a worker is killed, with
#: all its streams. No limit on how long a request takes.
timeout = 60
#: Seconds that a worker gets to stop: astrbot_api/server/stopping.py gives its turns to
#: another one.
graceful_timeout = _env_int("ASTRBOT_GRACEFUL_TIMEOUT_S", 30, 1)
#: A peer on this machine is believed no path and no scheme: ASTRBOT_PROXY_HOPS says who is.
forwarder_headers = ""
forwarded_allow_ips = ""
#: The socket's path is one for all servers of a user: the second takes it over.
control_socket_disable = True
#: The application writes one structured line a request. Our logging is set up in
#: post_worker_init: with a ``logconfig_dict`` gunicorn would prepare an access
#: line of its own for each request, a tenth of its cost, and throw it away.
accesslog = None
#: The heartbeat file of each worker, off the disk: a busy disk must not get a
#: worker killed.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None

# sys.setswitchinterval stays at 5 ms: with the native database thread beside the hub, 1 ms and
# 0.5 ms differed by less than the noise (Source: measured, 32 clients, CPU and turns a second).


def on_starting(server):  # type: ignore[no-untyped-def]
    """Raise the limit of open files, and tie the master to ``serve``."""
    _raise_open_files()
    _die_with_parent(server)
    _make_metrics_dir()


def on_reload(server):  # type: ignore[no-untyped-def]
    """Record that this server has served; this file was read again."""
    _has_served[0] = 1


def post_fork(server, worker):  # type: ignore[no-untyped-def]
    """Bound the heads of requests; let a worker that takes another's place wait for what is away.

    gunicorn ends the whole server when a worker cannot load the application.
    That is right at the first start. Later it would mean that a worker which
    dies while the database is away takes all others with it.
    """
    _bound_heads()
    load = worker.load_wsgi

    def load_or_leave() -> None:
        from gunicorn.errors import AppImportError

        try:
            load()
        except AppImportError:
            raise
        except Exception as error:
            if not _has_served[0]:
                raise
            worker.log.error("the worker cannot start yet: %s: %s", type(error).__name__, error)
            time.sleep(1.0)
            raise SystemExit(1) from error

    worker.load_wsgi = load_or_leave
    # Nothing that loading makes is garbage; looking for some takes a sixth of its time.
    gc.disable()


def post_worker_init(worker):  # type: ignore[no-untyped-def]
    """Set the log up; start the watch that ends this worker's turns before it is killed."""
    from astrbot_api.server.log_output import set_up_logging
    from astrbot_api.server.stopping import find_state, start_watch

    _has_served[0] = 1
    set_up_logging(worker)
    start_watch(worker)
    # What was loaded stays for good: the collector need not walk it again.
    gc.collect()
    gc.freeze()
    gc.enable()
    state = find_state(worker)
    if state is not None:
        state.start()


def post_request(worker, req, environ, resp):  # type: ignore[no-untyped-def]
    """Let other greenlets in, and let a stopping worker's clients go.

    A client that sends one request after another on one connection would
    otherwise keep the hub, and the streams beside it would stutter. And a
    worker that stops would wait ``keepalive`` seconds for a further request
    on the connection of a stream that has just ended.
    """
    from astrbot_api.runtime.threads import let_others_run

    if not worker.alive:
        req.force_close()
    let_others_run()


def child_exit(server, worker):  # type: ignore[no-untyped-def]
    """Remove the streams and turns of a dead worker from the figures."""
    try:
        from prometheus_client.multiprocess import mark_process_dead
    except ImportError:
        return
    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server):  # type: ignore[no-untyped-def]
    """Remove the figures of a server that has ended."""
    if _own_metrics_dir:
        shutil.rmtree(_own_metrics_dir[0], ignore_errors=True)


def worker_int(worker):  # type: ignore[no-untyped-def]
    """Stop at once, on INT or QUIT."""
    from astrbot_api.server.stopping import stop_at_once

    stop_at_once(worker)


def worker_exit(server, worker):  # type: ignore[no-untyped-def]
    """Write out what the worker still holds and close its database."""
    from astrbot_api.server.stopping import close_app

    close_app(worker)


#: Longest head of a request. Ten of 700 KB kept a worker from all else for 2.5 s (Source:
#: measured with gunicorn 27); nginx takes 32 KB by default.
_MAX_HEAD_BYTES = 64 * 1024

#: One byte that all workers share: 1 as soon as one of them has loaded the application.
_has_served = mmap.mmap(-1, 1)

#: The folder of the figures, where it is ours to remove.
_own_metrics_dir: list[str] = []


def _bound_heads() -> None:
    """Refuse heads, and trailers, that are longer than :data:`_MAX_HEAD_BYTES`.

    gunicorn limits each field and their number, which allows 800 KB, and copies all that is
    there with each piece that comes.
    """
    from gunicorn.http.parser import RequestParser

    plain = RequestParser.mesg_class

    class Request(plain):  # type: ignore[valid-type, misc]
        def parse(self, unreader):  # type: ignore[no-untyped-def]
            self.max_buffer_headers = _MAX_HEAD_BYTES
            return super().parse(unreader)

    RequestParser.mesg_class = Request


def _make_metrics_dir() -> None:
    """Give the workers an empty folder for their figures (Source: prometheus_client's manual)."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    if not folder:
        folder = tempfile.mkdtemp(prefix="astrbot-metrics-", dir=worker_tmp_dir)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        _own_metrics_dir.append(folder)
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        if name.endswith(".db"):
            os.unlink(os.path.join(folder, name))


def _raise_open_files() -> None:
    """Lift the soft limit to the hard one: a stream is a descriptor, 1024 the usual limit."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _die_with_parent(server) -> None:  # type: ignore[no-untyped-def]
    """Have the kernel send TERM to this master when ``serve`` dies, even by KILL.

    Linux only (prctl); elsewhere a killed ``serve`` leaves the master alone.
    Source: prctl(2), PR_SET_PDEATHSIG = 1.
    """
    parent = os.environ.get("ASTRBOT_SERVE_PID", "")
    if not parent or not sys.platform.startswith("linux"):
        return
    import ctypes
    import signal

    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before the call
        server.log.info("astrbot-api serve has ended; stopping")
        raise SystemExit(1)

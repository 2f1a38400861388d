"""gunicorn's configuration for this server: settings, then hooks.

``serve`` and ``deploy/gunicorn.conf.py`` run this file by its path. It imports no module of
this package before a worker runs. If peewee were imported before the monkey patch, all
greenlets would share its thread-local connection, and their transactions would mix silently.
"""

from gevent import config as _config
from gevent import monkey as _monkey

# The greenlet tree is not used, and keeping it adds a third to a greenlet's start time.
_config.track_greenlet_tree = False
_patched_before = _monkey.is_module_patched("threading")
_monkey.patch_all()

import gc
import mmap
import os
import signal
import sys
import time
import uuid

if "peewee" in sys.modules and not _patched_before:
    raise SystemExit(
        "gunicorn_conf.py was loaded after peewee: all requests would share one database "
        "connection. Use: gunicorn -c deploy/gunicorn.conf.py"
    )


def _env_int(name: str, default: int) -> int:
    """Read an integer from the environment. Exit with one line if it is not valid."""
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise SystemExit(f"{name} must be a whole number of at least 1; got {text!r}")
    return int(text)


worker_class = "gevent"
#: Two, so that one serves requests while the other restarts.
workers = _env_int("WEB_CONCURRENCY", 2)
#: Every open stream is a connection.
worker_connections = 10_000
#: The newest C parser is not compatible with gunicorn 27, and gunicorn[fast] silently
#: installs gunicorn 26. An explicit parser avoids it.
http_parser = "python"
#: Seconds an idle connection stays open. It also delays a stopping worker, so it must stay
#: well below graceful_timeout.
keepalive = 5
#: Seconds without a heartbeat of the event loop before a worker is killed with all its
#: streams. It does not limit the duration of a request.
timeout = 60
#: Seconds until a stopping worker is killed. astrbot_api/server/stopping.py hands its turns
#: over to another worker before that.
graceful_timeout = _env_int("ASTRBOT_GRACEFUL_TIMEOUT_S", 30)
#: Proxy headers are not trusted here. ASTRBOT_PROXY_HOPS sets the trusted proxies.
forwarder_headers = ""
forwarded_allow_ips = ""
#: All servers of a user would share one control socket, and the second would replace it.
control_socket_disable = True
#: The application writes the access log itself. Its logging is configured in
#: post_worker_init: with a ``logconfig_dict``, gunicorn would format and discard its own
#: access log line for each request, at a tenth of its cost.
accesslog = None
if os.environ.get("ASTRBOT_LOG_FORMAT", "").strip() == "json":
    logger_class = "astrbot_api.server.json_log.JsonLogger"
#: Folder of the workers' heartbeat files, in memory: a slow disk must not get a worker
#: killed.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None

# sys.setswitchinterval stays at 5 ms. With the database's native thread, 1 ms and 0.5 ms
# differed by less than the noise (Source: measured, 32 clients, CPU and turns per second).


def on_starting(server):  # type: ignore[no-untyped-def]
    """Raise the limit of open files, and stop the master if ``serve`` dies."""
    os.environ["ASTRBOT_STARTED_AT"] = str(time.time())
    _raise_open_files()
    _die_with_parent(server)
    from astrbot_api.server.metrics_folder import make_metrics_folder

    make_metrics_folder(worker_tmp_dir)


def when_ready(server):  # type: ignore[no-untyped-def]
    """Check the configuration files before each reload."""
    from astrbot_api.server.reloading import guard_reload

    guard_reload(server)


def on_reload(server):  # type: ignore[no-untyped-def]
    """Record that this server has served. gunicorn has reloaded this file."""
    _has_served[0] = 1


def pre_fork(server, worker):  # type: ignore[no-untyped-def]
    """Choose the id of a worker's lease, so that the master knows it."""
    worker.lease_id = str(uuid.uuid4())


def post_fork(server, worker):  # type: ignore[no-untyped-def]
    """Adjust gunicorn's HTTP, and let a replacement worker retry failed startup.

    gunicorn stops the whole server if a worker cannot load the application. That is right at
    the first start. Later, a worker that restarts during a database outage must not stop all
    other workers.
    """
    from astrbot_api.server.heads import bound_heads, join_heads
    from astrbot_api.server.refusing import use_json_errors

    use_json_errors()
    bound_heads()
    join_heads()
    _map_large_blocks()
    load = worker.load_wsgi

    def load_or_leave() -> None:
        from gunicorn.errors import AppImportError

        try:
            from astrbot_api.server.log_output import set_up_logging

            set_up_logging(worker)
            load()
        except AppImportError:
            raise
        except Exception as error:
            if not _has_served[0]:
                raise
            worker.log.error("the worker cannot start yet: %s: %s", type(error).__name__, error)
            _pause_failed(worker)
            raise SystemExit(1) from error

    worker.load_wsgi = load_or_leave
    # Loading creates no garbage, and the collector would take a sixth of its time.
    gc.disable()


def post_worker_init(worker):  # type: ignore[no-untyped-def]
    """Configure logging, and start the watch that ends this worker's turns at a stop."""
    from astrbot_api.server.accepting import share_connections
    from astrbot_api.server.log_output import set_up_logging
    from astrbot_api.server.stopping import find_state, start_watch

    _has_served[0] = 1
    _failed_starts[0] = 0
    set_up_logging(worker)
    share_connections(worker, _connections)
    state = find_state(worker)
    if state is not None:
        state.worker.lease.prepare(getattr(worker, "lease_id", ""), _exited)
    start_watch(worker)
    # gunicorn looks a setting up in Python after an AttributeError, twenty times per request. As
    # attributes they cost a fifteenth (Source: measured with gunicorn 27).
    vars(worker.cfg).update({name: one.get() for name, one in worker.cfg.settings.items()})
    # Loaded objects are permanent. Freezing them spares the collector from scanning them.
    gc.collect()
    gc.freeze()
    # Turns create almost no cycles, so looking for them less often saves a thirtieth of the CPU
    # time (Source: measured, 32 clients).
    gc.set_threshold(20_000, 10, 10)
    gc.enable()
    if state is not None:
        state.start()


def post_request(worker, req, environ, resp):  # type: ignore[no-untyped-def]
    """Yield to other greenlets, and close connections of a stopping worker.

    A client that sends consecutive requests on one connection would otherwise keep the event
    loop busy and delay the streams. A stopping worker would also wait ``keepalive`` seconds
    for a further request on the connection of an ended stream.
    """
    from astrbot_api.runtime.threads import let_others_run

    if not worker.alive:
        req.force_close()
    let_others_run()


def child_exit(server, worker):  # type: ignore[no-untyped-def]
    """Remove a dead worker's connections, streams and turns from the counts.

    The worker that replaces it ends its lease, so that its turns continue at once.
    """
    _exited.append(getattr(worker, "lease_id", ""))
    del _exited[:-_MAX_EXITED]
    _connections[worker.age % len(_connections)] = 0
    try:
        from prometheus_client.multiprocess import mark_process_dead
    except ImportError:
        return
    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server):  # type: ignore[no-untyped-def]
    """Remove the metrics files of a server that has ended."""
    from astrbot_api.server.metrics_folder import remove_metrics_folder

    remove_metrics_folder()


def worker_int(worker):  # type: ignore[no-untyped-def]
    """Skip the waiting time for turns, on INT or QUIT."""
    from astrbot_api.server.stopping import stop_at_once

    stop_at_once(worker)


def worker_exit(server, worker):  # type: ignore[no-untyped-def]
    """Flush the worker's buffers and close its database."""
    from astrbot_api.server.stopping import close_app

    close_app(worker)


#: One byte shared by all workers. It becomes 1 when one of them has loaded the application.
_has_served = mmap.mmap(-1, 1)

#: One byte shared by all workers: how many have failed to start since the last one started.
_failed_starts = mmap.mmap(-1, 1)

#: Lease ids of the newest workers that have ended. A worker has the list of its fork.
_exited: list[str] = []
_MAX_EXITED = 64

#: The number of connections of each worker plus one, shared by all.
_connections = memoryview(mmap.mmap(-1, 64 * 4)).cast("I")

#: Pauses before a further start, in seconds. Each start imports the whole application.
_PAUSES_S = (1, 2, 4, 8, 15)


def _pause_failed(worker) -> None:  # type: ignore[no-untyped-def]
    """Wait longer after each failed start, unless the server stops or is reloaded."""
    count = min(_failed_starts[0], len(_PAUSES_S) - 1)
    _failed_starts[0] = count + 1
    until = time.monotonic() + _PAUSES_S[count]
    while worker.alive and time.monotonic() < until:
        time.sleep(0.1)


def _raise_open_files() -> None:
    """Raise the soft limit to the hard one. A stream needs a descriptor; 1024 is too few."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _map_large_blocks() -> None:
    """Let glibc map each block of 128 KiB or more, so that freed ones go back to the system.

    That is its default, too, until a first such block is freed. Then it keeps them: after ten
    answers of 5.5 MB a worker kept 370 MB instead of 113 (Source: measured).
    Source: mallopt(3), M_MMAP_THRESHOLD = -3.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl and macOS have none
    if mallopt is not None:
        mallopt(-3, 128 * 1024)


def _die_with_parent(server) -> None:  # type: ignore[no-untyped-def]
    """Let the kernel send TERM to this master when ``serve`` dies, even after KILL.

    Linux only (prctl). On other systems, a killed ``serve`` leaves the master running.
    Source: prctl(2), PR_SET_PDEATHSIG = 1.
    """
    parent = os.environ.get("ASTRBOT_SERVE_PID", "")
    if not parent or not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):  # serve died before the call
        server.log.info("astrbot-api serve has ended; stopping")
        raise SystemExit(1)

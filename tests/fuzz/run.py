"""What ``make fuzz`` runs: Schemathesis on the document that the server serves.

::

    python -m tests.fuzz.run [EXAMPLES] [further options of schemathesis run]

Every operation, with a key that may do everything, then without any. The
server is the real one, with two workers and the mock provider.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from astrbot_api.db.keys import PUBLIC_SCOPES

from ..servers import Server, create_key

ROOT = Path(__file__).parent

_CONFIG = 'name = "default"\n[provider]\ntype = "mock"\n[agent]\ntitles = false\n'

#: Examples of each operation, of what is valid and of what is not.
_EXAMPLES = "100"


def main(arguments: list[str]) -> int:
    """Fuzz; return 0 when nothing was found."""
    examples, *more = arguments or [_EXAMPLES]
    with tempfile.TemporaryDirectory(prefix="astrbot-fuzz-") as folder:
        data_dir = Path(folder)
        (data_dir / "configs").mkdir()
        (data_dir / "configs" / "default.toml").write_text(_CONFIG, encoding="utf-8")
        # Short waits, so that streams that never end by themselves do.
        with Server(data_dir, ASTRBOT_ACCESS_LOG="0", ASTRBOT_MAX_FILE_BYTES="100000") as server:
            key = create_key(data_dir, *PUBLIC_SCOPES)
            with_key = _run(server, [*more, "-n", examples, "-H", f"X-API-Key: {key}"])
            without_key = _run(server, [*more, "-n", "10"])
            log = server.read_log()
    faults = [line for line in log.splitlines() if "Traceback" in line or " failed" in line]
    for line in faults[:20]:
        print("server log:", line, file=sys.stderr)
    return with_key or without_key or (1 if faults else 0)


def _run(server: Server, options: list[str]) -> int:
    command = [
        *("schemathesis", "--config-file", str(ROOT / "schemathesis.toml"), "run"),
        *(f"{server.url}/api/v1/openapi.json", "--url", f"{server.url}/", *options),
    ]
    environ = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks"}
    return subprocess.run(command, check=False, env=environ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

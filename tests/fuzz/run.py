"""``make fuzz``: run Schemathesis on the server's OpenAPI document.

::

    python -m tests.fuzz.run [EXAMPLES] [further options of schemathesis run]

It tests every operation with a key that has all rights, then without a key. The server is real,
with two workers and the mock provider. The objects in the document's examples exist.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from astrbot_api.db.keys import PUBLIC_SCOPES

from ..servers import MOCK_CONFIG, Server, add_config, create_key

ROOT = Path(__file__).parent

#: Its messages cannot be delivered, and the signature of its events cannot be guessed.
_BOTS = """\
[[bot]]
id = "tg"
type = "webhook"
url = "http://127.0.0.1:9/"
secret = "a secret of sixteen"
"""

#: Disables limits for many requests from one address.
_ENVIRON = {
    "ASTRBOT_ACCESS_LOG": "0",
    "ASTRBOT_HEARTBEAT_S": "0.2",
    "ASTRBOT_MAX_STREAMS_PER_KEY": "1000",
    "ASTRBOT_MAX_RUNS_PER_KEY": "1000",
    "ASTRBOT_MAX_GROWTH_BYTES_PER_KEY": "0",
    "ASTRBOT_IM_WAIT_S": "0.2",
}

#: Number of valid and invalid examples per operation.
_EXAMPLES = "100"

#: Words of log lines that no request may cause.
_FAULTS = ("Traceback", " failed", "ERROR", "CRITICAL")


def main(arguments: list[str]) -> int:
    """Fuzz the server. Return 0 if no fault was found."""
    examples, *more = arguments or [_EXAMPLES]
    options = ["-n", examples, *more]
    with tempfile.TemporaryDirectory(prefix="astrbot-fuzz-") as folder:
        found = fuzz(Path(folder), options, options)
    print(found or "Nothing found, with a key and without.", flush=True)
    return 1 if found else 0


def fuzz(data_dir: Path, with_key: list[str], without_key: list[str]) -> str:
    """Fuzz a server with a key and without one, both at the same time.

    :param with_key: Options of ``schemathesis run``.
    :param without_key: The same, for the run without a key.
    :returns: The faults, or an empty text.
    """
    write_files(data_dir)
    with Server(data_dir, **_ENVIRON) as server:
        key = create_key(data_dir, *PUBLIC_SCOPES)
        make_examples_true(server, key)
        runs = [
            start_schemathesis(server, [*with_key, "-H", f"X-API-Key: {key}"], data_dir / "1.txt"),
            start_schemathesis(server, without_key, data_dir / "2.txt"),
        ]
        codes = [run.wait() for run in runs]
    words = [line for line in server.read_log().splitlines() if any(one in line for one in _FAULTS)]
    found = [f"server log: {line}" for line in words[:20]]
    for code, name in zip(codes, ("1.txt", "2.txt"), strict=True):
        if code:
            found.append((data_dir / name).read_text(encoding="utf-8", errors="replace"))
    return "\n".join(found)


def write_files(data_dir: Path) -> None:
    """Write a config and a bot."""
    add_config(data_dir, MOCK_CONFIG)
    (data_dir / "bots.toml").write_text(_BOTS, encoding="utf-8")


def make_examples_true(server: Server, key: str) -> None:
    """Create a turn, a file and a delivery with the ids of the document's examples."""
    document = server.request("GET", "/api/v1/openapi.json").json()
    server.chat(key, message="Hello", session_id="my_session_001")
    upload = server.request("POST", "/api/v1/file", key, fields={"file": ("a.txt", b"Hello")})
    umo = {"umo": "tg:FriendMessage:42", "message": "Hello"}
    sent = server.request("POST", "/api/v1/im/message", key, json=umo)
    assert (upload.status, sent.status) == (200, 202), (upload.data, sent.data)
    ids = {
        name: _find_example(document, name) for name in ("run_id", "attachment_id", "delivery_id")
    }
    database = sqlite3.connect(server.data_dir / "astrbot.db", timeout=10)
    with database:
        database.execute("UPDATE run SET run_id = ?, user_message = 42", (ids["run_id"],))
        database.execute("UPDATE attachment SET attachment_id = ?", (ids["attachment_id"],))
        database.execute("UPDATE delivery SET delivery_id = ?", (ids["delivery_id"],))
        # The bot's message follows the user's.
        database.execute("UPDATE message SET id = id + 41 WHERE sender_id = 'bot'")
        database.execute("UPDATE message SET id = 42 WHERE sender_id != 'bot'")
        database.execute("UPDATE run SET bot_message = bot_message + 41")
    database.close()


def _find_example(document: dict[str, Any], name: str) -> str:
    """Return the example of the parameter with this name."""
    for item in document["paths"].values():
        for parameter in item.get("parameters", ()):
            if parameter["name"] == name:
                return str(parameter["example"])
    raise LookupError(name)


def start_schemathesis(server: Server, options: list[str], out: Path) -> subprocess.Popen[bytes]:
    """Start Schemathesis on the server's document, with its output in a file.

    It has one worker, because Python 3.11 crashes when several compile at once.
    """
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file"),
        *(str(ROOT / "schemathesis.toml"), "run", f"{server.url}/api/v1/openapi.json"),
        *("--url", f"{server.url}/", *options),
    ]
    environ = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks"}
    with out.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

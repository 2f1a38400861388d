"""A data directory of an AstrBot, built from recorded rows.

Names of tables and columns that no recording shows are assumptions (see ``docs/migration.rst``).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RECORDINGS = Path(__file__).parent / "contract" / "recordings"

#: A salt in the format of ``secrets.token_hex(16)``.
SALT = "9f86d081884c7d659a2feaa0c55ad015"

KEY = "abk_ImportedKeyImportedKeyImportedKeyImportedKey1"

_SCHEMA = """
CREATE TABLE platform_sessions (
    inner_id INTEGER PRIMARY KEY AUTOINCREMENT, session_id VARCHAR(100) NOT NULL UNIQUE,
    platform_id VARCHAR(100), creator VARCHAR(255), display_name VARCHAR(255),
    is_group INTEGER, created_at DATETIME, updated_at DATETIME);
CREATE TABLE platform_message_history (
    id INTEGER NOT NULL, platform_id VARCHAR, user_id VARCHAR, sender_id VARCHAR,
    sender_name VARCHAR, content JSON, llm_checkpoint_id VARCHAR, created_at DATETIME,
    updated_at DATETIME, PRIMARY KEY (id));
CREATE TABLE attachments (
    inner_attachment_id INTEGER PRIMARY KEY, attachment_id VARCHAR(36) UNIQUE, path VARCHAR,
    type VARCHAR, mime_type VARCHAR, created_at DATETIME);
CREATE TABLE api_keys (
    inner_id INTEGER PRIMARY KEY, key_id VARCHAR(36) UNIQUE, name VARCHAR, key_hash VARCHAR,
    salt VARCHAR, key_prefix VARCHAR, scopes JSON, created_by VARCHAR, created_at DATETIME,
    updated_at DATETIME, last_used_at DATETIME, expires_at DATETIME, revoked_at DATETIME);
CREATE TABLE personas (id INTEGER PRIMARY KEY, persona_id VARCHAR, system_prompt TEXT);
CREATE TABLE preferences (id INTEGER PRIMARY KEY, scope VARCHAR, key VARCHAR, value JSON);
CREATE TABLE conversations (id INTEGER PRIMARY KEY, content JSON);
"""

_TIME = "2026-11-23 16:41:51.{:06d}"


@dataclass
class Recorded:
    """The stored rows of all recordings, each once, in their last state."""

    sessions: dict[str, list[Any]] = field(default_factory=dict)
    history: dict[int, list[Any]] = field(default_factory=dict)
    attachments: dict[str, list[Any]] = field(default_factory=dict)


def read_recorded() -> Recorded:
    """Collect the ``stored`` rows of the recordings."""
    found = Recorded()
    for path in sorted(RECORDINGS.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            for stored in json.loads(line).get("stored") or ():
                kind, _, row = stored.partition(": ")
                if kind == "session":
                    found.sessions[json.loads(row)[0]] = json.loads(row)
                elif kind == "history":
                    found.history[json.loads(row)[0]] = json.loads(row)
                elif kind == "attachment":
                    found.attachments[json.loads(row)[0]] = json.loads(row)
    return found


def hash_key(secret: str, salt: bytes = SALT.encode()) -> str:
    """Return a hash as in section 8 of the contract: PBKDF2, 100,000 rounds."""
    return hashlib.pbkdf2_hmac("sha256", secret.encode(), salt, 100_000).hex()


class AstrBotData:
    """Builder of a data directory.

    :param folder: Path of the new directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "attachments").mkdir(parents=True)
        (folder / "config").mkdir()
        self.db = sqlite3.connect(folder / "data_v4.db", isolation_level=None)
        self.db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database, like an AstrBot that is stopped."""
        self.db.close()

    def add_recorded(self, recorded: Recorded) -> None:
        """Write the recorded rows, and bytes for each attachment."""
        for at, row in enumerate(recorded.sessions.values()):
            self.add_session(*row, created_at=_TIME.format(at))
        for row in recorded.history.values():
            self.add_message(*row)
        for row in recorded.attachments.values():
            # The path on the recorded machine.
            path = row[1].replace("DATA/", "/AstrBot/data/")
            self.add_attachment(row[0], path, f"the bytes of {row[1]}".encode(), *row[2:])

    def add_session(
        self, session_id: str, platform: str = "webchat", creator: str | None = "alice",
        name: str | None = "Hello from mock.", is_group: int = 0,
        created_at: Any = "2026-11-23 16:41:51",
    ) -> None:  # fmt: skip
        """Add a session."""
        self._insert(
            "platform_sessions", None, session_id, platform, creator, name, is_group,
            created_at, _TIME.format(999_999),
        )  # fmt: skip

    def add_message(
        self, number: int, platform: str, session_id: str, sender_id: str, sender_name: str,
        content: str, checkpoint: str | None,
    ) -> None:  # fmt: skip
        """Add a message; its time is its number in microseconds."""
        self._insert(
            "platform_message_history", number, platform, session_id, sender_id, sender_name,
            content, checkpoint, _TIME.format(number), _TIME.format(number),
        )  # fmt: skip

    def say(self, number: int, session_id: str, sender: str, *parts: Any, **more: Any) -> None:
        """Add a message with these parts."""
        turn = more.pop("turn", None)
        kind = "bot" if sender == "bot" else "user"
        content = json.dumps({"type": kind, "message": list(parts), **more})
        self.add_message(number, "webchat", session_id, sender, sender, content, turn)

    def add_attachment(
        self, attachment_id: str, path: str, data: bytes | None, kind: str = "file",
        mime: str = "text/plain",
    ) -> None:  # fmt: skip
        """Add an attachment, and its file unless ``data`` is None."""
        if data is not None:
            (self.folder / "attachments" / path.rpartition("/")[2]).write_bytes(data)
        number = len(self.db.execute("SELECT 1 FROM attachments").fetchall())
        self._insert("attachments", number + 1, attachment_id, path, kind, mime, _TIME.format(0))

    def add_key(self, key_id: str, secret: str = KEY, **columns: Any) -> None:
        """Add an API key."""
        values = {
            "key_id": key_id, "name": f"key {key_id}", "key_hash": hash_key(secret), "salt": SALT,
            "key_prefix": secret[:12], "scopes": '["chat", "file", "im", "config"]',
            "created_by": "astrbot", "created_at": _TIME.format(1), **columns,
        }  # fmt: skip
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        sql = f"INSERT INTO api_keys ({names}) VALUES ({marks})"
        self.db.execute(sql, list(values.values()))

    def add_config(self, name: str, config: Any) -> None:
        """Write a JSON file with the byte order mark of Windows' editors."""
        text = json.dumps(config, ensure_ascii=False)
        (self.folder / name).write_text(text, encoding="utf-8-sig")

    def _insert(self, table: str, *values: Any) -> None:
        marks = ", ".join("?" * len(values))
        self.db.execute(f"INSERT INTO {table} VALUES ({marks})", values)

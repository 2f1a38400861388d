"""Imports API keys: names, scopes, times, and the hash until a key's first use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..db import imported
from ..db.audit import AuditEntry, write_audited
from ..db.imported import SourceKey
from ..db.keys import PUBLIC_SCOPES
from ..db.legacy_keys import LegacyKey
from ..db.store import Store
from ..keys.legacy import PREFIX_CHARS
from ..runtime.clock import now_us
from .hashes import StoredHash, UnreadableHash, guess_salts, read_hash, to_legacy
from .report import Tally
from .source import ImportFault, Source
from .values import read_flag, read_json_value, read_text, read_time

_HASHES = ("key_hash", "hash", "hashed_key", "api_key_hash", "digest")
_SALTS = ("salt", "key_salt", "hash_salt")
_ROUNDS = ("iterations", "rounds")
_OTHERS = (
    "name", "created_by", "created_at", "updated_at", "last_used_at", "expires_at", "revoked_at",
    "is_revoked",
)  # fmt: skip

_NO_SALT = (
    "its salt is not in the database; give --key-salt, or create a new key with "
    "`astrbot-api keys create`"
)


@dataclass
class KeyImport:
    """Imports keys.

    :param given_salt: Salt of every key that has none of its own.
    :param known_key: A plain-text key of that server, to detect how its hashes use the
        salts.
    """

    source: Source
    store: Store
    apply: bool
    tally: Tally
    given_salt: bytes | None = None
    known_key: str = ""

    def __post_init__(self) -> None:
        self._salt_use = ""
        self._table = self.source.find_table("key_prefix", ("key_id", "id"), "scopes", _HASHES)

    @property
    def tables(self) -> list[str]:
        """Names of the tables that are read."""
        return [self._table.name] if self._table else []

    def run(self) -> None:
        """Import, or report what would be imported.

        :raises ImportFault: if the known key matches none of the hashes.
        """
        table = self._table
        if table is None:
            self.tally.skip("there is no table with key_prefix, scopes and a hash")
            return
        columns = [
            table.find_column("key_id", "id"), "key_prefix", "scopes",
            *(table.find_column(*names) for names in (_HASHES, _SALTS, _ROUNDS)),
            *(table.find_column(name) for name in _OTHERS),
        ]  # fmt: skip
        if self.known_key:
            self._detect_salt_use(
                [row for page in self.source.read_rows(table, columns) for row in page]
            )
        for page in self.source.read_rows(table, columns):
            for row in page:
                self._import_row(row)

    def _import_row(self, row: tuple[Any, ...]) -> None:
        name = f"{read_text(row[2])}…"
        try:
            key = self._read(row)
        except ValueError as error:
            self.tally.skip(str(error), name)
            return
        with self.store.read() as db:
            item = imported.find_item(db, "key", key.key_id)
            here = imported.has_key(db, key.key_id)
        if item is not None and not here:
            self.tally.skip("it was imported before and has since been deleted here", name)
        elif item is not None:
            self.tally.count_present()
        elif here:
            self.tally.skip("a key with this id already exists here", name)
        elif not self.apply or self._add(key):
            self.tally.count_imported()
            if key.legacy is None:
                self.tally.note("it is revoked and stays revoked", name)

    def _add(self, key: SourceKey) -> bool:
        detail = f"{key.name} ({key.key_prefix}…): imported from AstrBot"
        entry = AuditEntry("key_created", "cli", subject=key.key_id, detail=detail)
        return write_audited(
            self.store,
            lambda db: imported.add_key(db, key),
            lambda added: entry if added else None,
        )

    def _read(self, row: tuple[Any, ...]) -> SourceKey:
        """Return a key in its stored form.

        :raises ValueError: with the reason why it cannot be imported.
        """
        (title, created_by, created, updated, used, expires, revoked, is_revoked) = row[7:]
        key_id, prefix = read_text(row[1]), read_text(row[2])
        if not 0 < len(key_id) <= 36:
            raise ValueError("its id is empty or longer than 36 characters")
        if len(prefix) != PREFIX_CHARS:
            raise ValueError(f"its prefix does not have {PREFIX_CHARS} characters")
        scopes = _read_scopes(row[3])
        if not scopes:
            raise ValueError(f"it has none of the scopes {', '.join(PUBLIC_SCOPES)}")
        now = now_us()
        expires_at, revoked_at = read_time(expires), read_time(revoked)
        if expires is not None and expires_at is None:
            raise ValueError("its expiry time is not valid")
        if revoked_at is None and (revoked is not None or read_flag(is_revoked)):
            revoked_at = now
        created_at = read_time(created) or now
        return SourceKey(
            key_id, read_text(title) or "Untitled API Key", prefix, scopes,
            read_text(created_by) or "astrbot", created_at, read_time(updated) or created_at,
            read_time(used), expires_at, revoked_at,
            None if revoked_at is not None else self._read_legacy(row, key_id, prefix),
        )  # fmt: skip

    def _read_legacy(self, row: tuple[Any, ...], key_id: str, prefix: str) -> LegacyKey:
        stored = self._read_hash(row)
        salts = stored.salts
        if self._salt_use:
            guesses = guess_salts(stored, key_id, prefix)
            salts = {self._salt_use: guesses[self._salt_use]} if self._salt_use in guesses else {}
        if not salts:
            raise UnreadableHash(_NO_SALT)
        return to_legacy(stored, key_id, prefix, salts)

    def _read_hash(self, row: tuple[Any, ...]) -> StoredHash:
        text, salt, rounds = row[4], row[5], row[6]
        # read_hash parses raw bytes in their hexadecimal form.
        text = text.hex() if isinstance(text, bytes) else read_text(text)
        salt = salt.hex() if isinstance(salt, bytes) else read_text(salt)
        number = rounds if isinstance(rounds, int) else None
        return read_hash(text, salt, number, self.given_salt)

    def _detect_salt_use(self, rows: list[tuple[Any, ...]]) -> None:
        """Detect with a known key how salts are used."""
        prefix = self.known_key[:PREFIX_CHARS]
        for row in rows:
            if read_text(row[2]) != prefix:
                continue
            try:
                stored = self._read_hash(row)
            except UnreadableHash:
                continue
            key_id = read_text(row[1])
            for use, salt in guess_salts(stored, key_id, prefix).items():
                if to_legacy(stored, key_id, prefix, {use: salt}).matches(self.known_key):
                    self._salt_use = use
                    self.tally.note(f"the known key matches with {use}", f"{prefix}…")
                    return
        raise ImportFault(
            "the known key (ASTRBOT_KNOWN_KEY) matches no hash of the database; check it, or give "
            "another --key-salt"
        )


def _read_scopes(value: Any) -> tuple[str, ...]:
    """Return the public scopes in a JSON list, or in text separated by commas or spaces."""
    try:
        loaded = read_json_value(value)
    except ValueError:
        loaded = read_text(value).replace(",", " ").split()
    if not isinstance(loaded, list):
        return ()
    return tuple(scope for scope in PUBLIC_SCOPES if scope in loaded)

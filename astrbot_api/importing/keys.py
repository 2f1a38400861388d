"""Imports API keys: names, scopes, times, and the hash until a key's first use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..db import imported
from ..db.audit import AuditEntry, write_audited
from ..db.imported import SourceKey
from ..db.keys import ADMIN_SCOPE, ALL_SCOPES
from ..db.legacy_keys import LegacyKey
from ..db.store import Store
from ..keys.legacy import PREFIX_CHARS
from ..runtime.clock import now_us
from .hashes import StoredHash, UnreadableHash, guess_salts, read_hash, to_legacy
from .report import Tally
from .source import ImportFault, Source, Table
from .values import read_flag, read_json_value, read_text, read_time

#: Imported scopes. ``chat:admin`` must be given to a key here.
_SCOPES = tuple(scope for scope in ALL_SCOPES if scope != ADMIN_SCOPE)

_HASHES = ("key_hash", "hash", "hashed_key", "api_key_hash", "digest")


#: Value of a row -> possible names of its column.
_COLUMNS = {
    "key_id": ("key_id", "id"), "prefix": ("key_prefix",), "scopes": ("scopes",), "hash": _HASHES,
    "salt": ("salt", "key_salt", "hash_salt"), "rounds": ("iterations", "rounds"),
    "name": ("name",), "created_by": ("created_by",), "created_at": ("created_at",),
    "updated_at": ("updated_at",), "last_used_at": ("last_used_at",),
    "expires_at": ("expires_at",), "revoked_at": ("revoked_at",), "is_revoked": ("is_revoked",),
}  # fmt: skip

#: A row of the table of keys. Its values are untrusted.
_Row = dict[str, Any]

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
        self.tables = [self._table]

    def run(self) -> None:
        """Import, or report what would be imported.

        :raises ImportFault: if the known key matches none of the hashes.
        """
        table = self._table
        if table is None:
            self.tally.skip("there is no table with key_prefix, scopes and a hash")
            return
        if self.known_key:
            self._detect_salt_use(self._iter_rows(table))
        for row in self._iter_rows(table):
            self._import_row(row)

    def _iter_rows(self, table: Table) -> Iterator[_Row]:
        columns = [table.find_column(*names) for names in _COLUMNS.values()]
        for page in self.source.read_rows(table, columns):
            for _, *values in page:
                yield dict(zip(_COLUMNS, values, strict=True))

    def _import_row(self, row: _Row) -> None:
        name = f"{read_text(row['prefix'])}…"
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

    def _read(self, row: _Row) -> SourceKey:
        """Return a key in its stored form.

        :raises ValueError: with the reason why it cannot be imported.
        """
        key_id, prefix = read_text(row["key_id"]), read_text(row["prefix"])
        if not 0 < len(key_id) <= 36:
            raise ValueError("its id is empty or longer than 36 characters")
        if len(prefix) != PREFIX_CHARS:
            raise ValueError(f"its prefix does not have {PREFIX_CHARS} characters")
        scopes = _read_scopes(row["scopes"])
        if not scopes:
            raise ValueError(f"it has none of the scopes {', '.join(_SCOPES)}")
        now = now_us()
        expires_at, revoked_at = read_time(row["expires_at"]), read_time(row["revoked_at"])
        if row["expires_at"] is not None and expires_at is None:
            raise ValueError("its expiry time is not valid")
        if revoked_at is None and (row["revoked_at"] is not None or read_flag(row["is_revoked"])):
            revoked_at = now
        created_at = read_time(row["created_at"]) or now
        return SourceKey(
            key_id=key_id,
            name=read_text(row["name"]) or "Untitled API Key",
            key_prefix=prefix,
            scopes=scopes,
            created_by=read_text(row["created_by"]) or "astrbot",
            created_at=created_at,
            updated_at=read_time(row["updated_at"]) or created_at,
            last_used_at=read_time(row["last_used_at"]),
            expires_at=expires_at,
            revoked_at=revoked_at,
            legacy=None if revoked_at is not None else self._read_legacy(row, key_id, prefix),
        )

    def _read_legacy(self, row: _Row, key_id: str, prefix: str) -> LegacyKey:
        stored = self._read_hash(row)
        salts = stored.salts
        if self._salt_use:
            guesses = guess_salts(stored, key_id, prefix)
            salts = {self._salt_use: guesses[self._salt_use]} if self._salt_use in guesses else {}
        if not salts:
            raise UnreadableHash(_NO_SALT)
        return to_legacy(stored, key_id, prefix, salts)

    def _read_hash(self, row: _Row) -> StoredHash:
        # read_hash parses raw bytes in their hexadecimal form.
        text = row["hash"].hex() if isinstance(row["hash"], bytes) else read_text(row["hash"])
        salt = row["salt"].hex() if isinstance(row["salt"], bytes) else read_text(row["salt"])
        rounds = row["rounds"] if isinstance(row["rounds"], int) else None
        return read_hash(text, salt, rounds, self.given_salt)

    def _detect_salt_use(self, rows: Iterable[_Row]) -> None:
        """Detect with a known key how salts are used."""
        prefix = self.known_key[:PREFIX_CHARS]
        for row in rows:
            if read_text(row["prefix"]) != prefix:
                continue
            try:
                stored = self._read_hash(row)
            except UnreadableHash:
                continue
            key_id = read_text(row["key_id"])
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
    """Return the known scopes in a JSON list, or in text separated by commas or spaces."""
    try:
        loaded = read_json_value(value)
    except ValueError:
        loaded = read_text(value).replace(",", " ").split()
    if not isinstance(loaded, list):
        return ()
    return tuple(scope for scope in _SCOPES if scope in loaded)

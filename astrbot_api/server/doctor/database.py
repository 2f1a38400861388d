"""Checks of the database for ``doctor``: its tables, connections, keys and quotas."""

from __future__ import annotations

import os
from collections.abc import Iterator

import peewee

from ...config.settings import Settings
from ...db import keys
from ...db.leases import find_skew_s
from ...db.migrating import NEWER_REMEDY, NEWER_TEXT
from ...db.store import Store
from ...db.stored import Stored, find_committed, list_by_key, sum_growth, sum_stored
from ...errors import StorageError
from ...worker.lease import SKEW_S
from . import Finding

#: Fraction of a quota above which it is reported.
_NEARLY_FULL = 0.8


def examine_database(settings: Settings, store: Store) -> Iterator[Finding]:
    """Check the state of the database, and this host's clock against it."""
    migrations = store.list_migrations()
    left = [name for name, state in migrations if state == "to do"]
    if newer := [name for name, state in migrations if state == "newer"]:
        yield Finding("database", "warn", f"{NEWER_TEXT}: {', '.join(newer)}", NEWER_REMEDY)
    if left:
        text = f"{len(left)} migrations are pending: {', '.join(left)}"
        yield Finding("database", "fail", text, "astrbot-api db upgrade")
    elif fault := store.describe_fault(store) or _find_damage(store):
        yield Finding("database", "fail", fault)
    else:
        yield Finding("database", "ok", f"{store.dialect}, up to date")
        with store.read() as db:
            skew_s = find_skew_s(db)
        if abs(skew_s) > SKEW_S:
            text = f"its clock and this host's differ by {abs(skew_s):.0f} s"
            yield Finding("clock", "warn", text, "synchronise the clocks (NTP)")
        if store.dialect == "postgres":
            yield from _examine_connections(settings, store)


def _examine_connections(settings: Settings, store: Store) -> Iterator[Finding]:
    """Compare the connections that the workers of this host may open with those that are allowed.

    Each worker has a pool, one for its lease, and without Redis one for the events of runs and two
    connections for signals.
    """
    from ...db.postgres_faults import count_allowed_connections

    with store.read() as db:
        allowed = count_allowed_connections(db)
    size, workers = settings.database_pool_size, int(os.environ.get("WEB_CONCURRENCY") or 2)
    needed = workers * (size + 2 + (0 if settings.redis_url else max(2, size // 4) + 2))
    if needed > allowed:
        text = f"PostgreSQL allows {allowed}, and {workers} workers may open {needed}"
        remedy = "raise max_connections, or lower ASTRBOT_DATABASE_POOL_SIZE"
        yield Finding("connections", "warn", text, remedy)


def _find_damage(store: Store) -> str:
    """Return how an SQLite file is damaged. A large one is only checked for some seconds."""
    if store.dialect != "sqlite":
        return ""
    try:
        found = store.read_aside(lambda db: db.execute_sql("PRAGMA quick_check(1)").fetchone()[0])
    except StorageError as error:
        if "interrupted" in error.operator_text:
            return ""
        raise
    words = " ".join(found.split())
    return "" if found == "ok" else f"it is damaged ({words}); stop the server and restore a backup"


def examine_keys(store: Store) -> Iterator[Finding]:
    """Count the keys. Without a valid one, nobody can use the server."""
    with store.read() as db:
        found = keys.list_keys(db)
    valid = [one for one in found if not one["is_revoked"] and not one["is_expired"]]
    if valid:
        yield Finding("keys", "ok", f"{len(valid)} valid of {len(found)}")
    else:
        yield Finding("keys", "warn", "no key is valid", "astrbot-api keys create NAME")


def examine_stored(settings: Settings, store: Store) -> Iterator[Finding]:
    """Report the amount of stored data, and quotas that are nearly full."""
    with store.read() as db:
        total = sum_stored(db)
        quotas = list(_list_quotas(settings, db, total))
    text = (
        f"{total.messages} messages, {total.sessions} sessions and {total.deliveries} deliveries "
        f"in {_to_mib(total.total_bytes)}, {total.files} files in {_to_mib(total.files_bytes)}"
    )
    full = [
        f"{name} is {used * 100 // limit} % full"
        for name, used, limit in quotas
        if limit and used >= limit * _NEARLY_FULL
    ]
    if full:
        remedy = "raise the quota, or delete sessions and files of the key"
        yield Finding("stored", "warn", f"{text}; {'; '.join(full[:5])}", remedy)
    else:
        yield Finding("stored", "ok", text)


def _list_quotas(
    settings: Settings, db: peewee.Database, total: Stored
) -> Iterator[tuple[str, int, int]]:
    """Yield each quota's name, its usage and its limit (0 if unlimited)."""
    yield "ASTRBOT_MAX_STORED_BYTES", total.total_bytes, settings.max_stored_bytes
    yield "ASTRBOT_MAX_ALL_FILE_BYTES", total.files_bytes, settings.max_all_file_bytes
    yield "ASTRBOT_MAX_GROWTH_BYTES", sum_growth(db).size_bytes, settings.max_growth_bytes
    found = list_by_key(db)
    for key in keys.list_keys(db):
        one, rules = found.get(key["key_id"], Stored()), key.get("rules", {})
        for rule, used, name, default in (
            ("stored_bytes", one.total_bytes, "STORED_BYTES", settings.max_stored_bytes_per_key),
            ("sessions", one.sessions, "SESSIONS", settings.max_sessions_per_key),
            ("upload_bytes", one.files_bytes, "BYTES", settings.max_bytes_per_key),
            (
                "growth_bytes", find_committed(db, key["key_id"]).growth.size_bytes, "GROWTH_BYTES",
                settings.max_growth_bytes_per_key,
            ),
        ):  # fmt: skip
            name = f"rule {rule}" if rule in rules else f"ASTRBOT_MAX_{name}_PER_KEY"
            yield f"{name} of the key {key['name']}", used, rules.get(rule, default)


def _to_mib(size_bytes: int) -> str:
    return f"{size_bytes // 1024 // 1024} MiB"

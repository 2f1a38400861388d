"""Where the migrations are."""

from __future__ import annotations

from pathlib import Path

#: One file each, numbered, written as SQLite reads it; for PostgreSQL the
#: types are translated (see :func:`astrbot_api.db.dialect.ddl_to_postgres`).
MIGRATIONS = Path(__file__).parent / "migrations"

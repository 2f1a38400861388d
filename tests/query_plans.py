"""Query plans of prepared statements in SQLite."""

from __future__ import annotations

import peewee

from astrbot_api.db.prepared import Prepared


def explain(db: peewee.Database, statement: Prepared) -> list[str]:
    """Return the steps of a statement's plan, which do not depend on its values."""
    sql = statement.sql(db)
    rows = db.execute_sql(f"EXPLAIN QUERY PLAN {sql}", [1] * sql.count("?")).fetchall()
    return [str(row[3]) for row in rows]

"""Add checkpoints, so that another worker can resume a run."""

import peewee

from astrbot_api.db.models import is_postgres
from astrbot_api.db.models.runs import RunCheckpoint, RunEventEpoch


def up(migrator, db):
    db.execute_sql("ALTER TABLE run ADD COLUMN request TEXT")
    for column in ("pickups", "epoch"):
        db.execute_sql(f"ALTER TABLE run ADD COLUMN {column} BIGINT NOT NULL DEFAULT 0")
    for model in (RunCheckpoint, *([RunEventEpoch] if is_postgres(db) else [])):
        peewee.SchemaManager(model, db).create_all(safe=False)

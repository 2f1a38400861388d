"""What it takes for runs to be found, stopped and recovered from any worker."""

_STATEMENTS = """
ALTER TABLE run ADD COLUMN llm_checkpoint_id VARCHAR(36);
ALTER TABLE run ADD COLUMN stop_requested_at BIGINT;
CREATE INDEX run_stop ON run (worker_id)
    WHERE stop_requested_at IS NOT NULL AND status IN ('queued', 'running');
CREATE INDEX run_key ON run (key_id) WHERE status IN ('queued', 'running');
CREATE INDEX run_worker ON run (worker_id, id);
ALTER TABLE message ADD COLUMN pushed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX message_pushed ON message (id) WHERE pushed = 1;
CREATE INDEX message_pushed_session ON message (session, id) WHERE pushed = 1
"""


def up(migrator, db):
    for statement in _STATEMENTS.split(";"):
        db.execute_sql(statement)

"""Count the data of turns that wait for a person for their keys."""


def up(migrator, db):
    # Taking over a development version adds the missing columns.
    if "payer" not in {column.name for column in db.get_columns("run_approval")}:
        db.execute_sql("ALTER TABLE run_approval ADD COLUMN payer TEXT")
        db.execute_sql("ALTER TABLE run_approval ADD COLUMN size_bytes BIGINT NOT NULL DEFAULT 0")

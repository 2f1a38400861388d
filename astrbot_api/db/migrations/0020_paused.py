"""Responses that ended with a question for a person's approval."""


def up(migrator, db):
    # 0007 makes the table as the models have it today.
    if "paused" not in {column.name for column in db.get_columns("response")}:
        db.execute_sql("ALTER TABLE response ADD COLUMN paused TEXT")

"""Add tool calls that need a person's approval."""

import peewee

from astrbot_api.db.models.runs import Run, RunApproval


def up(migrator, db):
    peewee.SchemaManager(RunApproval, db).create_all(safe=False)
    for index in Run._meta.fields_to_index():
        if index._name == "run_waiting":
            db.execute(index)

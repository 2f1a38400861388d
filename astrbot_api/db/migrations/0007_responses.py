"""Add responses and conversations of the OpenAI API."""

import peewee

from astrbot_api.db.models.runs import ResponseConversation, StoredResponse


def up(migrator, db):
    for model in (StoredResponse, ResponseConversation):
        peewee.SchemaManager(model, db).create_all(safe=False)

"""``remember`` and ``recall``: short notes about each user, shared by all sessions."""

from __future__ import annotations

import marshmallow as ma
import peewee

from ...agent.schema import tool
from ...agent.tools import Tool, ToolContext
from ...db import memory
from ...errors import ApiError, ToolError
from ..context import Host
from ..hookspecs import hookimpl


class NotesSettings(ma.Schema):
    """``[plugins.notes]``: limits on the number of a user's notes, their names and texts."""

    max_notes = ma.fields.Integer(load_default=100, validate=ma.validate.Range(0, 10_000))
    max_key_chars = ma.fields.Integer(load_default=64, validate=ma.validate.Range(1, 255))
    max_value_chars = ma.fields.Integer(load_default=1000, validate=ma.validate.Range(1, 100_000))


class Notes:
    """Stores notes by username."""

    name = "notes"
    settings_schema = NotesSettings

    @hookimpl
    def startup(self, host: Host) -> None:
        """Keep the database."""
        self._store = host.store
        self._check_room = host.check_room

    @hookimpl
    def register_tools(self) -> list[Tool]:
        return [tool(retry="safe")(one) for one in (self.remember, self.recall)]

    def remember(self, context: ToolContext, key: str, value: str) -> str:
        """Keep a note about the user for later conversations.

        :param key: Short name of the note, such as birthday. An existing note is replaced.
        :param value: Text of the note, or empty to delete the note.
        """
        key = " ".join(key.split())
        for name, text, limit in (
            ("key", key, context.settings["max_key_chars"]),
            ("value", value, context.settings["max_value_chars"]),
        ):
            if len(text) > limit:
                raise ToolError(f"{name} must have at most {limit} characters")
        if not key:
            raise ToolError("key must not be empty")
        if not value.strip():
            gone = self._store.write(lambda db: memory.delete_note(db, context.username, key))
            return f"Deleted: {key}" if gone else f"There is no note named {key}."
        limit = context.settings["max_notes"]

        def save(db: peewee.Database) -> bool:
            kept = memory.save_note(
                db, context.username, key, value, max_notes=limit, payer=context.payer
            )
            self._check_room(db, context.payer)
            return kept

        try:
            kept = self._store.write(save)
        except ApiError as error:
            raise ToolError(str(error)) from error
        if not kept:
            raise ToolError(f"{limit} notes are stored, the maximum; delete one first")
        return f"Kept: {key}"

    def recall(self, context: ToolContext, key: str = "") -> str:
        """Read the notes that were kept about the user.

        :param key: Name of one note, or empty for all notes.
        """
        with self._store.read() as db:
            found = memory.list_notes(db, context.username, " ".join(key.split()))
        if not found:
            return f"There is no note named {key}." if key else "There are no notes."
        return "\n".join(f"{name}: {value}" for name, value in found)

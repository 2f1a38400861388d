"""The application of ``steps_app.py`` with short waits for PostgreSQL."""

from __future__ import annotations

from flask import Flask

from astrbot_api.db import postgres_store
from astrbot_api.db.postgres_connection import Connection

from ..steps_app import create_steps_app


def create_hasty_app() -> Flask:
    """Return the application."""
    Connection.limit_s = 2.0
    postgres_store.PATIENCE_S = 1.0
    return create_steps_app()

"""Fixtures for tests of database rows and of messengers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from astrbot_api.config.settings import Settings
from astrbot_api.db.store import Store, open_store
from astrbot_api.im.adapter import Adapter

from ..im_platforms import Outbox
from ..postgres import Postgres


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store, with each database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'test.db'}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.create_database()
    made = open_store(Settings(database_url=url))
    made.upgrade()
    yield made
    made.close()


@pytest.fixture
def outbox(adapter: Adapter) -> Outbox:
    """Sends with the adapter of the test's module."""
    return Outbox(adapter)

"""State of the contract's servers. ``make deploy-check`` selects it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

#: ``shared``: PostgreSQL, Redis and S3, as for several hosts.
STATE_VARIABLE = "ASTRBOT_TEST_STATE"


@pytest.fixture(scope="module", autouse=True)
def _shared_state(request: pytest.FixtureRequest, module_dir: Path) -> Iterator[None]:
    """Set the variables of a shared state, if it is selected."""
    if os.environ.get(STATE_VARIABLE) != "shared":
        yield
        return
    world = uuid.uuid4().hex[:12]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "ASTRBOT_DATABASE_URL": request.getfixturevalue("postgres").create_database(),
            "ASTRBOT_REDIS_URL": request.getfixturevalue("redis_server").url,
            "ASTRBOT_REDIS_PREFIX": f"test-{world}",
            "ASTRBOT_STORAGE_URL": f"s3://attachments/{world}",
            **request.getfixturevalue("s3_environ"),
        }.items():
            patch.setenv(name, value)
        yield
    assert not (module_dir / "astrbot.db").exists()

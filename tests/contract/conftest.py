"""Where the contract's servers keep their state: ``make deploy-check`` says so."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

#: ``shared``: as on several hosts, PostgreSQL, Redis and S3.
STATE_VARIABLE = "ASTRBOT_TEST_STATE"


@pytest.fixture(scope="session")
def s3_url() -> Iterator[dict[str, str]]:
    """The variables that lead to an S3 of the tests' own, with one bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    client = boto3.client(
        "s3", endpoint_url=variables["AWS_ENDPOINT_URL"], region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    client.create_bucket(Bucket="attachments")
    client.close()
    yield variables
    server.stop()


@pytest.fixture(scope="module", autouse=True)
def _shared_state(request: pytest.FixtureRequest, module_dir: Path) -> Iterator[None]:
    """Set the variables of a state that several hosts could share, where it is asked for."""
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
            **request.getfixturevalue("s3_url"),
        }.items():
            patch.setenv(name, value)
        yield
    assert not (module_dir / "astrbot.db").exists()

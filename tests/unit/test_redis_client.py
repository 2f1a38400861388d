"""URLs of Redis that its client cannot use are refused before the first command."""

from __future__ import annotations

import pytest

from astrbot_api.errors import SettingsError
from astrbot_api.runtime.redis_client import open_redis

pytest.importorskip("redis")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("ssl_ca_cert=/ca.pem", "'ssl_ca_cert'"),
        ("ssl_cert_reqs=never", "never"),
        ("ssl=1", "'ssl'"),
        ("protocol=3&cache_config=x", "str"),
    ],
)
def test_a_wrong_option_of_the_url_is_named(options: str, named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_redis(f"rediss://:SECRET@127.0.0.1:1/0?{options}")
    text = str(caught.value)
    assert text.startswith("ASTRBOT_REDIS_URL has an option that its client rejects: ")
    assert named in text
    assert "SECRET" not in text

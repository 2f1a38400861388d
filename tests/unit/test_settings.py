"""Settings: three sources, and one clear line for an invalid value."""

from __future__ import annotations

import pytest

from astrbot_api import SettingsError
from astrbot_api.config.loading import load_settings


def test_code_wins_over_flask_over_the_environment_over_the_default() -> None:
    environ = {"ASTRBOT_HEARTBEAT_S": "2", "ASTRBOT_PROXY_HOPS": "2"}
    config = {"ASTRBOT_HEARTBEAT_S": 3, "ASTRBOT_MAX_SEGMENTS": "7"}
    settings = load_settings({"heartbeat_s": 4}, config, environ)
    assert settings.heartbeat_s == 4
    assert settings.max_segments == 7
    assert settings.proxy_hops == 2
    assert settings.max_username_chars == 255


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"ASTRBOT_HEARTBEAT_S": "soon"}, "ASTRBOT_HEARTBEAT_S must be a number; got 'soon'"),
        ({"ASTRBOT_MAX_BLOCKING_S": "inf"}, "ASTRBOT_MAX_BLOCKING_S must be a number"),
        ({"ASTRBOT_MAX_SEGMENTS": "1e3"}, "ASTRBOT_MAX_SEGMENTS must be a whole number; got '1e3'"),
        ({"ASTRBOT_HEARTBEAT_S": "0"}, "ASTRBOT_HEARTBEAT_S must be at least 0.05; got 0.0"),
        ({"ASTRBOT_PROXY_HOPS": "11"}, "ASTRBOT_PROXY_HOPS must be at most 10; got 11"),
        ({"ASTRBOT_LEGACY_ERROR_STATUS": "perhaps"}, "ASTRBOT_LEGACY_ERROR_STATUS must be true or"),
        ({"ASTRBOT_URL_PREFIX": "bot"}, "ASTRBOT_URL_PREFIX must begin with a slash"),
        ({"ASTRBOT_URL_PREFIX": "/bot/"}, "ASTRBOT_URL_PREFIX must begin with a slash"),
        ({"ASTRBOT_DATABASE_URL": "mysql://u:pw@h/d"}, "got the scheme 'mysql'"),
        ({"ASTRBOT_DATABASE_URL": "postgresql://u:pw@pw@h/d"}, "in the password as %40 %2F %3F"),
        ({"ASTRBOT_REDIS_URL": "u:pw@h"}, "ASTRBOT_REDIS_URL must be redis://"),
        ({"ASTRBOT_REDIS_URL": "redis://h/name"}, "HOST[:PORT]/NUMBER"),
        ({"ASTRBOT_REDIS_URL": "redis://u:pw@pw/pw@h"}, "in the password as %40 %2F %3F"),
        ({"ASTRBOT_ADMIN_PASSWORD": "pw://1"}, "ASTRBOT_ADMIN_PASSWORD must have at least 8"),
        ({"ASTRBOT_SECRET_KEY": "pw" * 15}, "ASTRBOT_SECRET_KEY must have at least 32"),
        ({"ASTRBOT_OWNER_ACCESS": ""}, "ASTRBOT_OWNER_ACCESS must be pages, api or off; got ''"),
        ({"ASTRBOT_CORS_ORIGINS": "*,https://h/p"}, "or *; got 'https://h/p'"),
        ({"ASTRBOT_ALLOWED_FILE_TYPES": "image,exe"}, "and file; got 'exe'"),
        ({"ASTRBOT_STORAGE_URL": "s3:///x"}, "ASTRBOT_STORAGE_URL must be s3://BUCKET/PREFIX"),
        (
            {"ASTRBOT_STORAGE_URL": "s3://b", "ASTRBOT_ACCEL_REDIRECT_PREFIX": "/f/"},
            "ASTRBOT_ACCEL_REDIRECT_PREFIX only works with attachments in the data directory",
        ),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=environ)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_variable_of_compose_is_not_set(empty: str) -> None:
    names = ("HEARTBEAT_S", "MAX_SEGMENTS", "METRICS", "DATA_DIR")
    environ = {f"ASTRBOT_{name}": empty for name in names}
    assert load_settings(environ=environ) == load_settings(environ={})
    assert load_settings(environ={"ASTRBOT_ADMIN_NAMES": empty}).admin_names == []


def test_a_line_break_after_a_variable_is_no_part_of_it() -> None:
    environ = {"ASTRBOT_METRICS_TOKEN": "token\n", "ASTRBOT_DATABASE_URL": " postgresql://h/d\r\n"}
    settings = load_settings(environ=environ)
    assert (settings.metrics_token, settings.database_url) == ("token", "postgresql://h/d")


def test_an_unknown_setting_in_code_is_refused() -> None:
    with pytest.raises(SettingsError, match="unknown setting: hartbeat_s"):
        load_settings({"hartbeat_s": 1})


def test_a_list_is_read_from_text() -> None:
    settings = load_settings(environ={"ASTRBOT_ADMIN_NAMES": "root, admin ,"})
    assert settings.admin_names == ["root", "admin"]


def test_no_secret_is_shown() -> None:
    settings = load_settings(
        environ={
            "ASTRBOT_DATABASE_URL": "postgresql://u:hidden@h/d",
            "ASTRBOT_REDIS_URL": "redis://:hidden@h",
            "ASTRBOT_METRICS_TOKEN": "hidden",
        }
    )
    assert "hidden" not in repr(settings)

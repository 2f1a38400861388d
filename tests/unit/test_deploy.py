"""The files of ``deploy/`` agree with each other and with the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from astrbot_api.config.loading import load_settings
from astrbot_api.config.settings import Settings

from ..servers import ROOT

DEPLOY = ROOT / "deploy"

#: Variables of the site and of gunicorn's configuration.
NOT_SETTINGS = re.compile(r"ASTRBOT_(SITE_\w+|GRACEFUL_TIMEOUT_S)$")


def variables(text: str) -> dict[str, str]:
    """Return the variables of an environment file, including those commented out."""
    return dict(re.findall(r"(?m)^#?([A-Z][A-Z0-9_]+)=(.*)$", text))


def read(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def test_every_variable_that_deploy_sets_is_a_setting() -> None:
    known = {f"ASTRBOT_{name.upper()}" for name in Settings.__dataclass_fields__}
    compose = yaml.safe_load(read("compose/compose.yaml"))
    named = set(variables(read("astrbot-api.env"))) | set(compose["x-app"]["environment"])
    ours = {one for one in named if one.startswith("ASTRBOT_") and not NOT_SETTINGS.match(one)}
    assert ours - known == set()


def test_the_environment_file_is_accepted() -> None:
    active = variables(read("astrbot-api.env").replace("\n#", "\n# "))
    settings = load_settings(environ=active)
    values = {name: active[f"ASTRBOT_{name.upper()}"] for name in ("data_dir", "proxy_hops")}
    assert {name: str(getattr(settings, name)) for name in values} == values
    assert settings.proxy_hops != Settings().proxy_hops, "the file is read"


def test_site_and_server_agree() -> None:
    site, server = variables(read("nginx/site.env")), variables(read("astrbot-api.env"))
    assert site["ASTRBOT_ACCEL_REDIRECT_PREFIX"] == server["ASTRBOT_ACCEL_REDIRECT_PREFIX"]
    assert site["ASTRBOT_SITE_FILES"] == f"{server['ASTRBOT_DATA_DIR']}/files/"
    limit_mib = int(site["ASTRBOT_SITE_MAX_UPLOAD"].removesuffix("m"))
    assert limit_mib * 1024 * 1024 > int(server["ASTRBOT_MAX_FILE_BYTES"])
    socket = read("systemd/astrbot-api.socket")
    listens = re.search(r"ListenStream=(.*)", socket)
    assert listens
    assert f"unix:{listens[1]} " in site["ASTRBOT_SITE_UPSTREAM"]


def test_the_template_uses_exactly_the_variables_of_the_site() -> None:
    used = set(re.findall(r"\$\{(\w+)\}", read("nginx/astrbot-api.conf.template")))
    assert used == set(variables(read("nginx/site.env")))
    compose = yaml.safe_load(read("compose/compose.yaml"))
    assert used <= set(compose["services"]["nginx"]["environment"])


def test_the_containers_end_later_than_their_turns() -> None:
    app = yaml.safe_load(read("compose/compose.yaml"))["x-app"]
    turns_s = int(app["environment"]["ASTRBOT_GRACEFUL_TIMEOUT_S"])
    assert int(app["stop_grace_period"].removesuffix("s")) > turns_s
    unit = dict(re.findall(r"(?m)^(\w+)=(.*)$", read("systemd/astrbot-api.service")))
    turns_s = int(variables(read("astrbot-api.env"))["ASTRBOT_GRACEFUL_TIMEOUT_S"])
    assert int(unit["TimeoutStopSec"]) > turns_s


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze on this machine")
    units = sorted((DEPLOY / "systemd").iterdir())
    done = subprocess.run(
        [analyze, "verify", "--man=no", *map(str, units)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    # The unit's program is not installed.
    faults = [line for line in done.stderr.splitlines() if "not executable" not in line]
    assert [line for line in faults if "astrbot-api" in line] == []
